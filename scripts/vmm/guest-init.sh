#!/bin/busybox sh
# /init of the guest: finds its NVMe namespace, writes, reads back, resets, rebinds, and says on the console what it saw,
# a line each: "guest: ok WHAT", "guest: not ok WHAT", "guest: note WHAT". scripts/vmm/console.ts reads these.
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp

say() { echo "guest: $*"; }
# check WHAT COMMAND...: runs the command, and says whether it succeeded.
check() {
	what=$1
	shift
	if "$@"; then say "ok $what"; else
		say "not ok $what"
		failed=1
	fi
}
# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
	left=$(($1 * 10))
	shift
	while ! "$@" 2>/dev/null; do
		[ $left -gt 0 ] || return 1
		left=$((left - 1))
		sleep 0.1
	done
}
seconds() { cut -d' ' -f1 /proc/uptime; }

MIB=$(sed -n 's/.*uiommufd.mib=\([0-9]*\).*/\1/p' /proc/cmdline)
MIB=${MIB:-64}
failed=0
say "note Linux $(uname -r) on $(uname -m), up after $(seconds) s"
for module in $(cat /modules/order); do insmod "/modules/$module" || say "note insmod $module failed"; done

# uiommufd.boot=N: nothing but finding N functions, to see how long that takes.
BOOT=$(sed -n 's/.*uiommufd.boot=\([0-9]*\).*/\1/p' /proc/cmdline)
disks() { [ "$(ls /sys/block | grep -c nvme)" -ge "$BOOT" ]; }
if [ -n "$BOOT" ]; then
	check "$BOOT functions have a namespace" wait_for 20 disks
	say "done, all ok"
	poweroff -f
fi

live() { grep -q live "/sys/class/nvme/$1/state"; }
# sum_of FILE MIB [dd arguments]: of its first MiB.
sum_of() { dd if="$1" bs=128k count=$(($2 * 8)) $3 2>/dev/null | md5sum; }
# same DISK MIB: the first MiB of the disk are those of the pattern. (cmp takes much longer in an emulator.)
same() { [ "$(sum_of "/dev/$1" "$2" iflag=direct)" = "$(sum_of /tmp/pattern "$2")" ]; }
write() { dd if=/tmp/pattern of="/dev/$1" bs=128k oflag=direct conv=fsync 2>/dev/null; }

# exercise CONTROLLER: all that this guest does with one function.
exercise() {
	controller=$1
	disk=${controller}n1
	bdf=$(basename "$(readlink -f "/sys/class/nvme/$controller/device")")
	check "$bdf has a namespace, /dev/$disk" wait_for 20 test -b "/dev/$disk" || return
	domain=$(cat "/sys/bus/pci/devices/$bdf/iommu_group/type" 2>/dev/null)
	say "note $bdf is in ${domain:-no} domain of the guest, $(cat "/sys/block/$disk/size") sectors of 512 bytes"
	before=$(seconds)
	check "$bdf $MIB MiB written" write "$disk"
	check "$bdf $MIB MiB read back equal" same "$disk" "$MIB"
	say "note $bdf took from $before s to $(seconds) s of the guest's clock"
	echo 1 >"/sys/class/nvme/$controller/reset_controller"
	check "$bdf is live after a controller reset" wait_for 20 live "$controller"
	check "$bdf reads the same after the reset" same "$disk" 4
	echo "$bdf" >/sys/bus/pci/drivers/nvme/unbind
	check "$bdf is gone after unbind" test ! -e "/sys/class/nvme/$controller"
	echo "$bdf" >/sys/bus/pci/drivers/nvme/bind
	check "$bdf is live after bind" wait_for 20 live "$controller"
	check "$bdf has its namespace again" wait_for 20 test -b "/dev/$disk"
	check "$bdf reads the same after unbind and bind" same "$disk" 4
}

# register ADDRESS VALUE [WIDTH]: writes a device register.
register() { devmem "$1" "${3:-32}" "$2"; }
# fault BDF: makes a function without a driver fetch a command from where its guest has mapped nothing.
fault() {
	device=/sys/bus/pci/devices/$1
	base=$(cut -d' ' -f1 "$device/resource" | head -n 1)
	echo 1 >"$device/enable"
	# Memory space and bus mastering, in the command register.
	printf '\006\000' | dd of="$device/config" bs=1 seek=4 conv=notrunc 2>/dev/null
	register $((base + 0x14)) 0 && sleep 0.1
	register $((base + 0x24)) 0x000f000f
	register $((base + 0x28)) 0x5ead0000 && register $((base + 0x2c)) 0
	register $((base + 0x30)) 0x5eae0000 && register $((base + 0x34)) 0
	register $((base + 0x14)) 0x00460001 && sleep 0.1
	register $((base + 0x1000)) 1
}
# Where the guest's SMMUs have their registers, and which interrupts of the GIC say that their event queues have grown.
smmus() { sed -n 's/^ *\([0-9a-f]*\)-[0-9a-f]*ffff : arm-smmu-v3.*/0x\1/p' /proc/iomem; }
event_interrupts() { sed -n 's/.*GICv3 *\([0-9]*\) .*arm-smmu-v3-evtq.*/\1/p' /proc/interrupts; }
# The VMM under test forwards an event from a thread that may not raise interrupts when CPUs are emulated (it aborts). So
# the vSMMU is told to raise none, and the guest pulls the interrupt by itself when the record is in its queue.
hush_events() { for smmu in $(smmus); do register $((smmu + 0x50)) 1; done; }
pull_events() {
	distributor=0x$(sed -n 's/^\([0-9a-f]*\)-.* : GICD.*/\1/p' /proc/iomem)
	for n in $(event_interrupts); do register $((distributor + 0x200 + n / 32 * 4)) $((1 << (n % 32))); done
}
# An event record of the SMMU in the log: StreamID 0xf800 and so on in the upper half of its first doubleword.
logged() { dmesg | grep -q -i "0x0000${1}00000010"; }

# uiommufd.cmdqv=N: N SMMUs have virtual command queues, which this kernel took.
CMDQV=$(sed -n 's/.*uiommufd.cmdqv=\([0-9]*\).*/\1/p' /proc/cmdline)
companions() { dmesg | grep -c 'found companion CMDQV device'; }
# Each CPU has a queue of its own in each SMMU: from here on, the second one does all the work.
second_cpu() {
	echo 1 >/sys/devices/system/cpu/cpu1/online || return
	for irq in $(sed -n 's/^ *\([0-9]*\):.*nvme.*/\1/p' /proc/interrupts); do echo 2 >"/proc/irq/$irq/smp_affinity"; done
	taskset -p 2 $$ >/dev/null
}
queues_worked() { ! dmesg | grep -E -q 'standard SMMU CMDQ|(VCMDQ|VINTF|CMDQV).*fail|unexpected error reported|CMD_SYNC timeout|CMDQ error'; }

dd if=/dev/urandom of=/tmp/pattern bs=1M count="$MIB" 2>/dev/null
check "an NVMe controller is there" wait_for 20 live nvme0
for path in /sys/class/nvme/nvme*; do [ -e "$path" ] && exercise "$(basename "$path")"; done
if [ -n "$CMDQV" ]; then
	check "$CMDQV SMMUs have virtual command queues" test "$(companions)" = "$CMDQV"
	check "the second CPU is there" second_cpu
	for path in /sys/block/nvme*; do check "$(basename "$path") reads the same from there" same "$(basename "$path")" 4; done
fi
if grep -q uiommufd.fault /proc/cmdline; then
	bdf=$(basename "$(readlink -f /sys/class/nvme/nvme0/device)")
	stream=$(echo "$bdf" | sed 's/.*:\(..\):00\.0$/\100/')
	echo "$bdf" >/sys/bus/pci/drivers/nvme/unbind
	hush_events
	fault "$bdf"
	sleep 1
	pull_events
	check "a fault of $bdf is in the guest's log under StreamID 0x$stream" wait_for 10 logged "$stream"
fi
[ -z "$CMDQV" ] || check "no command queue failed or was in error" queues_worked
grep -i nvme /proc/interrupts | while read -r line; do say "note interrupts $line"; done
dmesg | grep -E 'arm-smmu-v3.*(event|0x)|CMDQ|nvme.*(timeout|abort)|BUG:|Oops|Call [Tt]race' | while read -r line; do say "note dmesg $line"; done
if [ "$failed" = 0 ]; then say "done, all ok"; else say "done, with failures"; fi
poweroff -f
