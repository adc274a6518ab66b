/** What a VMM may do wrong between start and end: scenarios V3, V5, V8, V10, V11. */
import { describe, expect, it } from 'vitest';
import type { Faults } from '../../src/vmm/faults.ts';
import { Vm } from '../../src/vmm/vm.ts';
import { ABIS, IOVA, leftovers, refusal, rigFor, SID } from './rig.ts';

const SMMUS = [[{ vfio: 0, sid: SID }]];
const ALL_ONES = 0xffff_ffff;
const D3HOT = 3;
const MAGIC = 0x50414d44;

describe.each(ABIS)('with %s', (abi) => {
  const { startGuest, startVm } = rigFor(abi);

  /** What is refused as a VM stops, and how many of its objects are left then. */
  async function stopped(faults: Faults) {
    const { machine, vm } = await startGuest({ faults });
    vm.stop();
    const codes = vm.teardown.refusals.map(({ code }) => code);
    const { objects } = machine.leftovers();
    vm.exit();
    return { codes, objects, afterwards: leftovers(machine) };
  }

  describe('V3 and V5: the order in which objects end', () => {
    it('a right VMM is refused nothing and leaves nothing', async () => {
      expect(await stopped({})).toEqual({ codes: [], objects: 0, afterwards: {} });
    });

    it.each<[string, Faults]>([
      ['the vIOMMU before its vEVENTQ', { destroyViommuBeforeEvents: true }],
      ['the vEVENTQ before its descriptor', { destroyEventsWhileOpen: true }],
      ['the nesting parent before the vIOMMU', { destroyParentFirst: true }],
    ])('a VMM that ends %s gets EBUSY, and its objects stay until the iommufd is closed', async (_what, faults) => {
      const { codes, objects, afterwards } = await stopped(faults);
      expect(codes.length).toBeGreaterThan(0);
      expect(new Set(codes)).toEqual(new Set(['EBUSY']));
      expect(objects).toBeGreaterThan(0);
      expect(afterwards).toEqual({});
    });
  });

  describe('V5: a host that refuses', () => {
    it.each<[string, Faults, string, number]>([
      ['gives up in the middle, with the device still bound', { panicOnRefusal: true }, 'EBUSY', 1],
      ['ends everything else all the same', {}, '', 0],
    ])('a VMM that is refused a DESTROY %s', async (_what, faults, thrown, bindings) => {
      const { machine, vm } = await startGuest({ faults });
      let calls = 0;
      vm.client.refuse = (struct) => (struct === 'iommu_destroy' && ++calls === 2 ? 'EBUSY' : null);
      expect(await refusal(() => vm.stop())).toBe(thrown);
      expect(machine.leftovers().bindings).toBe(bindings);
      vm.exit();
      expect(leftovers(machine)).toEqual({});
    });

    it.each<[string, Faults, string, string | null]>([
      ['leaves the guest as it was', { panicOnRefusal: true }, 'EIO', 'first page'],
      ['resets its SMMU all the same', {}, '', null],
    ])('a VMM whose device cannot be reset %s', async (_what, faults, thrown, text) => {
      const { vm, probe } = await startGuest({ faults });
      vm.client.refuse = (struct) => (struct === 'VFIO_DEVICE_RESET' ? 'EIO' : null);
      expect(await refusal(() => vm.reset())).toBe(thrown);
      expect(probe.read(IOVA)).toBe(text);
    });
  });

  describe('V8: devices that sleep, and VMs that start again', () => {
    it('a right VMM answers reads of BARs in D3hot with all ones, and the device wakes up again', async () => {
      const { fn } = await startGuest();
      fn.setPowerState(D3HOT);
      expect(fn.readBar(0)).toBe(ALL_ONES);
      fn.writeBar(0x14, 1);
      fn.setPowerState(0);
      expect(fn.readBar(0)).toBe(MAGIC);
    });

    it('a VMM that passes them on gets EIO: with the BAR mapped that is the end of it', async () => {
      const { fn } = await startGuest({ faults: { openBarsAlways: true } });
      fn.setPowerState(D3HOT);
      expect(await refusal(() => fn.readBar(0))).toBe('EIO');
    });

    it.each<[string, Faults, string | null]>([
      [
        'still reaches guest memory, untranslated, when it was not reset with the VM',
        { skipDeviceReset: true },
        'first page',
      ],
      ['reaches nothing before its driver is there again', {}, null],
    ])('a device that the guest had started %s', async (_what, faults, expected) => {
      const { vm, probe, first } = await startGuest({ faults });
      vm.reset();
      expect(probe.read(first)).toBe(expected);
    });
  });

  describe('V10: a VM that is started again', () => {
    it.each<[string, Faults, string]>([
      ['cannot bind its device when the old descriptor was left open', { keepDeviceOpen: true }, 'EINVAL'],
      ['binds its device again', {}, ''],
    ])('%s', async (_what, faults, expected) => {
      const { machine, vm } = await startVm({ faults });
      vm.stop();
      expect(await refusal(() => Vm.start(machine, { smmus: SMMUS, pid: 43 }))).toBe(expected);
    });

    it.each<[string, Faults, number]>([
      ['grows by an IOAS each time that one is left', { keepIoas: true }, 3],
      ['is as it was', {}, 0],
    ])('an iommufd that outlives its VMs %s', async (_what, faults, objects) => {
      const { machine, vm } = await startVm({ faults });
      vm.stop();
      for (let again = 0; again < 2; again++) (await Vm.start(machine, { smmus: SMMUS, faults, within: vm })).stop();
      expect(machine.leftovers().objects).toBe(objects);
    });
  });

  describe('V11: dirty tracking of the nesting parent', () => {
    const tracking = (machine: { iommus: Record<string, unknown>[] }) => {
      for (const iommu of machine.iommus) iommu.httu = 2;
    };

    it.each<[string, Faults, string]>([
      ['cannot be asked for, even of an SMMU that tracks', { trackDirtyParent: true }, 'EOPNOTSUPP'],
      ['is not asked for by a right VMM', {}, ''],
    ])('%s', async (_what, faults, expected) => {
      expect(await refusal(() => startVm({ faults, change: tracking }))).toBe(expected);
    });
  });
});
