/** The VMM without any fault: its guest's devices reach what the guest has mapped for them, and nothing else. */
import { describe, expect, it } from 'vitest';
import { Guest } from '../../src/vmm/guest/guest.ts';
import { NvmeDriver } from '../../src/vmm/guest/nvme-driver.ts';
import { ProbeDriver } from '../../src/vmm/guest/probe-driver.ts';
import { Vm } from '../../src/vmm/vm.ts';
import { testMachine } from '../host/program.ts';
import { ABIS, IOVA, leftovers, remap, rigFor, SID } from './rig.ts';

const F_TRANSLATION = 0x10;

describe.each(ABIS)('a right VMM with %s', (abi) => {
  const { startGuest, startVm } = rigFor(abi);

  it('lets a device through to guest RAM before the guest has an SMMU driver', async () => {
    const { vm } = await startVm();
    const gpa = vm.ram.allocate();
    expect(new ProbeDriver(vm.smmus[0]!.functions[0]!).write(gpa, 'straight')).toBe(true);
    expect(new TextDecoder().decode(vm.ram.at(gpa, 8))).toBe('straight');
  });

  it.each([false, true])('shows a device what the guest maps, and what it maps anew (ATS: %s)', async (ats) => {
    const { probe, smmu, space, second, events } = await startGuest({ ats });
    expect(probe.read(IOVA)).toBe('first page');
    remap(smmu, space, IOVA, second);
    expect(probe.read(IOVA)).toBe('second page');
    const via = events.flatMap((event) => (event.type === 'dma' ? [event.via] : []));
    expect(via.includes('atc')).toBe(ats);
  });

  it("puts a fault into the guest's event queue with the StreamID of the guest", async () => {
    const { probe, smmu } = await startGuest();
    expect(probe.read(0x50_0000n)).toBeNull();
    expect(smmu.events.map(([type, sid]) => [type! & 0xff, sid])).toEqual([[F_TRANSLATION, SID]]);
    expect(probe.read(0x51_0000n)).toBeNull();
    expect(smmu.events.map((words) => words[4])).toEqual([0x50_0000, 0x51_0000]);
  });

  it('uses an address space through every SSID', async () => {
    const { probe } = await startGuest({ log2Ssids: 2 });
    expect([probe.read(IOVA), probe.read(IOVA, 3)]).toEqual(['first page', 'first page']);
    expect(probe.read(IOVA, 4)).toBeNull();
  });

  it('serves two SMMUs, each with devices of its own', async () => {
    const { vm } = await startVm({
      smmus: [
        [
          { vfio: 0, sid: 1 },
          { vfio: 1, sid: 2 },
        ],
        [{ vfio: 2, sid: 1 }],
      ],
    });
    const guest = Guest.boot(vm);
    for (const [n, { functions }] of vm.smmus.entries()) {
      for (const fn of functions) {
        const space = guest.attach(guest.smmus[n]!, fn);
        const gpa = vm.ram.allocate();
        guest.smmus[n]!.map(space, IOVA, gpa);
        expect(new ProbeDriver(fn).write(IOVA, `${n} ${fn.sid}`)).toBe(true);
        expect(new TextDecoder().decode(vm.ram.at(gpa, 3))).toBe(`${n} ${fn.sid}`);
      }
    }
  });

  it('has an NVMe controller write and read blocks through pages that move', async () => {
    const { machine } = testMachine({ abi, preset: 'two-smmus-nvme' });
    const vm = await Vm.start(machine, { smmus: [[{ vfio: 0, sid: SID }]] });
    const guest = Guest.boot(vm);
    const fn = vm.smmus[0]!.functions[0]!;
    const nvme = new NvmeDriver(fn, guest.smmus[0]!, guest.attach(guest.smmus[0]!, fn, { ats: true }));
    nvme.start();
    expect(nvme.writeBlock(7, 'on the disk')).toBe(0);
    nvme.moveBuffer();
    expect(nvme.readBlock(7)).toBe('on the disk');
    expect(nvme.readBlock(8)).toBe('\0'.repeat(512));
  });

  it("calls the guest's handler once for a pin, and again when that has been acknowledged", async () => {
    const { machine } = testMachine({ abi, preset: 'two-smmus-nvme' });
    const vm = await Vm.start(machine, { smmus: [[{ vfio: 0, sid: SID }]] });
    const guest = Guest.boot(vm);
    const fn = vm.smmus[0]!.functions[0]!;
    const nvme = new NvmeDriver(fn, guest.smmus[0]!, guest.attach(guest.smmus[0]!, fn));
    let calls = 0;
    await fn.connectPin(() => calls++);
    nvme.start();
    expect(calls).toBe(1);
    fn.acknowledgePin();
    nvme.start();
    expect(calls).toBe(2);
  });

  it.each(['linux-6.13', 'linux-6.15', 'linux-6.18', 'linux-6.19', 'linux-7.1', 'viommu-v2'])(
    'starts, runs, resets, stops and leaves nothing behind, with %s',
    async (abi) => {
      const { machine, vm, probe, guest, fn, second } = await startGuest({ abi, ats: true });
      expect(probe.read(IOVA)).toBe('first page');
      vm.reset();
      const rebooted = Guest.boot(vm);
      const space = rebooted.attach(rebooted.smmus[0]!, fn);
      rebooted.smmus[0]!.map(space, IOVA, second);
      expect(probe.read(IOVA)).toBeNull();
      expect(new ProbeDriver(fn).read(IOVA)).toBe('second page');
      expect(guest.smmus[0]!.commandError).toBe(0);
      vm.stop();
      expect(vm.teardown.refusals).toEqual([]);
      vm.exit();
      expect(leftovers(machine)).toEqual({});
    },
  );
});
