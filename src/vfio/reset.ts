/** RESET and the hot reset pair. A hot reset goes over the bus, so it hits every device there. */
import { fail } from '../abi/errno.ts';
import {
  PciDependentDevice,
  PciHotReset,
  PciHotResetInfo,
  VFIO_PCI_DEVID_OWNED,
  VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
  VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED,
} from '../abi/vfio.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import { PMCSR_POWER_STATE } from '../hardware/pci/spec/config-space.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import type { VfioGroup } from './group.ts';
import { VfioGroupFile } from './group-file.ts';
import { resetFunction } from './pci-core.ts';

/** VFIO_PCI_DEVID_NOT_OWNED as the u32 that the struct holds. */
const NOT_OWNED = 0xffff_ffff;

export function reset({ fn }: VfioDevice, { exportedBars, config }: Binding): void {
  exportedBars.setAvailable(false);
  resetPowered(fn);
  exportedBars.setAvailable(config.memoryEnabled);
}

export function getHotResetInfo(device: VfioDevice, binding: Binding, call: Call): void {
  const info = call.take(PciHotResetInfo, 'count');
  const devices = device.bus;
  info.flags = 0;
  info.count = devices.length;
  if (devices.length > Math.floor((info.argsz - PciHotResetInfo.size) / PciDependentDevice.size)) {
    call.write(0, info.bytes);
    throw fail('ENOSPC', `argsz ${info.argsz} does not hold the ${devices.length} devices of the bus`);
  }
  const ids = devices.map((other) => (binding.byNode ? deviceId(other, binding) : other.group.number));
  if (binding.byNode) {
    const owned = ids.includes(NOT_OWNED) ? 0 : VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
    info.flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | owned;
  }
  for (const [i, other] of devices.entries()) {
    const entry = new PciDependentDevice();
    const { segment, bus, device: slot, function: number } = other.address;
    entry.devid = ids[i]!;
    entry.segment = segment;
    entry.bus = bus;
    entry.devfn = (slot << 3) | number;
    call.write(PciHotResetInfo.size + i * PciDependentDevice.size, entry.bytes);
  }
  call.write(0, info.bytes);
}

export function hotReset(device: VfioDevice, binding: Binding, call: Call): void {
  const { flags, count } = call.take(PciHotReset, 'count');
  if (flags) throw fail('EINVAL', `flags 0x${flags.toString(16)} are not 0`);
  if (binding.byNode !== (count === 0)) {
    throw fail(
      'EINVAL',
      `count is ${count}: a device proves ownership by its ${binding.byNode ? 'iommufd' : 'groups'}`,
    );
  }
  const devices = device.bus;
  const owned = binding.byNode ? ownedByIommufd(binding) : ownedByGroups(call, count, devices.length);
  // One after the other, as kernels do: those before the first that is not the caller's lose what is mapped of them.
  const taken: VfioDevice[] = [];
  try {
    for (const other of devices) {
      if (!owned(other)) throw fail('EINVAL', `${other.fn.name} on the same bus does not belong to the caller`);
      other.binding?.exportedBars.setAvailable(false);
      taken.push(other);
    }
    for (const other of devices) resetPowered(other.fn);
  } finally {
    for (const { binding: own } of taken) own?.exportedBars.setAvailable(own.config.memoryEnabled);
  }
}

type IsOwned = (device: VfioDevice) => boolean;

const ownedByIommufd =
  (binding: Binding): IsOwned =>
  (device) =>
    deviceId(device, binding) !== NOT_OWNED;

/** By the groups whose descriptors stand behind the struct: no more of them than devices. */
function ownedByGroups(call: Call, count: number, most: number): IsOwned {
  if (count > most) throw fail('EINVAL', `${count} groups are given for ${most} devices`);
  const fds = new Int32Array(call.read(PciHotReset.size, 4 * count).buffer);
  const groups = Array.from(fds, (fd) => groupBehind(call, fd));
  return ({ group }) => groups.includes(group);
}

function groupBehind({ caller }: Call, fd: number): VfioGroup {
  const file = caller.fileOf(fd);
  if (file instanceof VfioGroupFile) return file.group;
  if (!file && !caller.memoryFile(fd)) throw fail('EBADF', `descriptor ${fd} is not open`);
  throw fail('EINVAL', `descriptor ${fd} is not a group`);
}

/** ID of a device in the iommufd of `binding`. OWNED: of its group, but not bound itself. */
function deviceId(other: VfioDevice, { device }: Binding): number {
  const bound = other.binding?.device;
  if (bound) return bound.context === device.context ? bound.id : NOT_OWNED;
  return device.context.groups.has(other.group) ? VFIO_PCI_DEVID_OWNED : NOT_OWNED;
}

/** A reset of a function wakes it first. */
export function resetPowered(fn: PciFunction): void {
  const offset = fn.config.offsetOf('PMCSR');
  fn.writeConfig(offset, 2, fn.readConfig(offset, 2) & ~PMCSR_POWER_STATE);
  resetFunction(fn);
}
