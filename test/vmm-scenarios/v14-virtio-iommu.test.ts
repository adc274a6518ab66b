/**
 * V14, virtio-iommu in front of a device of the host. The guest's pages are no smaller than the host's, or nothing can be
 * mapped (QEMU, 94df5b2180d6); what is unmapped is any range, and no power of two.
 */
import { describe, expect, it } from 'vitest';
import type { HostSpace } from '../../src/vmm/shadow/host-space.ts';
import { READ } from '../../src/vmm/shadow/host-space.ts';
import { PAGE, SOURCE, startVirtioGuest, textPage, WidePages } from './v14-rig.ts';

const IOVA = 0x10_0000n;
const DOMAIN = 1;
const PAGE_64K = 0x1_0000n;
/** The window that the host keeps for MSIs. */
const WINDOW = 0x800_0000n;

const host = (space: HostSpace) => new WidePages(space, PAGE_64K);

describe('a right VMM', () => {
  it('shows a device what the guest has mapped, and nothing else', () => {
    const { vm, probe, iommu } = startVirtioGuest();
    expect(iommu.map(DOMAIN, IOVA, textPage(vm.ram, 'mapped'), PAGE)).toBe('OK');
    expect([probe.read(IOVA), probe.read(IOVA + PAGE)]).toEqual(['mapped', null]);
    expect(iommu.unmap(DOMAIN, IOVA, PAGE)).toBe('OK');
    expect(probe.read(IOVA)).toBeNull();
  });

  it('gives an endpoint what its domain has, and takes it away again', () => {
    const { vm, probe, iommu, space } = startVirtioGuest();
    iommu.map(DOMAIN, IOVA, textPage(vm.ram, 'one'), PAGE);
    expect(iommu.attach(2, SOURCE)).toBe('OK');
    expect(probe.read(IOVA)).toBeNull();
    expect(iommu.map(DOMAIN, IOVA, 0x4000_0000n, PAGE)).toBe('NOENT');
    iommu.map(2, IOVA, textPage(vm.ram, 'two'), PAGE);
    expect(probe.read(IOVA)).toBe('two');
    expect(iommu.detach(2, SOURCE)).toBe('OK');
    expect(probe.read(IOVA)).toBeNull();
    expect(space.mirrored).toEqual([]);
  });

  it('maps what is there already for an endpoint that joins', () => {
    const functions = [
      { vfio: 0, id: SOURCE },
      { vfio: 1, id: 7 },
    ];
    const { vm, probes, iommu } = startVirtioGuest({ functions });
    iommu.detach(DOMAIN, 7);
    iommu.map(DOMAIN, IOVA, textPage(vm.ram, 'shared'), PAGE);
    expect(probes.map((probe) => probe.read(IOVA))).toEqual(['shared', null]);
    iommu.attach(DOMAIN, 7);
    expect(probes.map((probe) => probe.read(IOVA))).toEqual(['shared', 'shared']);
    iommu.unmap(DOMAIN, IOVA, PAGE);
    expect(probes.map((probe) => probe.read(IOVA))).toEqual([null, null]);
  });

  it('refuses what the specification says, and changes nothing then', () => {
    const { vm, probe, iommu } = startVirtioGuest();
    const gpa = textPage(vm.ram, 'mapped', 2);
    iommu.map(DOMAIN, IOVA, gpa, 2n * PAGE);
    expect(iommu.map(DOMAIN, IOVA + PAGE, gpa, PAGE)).toBe('INVAL');
    expect(iommu.map(DOMAIN, IOVA + 0x800n, gpa, PAGE)).toBe('RANGE');
    expect(iommu.map(DOMAIN, 2n ** 63n, gpa, PAGE)).toBe('RANGE');
    expect(iommu.map(9, 0n, gpa, PAGE)).toBe('NOENT');
    expect(iommu.unmap(DOMAIN, IOVA, PAGE)).toBe('RANGE');
    expect(iommu.attach(DOMAIN, 0x999)).toBe('NOENT');
    expect(iommu.detach(9, SOURCE)).toBe('NOENT');
    expect(probe.read(IOVA)).toBe('mapped');
    expect(iommu.unmap(DOMAIN, 0n, 2n ** 64n)).toBe('OK');
    expect(probe.read(IOVA)).toBeNull();
  });

  it('lets a device write only where the guest does', () => {
    const { vm, probe, iommu } = startVirtioGuest();
    iommu.map(DOMAIN, IOVA, textPage(vm.ram, 'read only'), PAGE, READ);
    expect([probe.write(IOVA, 'written'), probe.read(IOVA)]).toEqual([false, 'read only']);
  });
});

describe('V14: a host with pages of 64 KiB', () => {
  it('has a guest with such pages map them, when the guest is told', () => {
    const { vm, probe, iommu } = startVirtioGuest({ host, pageBytes: PAGE_64K });
    const gpa = textPage(vm.ram, 'large', 16);
    expect(iommu.granule).toBe(PAGE_64K);
    expect(iommu.map(DOMAIN, PAGE_64K, gpa, PAGE_64K)).toBe('OK');
    expect(probe.read(PAGE_64K)).toBe('large');
  });

  it('is of no use to a guest with smaller ones, which knows so from the start', () => {
    expect(() => startVirtioGuest({ host })).toThrow('granule 65536 is larger than pages of 4096');
  });

  it('refuses a mapping of 4 KiB when the guest was told before the VMM knew', () => {
    const { vm, probe, iommu } = startVirtioGuest({ host, faults: { freezeGranule: true } });
    expect(iommu.map(DOMAIN, IOVA, textPage(vm.ram, 'refused'), PAGE)).toBe('INVAL');
    expect(probe.read(IOVA)).toBeNull();
  });

  it('leaves a guest that is told OK all the same with a device that reaches nothing', () => {
    const { vm, probe, iommu } = startVirtioGuest({ host, faults: { freezeGranule: true, hideRefusals: true } });
    expect(iommu.map(DOMAIN, IOVA, textPage(vm.ram, 'missing'), PAGE)).toBe('OK');
    expect(probe.read(IOVA)).toBeNull();
  });
});

describe('V14: a range that is neither aligned nor a power of two', () => {
  it.each([
    ['stays in part when the host is told of an aligned power of two', { roundUnmaps: true }, ['4', '5', '6']],
    ['goes as a whole', {}, []],
  ])('%s', (_what, faults, stale) => {
    const { vm, probe, iommu } = startVirtioGuest({ faults });
    const pages = [2n, 3n, 4n, 5n, 6n].map((n) => n * PAGE);
    for (const iova of pages) iommu.map(DOMAIN, iova, textPage(vm.ram, `${iova / PAGE}`), PAGE);
    expect(iommu.unmap(DOMAIN, pages[0]!, 5n * PAGE)).toBe('OK');
    expect(pages.map((iova) => probe.read(iova)).filter((text) => text !== null)).toEqual(stale);
  });
});

describe('V14: the window that the host keeps for MSIs', () => {
  it.each([
    ['is where a guest maps that was not told of it, and is refused', { hideReservedRegions: true }, 'INVAL', WINDOW],
    ['is left out by a guest that was told', {}, 'OK', WINDOW + 0x10_0000n],
  ] as const)('%s', (_what, faults, status, expected) => {
    const { vm, probe, iommu } = startVirtioGuest({ faults });
    const iova = iommu.freeIova(SOURCE, WINDOW, PAGE);
    expect(iova).toBe(expected);
    expect(iommu.map(DOMAIN, iova, textPage(vm.ram, 'behind'), PAGE)).toBe(status);
    expect(probe.read(iova)).toBe(status === 'OK' ? 'behind' : null);
  });
});
