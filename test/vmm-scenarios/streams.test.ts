/** What a VMM may do wrong with STEs, vDEVICEs and what it says of its SMMU: scenarios V1, V6, V7, V8, V9, V16. */
import { describe, expect, it } from 'vitest';
import { Guest } from '../../src/vmm/guest/guest.ts';
import { ABIS, IOVA, refusal, rigFor, SID, startVm } from './rig.ts';

const F_ADDR_SIZE = 0x11;

describe('V1: a nested HWPT for a device that has no vDEVICE', () => {
  it.each([
    ['linux-6.13', ''],
    ['linux-6.15', 'ENOENT'],
    ['linux-6.18', 'ENOENT'],
    ['linux-6.19', ''],
    ['linux-7.1', ''],
    ['viommu-v2', ''],
  ])('with %s a VMM that attaches bypass before the vDEVICE gets %j', async (abi, errno) => {
    const faults = { bypassBeforeVdevice: true };
    expect(await refusal(() => startVm({ abi, faults }))).toBe(errno);
  });

  it('a VMM that makes its vDEVICE first is never refused', async () => {
    for (const abi of ['linux-6.13', 'linux-6.15', 'linux-6.18', 'linux-6.19', 'linux-7.1', 'viommu-v2']) {
      expect(await refusal(() => startVm({ abi }))).toBe('');
    }
  });

  it('bypass does not need a vDEVICE any more, and a stage 1 still does', async () => {
    const { vm } = await startVm({ abi: 'linux-6.19', faults: { skipVdevice: true } });
    const guest = Guest.boot(vm);
    const fn = vm.smmus[0]!.functions[0]!;
    expect(await refusal(() => guest.attach(guest.smmus[0]!, fn))).toBe('ENOENT');
  });
});

describe.each(ABIS)('with %s', (abi) => {
  const { startGuest, startVm } = rigFor(abi);

  describe('V16: vDEVICEs', () => {
    it.each([
      ['EEXIST at its second CFGI_STE when 0 is taken for no StreamID', { forgetSidZero: true }, 'EEXIST'],
      ['nothing in its way', {}, ''],
    ])('a device at StreamID 0 meets %s', async (_what, faults, expected) => {
      const { guest, smmu, fn } = await startGuest({
        smmus: [[{ vfio: 0, sid: 0 }]],
        faults: { bypassBeforeVdevice: true, ...faults },
      });
      expect(await refusal(() => guest.attach(smmu, fn))).toBe(expected);
    });

    it('a device that moves to another StreamID gets EEXIST when its old vDEVICE was left', async () => {
      const { vm, fn } = await startGuest({ faults: { keepVdevice: true } });
      expect(await refusal(() => vm.smmus[0]!.slice.rename(fn, SID + 1))).toBe('EEXIST');
    });

    it('a device that moves to another StreamID is translated and heard of there', async () => {
      const { vm, fn, guest, smmu, probe, second } = await startGuest();
      vm.smmus[0]!.slice.rename(fn, SID + 1);
      expect(probe.read(IOVA)).toBeNull();
      const space = guest.attach(smmu, fn);
      smmu.map(space, IOVA, second);
      expect(probe.read(IOVA)).toBe('second page');
      probe.read(0x50_0000n);
      expect(smmu.events.map((words) => words[1])).toEqual([SID + 1]);
    });
  });

  describe('V16: an STE that is replaced by another', () => {
    it.each([
      [
        'guest memory at its own addresses for a moment when that goes through bypass',
        { replaceThroughBypass: true },
        true,
      ],
      ['nothing but its old and its new pages', {}, false],
    ])('lets the device reach %s', async (_what, faults, expected) => {
      const { vm, guest, smmu, fn, probe, first, second } = await startGuest({ faults });
      const next = guest.space();
      smmu.map(next, IOVA, second);
      const seen: (string | null)[] = [];
      vm.client.afterCall = () => seen.push(probe.read(first), probe.read(IOVA));
      smmu.attach(fn.sid, next);
      expect(seen.filter((_, i) => i % 2 === 0).includes('first page')).toBe(expected);
      expect(seen.at(-1)).toBe('second page');
      expect(seen.filter((_, i) => i % 2 === 1).every((text) => text !== null)).toBe(!expected);
    });
  });

  describe("V7: the second doubleword of the guest's STE", () => {
    it.each([
      ['loses S1DSS when it is read one bit off', { shiftSteDword1: true }, null],
      ['says that requests without a PASID use SSID 0', {}, 'first page'],
    ])('%s', async (_what, faults, expected) => {
      const { probe } = await startGuest({ faults, log2Ssids: 2 });
      expect(probe.read(IOVA)).toBe(expected);
      expect(probe.read(IOVA, 1)).toBe('first page');
    });

    it('has EATS at a value that no guest may choose when it is read one bit off: EIO, and no DMA', async () => {
      const { probe, events } = await startGuest({ faults: { shiftSteDword1: true }, ats: true });
      expect(probe.read(IOVA)).toBeNull();
      const refused = events.filter((event) => event.type === 'ioctl' && event.result < 0);
      expect(refused.map((event) => 'reason' in event && event.reason)).toEqual([
        'guest STE.EATS is 2, expected 0 or 1',
      ]);
    });
  });

  describe('V6: an output size that the host does not have', () => {
    const sized = (oas: number) => (machine: { iommus: Record<string, unknown>[] }) => {
      for (const iommu of machine.iommus) iommu.oas = oas;
    };

    it.each([40, 44])('lets the guest map an address that its DMA cannot reach: F_ADDR_SIZE (%i bits)', async (oas) => {
      const beyond = 1n << BigInt(oas);
      const { smmu, space, probe } = await startGuest({ faults: { advertiseWideOas: true }, change: sized(oas) });
      expect(smmu.outputBits).toBe(48);
      smmu.map(space, 0x20_0000n, beyond);
      expect(probe.read(0x20_0000n)).toBeNull();
      expect(smmu.events.map((words) => words[0]! & 0xff)).toEqual([F_ADDR_SIZE]);
    });

    it.each([40, 44, 48])(
      'is not told to the guest of a right VMM, whose driver refuses the address (%i bits)',
      async (oas) => {
        const { smmu, space } = await startGuest({ change: sized(oas) });
        expect(smmu.outputBits).toBe(oas);
        expect(() => smmu.map(space, 0x20_0000n, 1n << BigInt(oas))).toThrow('beyond IDR5.OAS');
      },
    );
  });

  describe('V8: ATS that the guest is not told of', () => {
    it.each([
      ['never used by a device that has it', { hideAts: true }, ['iommu']],
      ['used by a device that has it', {}, ['atc']],
    ])('is %s', async (_what, faults, expected) => {
      const { probe, events } = await startGuest({ faults, ats: true });
      probe.read(IOVA);
      events.length = 0;
      probe.read(IOVA);
      expect(events.flatMap((event) => (event.type === 'dma' ? [event.via] : []))).toEqual(expected);
    });
  });

  describe('V8: SSIDs that the guest is not told of', () => {
    it.each([
      ['nothing', { hideSsids: true }, null],
      ['what the guest has mapped', {}, 'first page'],
    ])('let a device that has PASIDs reach %s by them', async (_what, faults, expected) => {
      const { probe } = await startGuest({ faults, log2Ssids: 2 });
      expect([probe.read(IOVA), probe.read(IOVA, 1)]).toEqual(['first page', expected]);
    });
  });

  describe('V9: a second device, behind another SMMU of the host', () => {
    const other = [
      [
        { vfio: 0, sid: 1 },
        { vfio: 2, sid: 2 },
      ],
    ];
    const different = (machine: { iommus: Record<string, unknown>[] }) => {
      machine.iommus[1]!.oas = 44;
    };

    it('is refused by the host only, with EINVAL, when the VMM does not compare the two', async () => {
      expect(await refusal(() => startVm({ smmus: other, faults: { mixHosts: true }, change: different }))).toBe(
        'EINVAL',
      );
    });

    it('is refused by a right VMM, which names what differs', async () => {
      await expect(startVm({ smmus: other, change: different })).rejects.toThrow('OAS differ');
    });
  });
});
