/**
 * V14, the emulated Intel IOMMU in front of a device of the host: it must follow the guest's tables wherever the guest says
 * that they have changed. QEMU's did not where a whole table had gone (36d2d52bdb45).
 */
import { describe, expect, it } from 'vitest';
import { leftovers } from './rig.ts';
import { MIB_2, PAGE, SOURCE, startIntelGuest, textPage } from './v14-rig.ts';

const IOVA = 0x10_0000n;
const GIB = 2n ** 30n;

describe('a right VMM', () => {
  it.each([3, 4] as const)(
    'shows a device what the guest has mapped in %i levels of tables, and nothing else',
    (levels) => {
      const { vm, probe, iommu, domain } = startIntelGuest({ levels });
      iommu.map(domain, IOVA, textPage(vm.ram, 'mapped'));
      expect([probe.read(IOVA), probe.read(IOVA + PAGE)]).toEqual(['mapped', null]);
      iommu.map(domain, IOVA, textPage(vm.ram, 'replaced'));
      expect(probe.read(IOVA)).toBe('replaced');
      iommu.unmap(domain, IOVA, PAGE);
      expect(probe.read(IOVA)).toBeNull();
    },
  );

  it('lets a device through to guest RAM before translation is on, and where a context entry says so', () => {
    const { vm, vtd, probe, iommu, domain } = startIntelGuest();
    const gpa = textPage(vm.ram, 'untranslated');
    expect(probe.read(gpa)).toBeNull();
    iommu.pass(SOURCE);
    expect(probe.read(gpa)).toBe('untranslated');
    iommu.attach(SOURCE, domain);
    expect(probe.read(gpa)).toBeNull();
    vtd.reset();
    expect(probe.read(gpa)).toBe('untranslated');
  });

  it('moves a device from domain to domain, and keeps domains apart', () => {
    const functions = [
      { vfio: 0, id: SOURCE },
      { vfio: 1, id: SOURCE + 8 },
    ];
    const { vm, probes, iommu, domain } = startIntelGuest({ functions });
    const other = iommu.domain();
    iommu.map(domain, IOVA, textPage(vm.ram, 'one'));
    iommu.map(other, IOVA, textPage(vm.ram, 'other'));
    const read = () => probes.map((probe) => probe.read(IOVA));
    expect(read()).toEqual(['one', 'one']);
    iommu.attach(SOURCE + 8, other);
    expect(read()).toEqual(['one', 'other']);
    iommu.unmap(other, IOVA, PAGE);
    expect(read()).toEqual(['one', null]);
    iommu.block(SOURCE);
    expect(read()).toEqual([null, null]);
  });

  it('lets a device write only where the guest does', () => {
    const { vm, probe, iommu, domain } = startIntelGuest();
    iommu.map(domain, IOVA, textPage(vm.ram, 'read only'), { readOnly: true });
    expect(probe.write(IOVA, 'written')).toBe(false);
    expect(probe.read(IOVA)).toBe('read only');
  });

  it('follows a guest that splits a leaf of 2 MiB and invalidates one page of it', () => {
    const { vm, probe, iommu, domain } = startIntelGuest({ ramBytes: 2 ** 23 });
    const gpa = textPage(vm.ram, 'first', 512);
    vm.ram.at(gpa + PAGE, 16).set(new TextEncoder().encode('second'.padEnd(16)));
    iommu.map(domain, MIB_2, gpa, { level: 2 });
    expect([probe.read(MIB_2), probe.read(MIB_2 + PAGE)]).toEqual(['first', 'second']);
    // The leaf becomes a table before anybody is told: 511 of its pages lead where they led.
    const changed = textPage(vm.ram, 'changed');
    const split = { ...domain, id: 0xffff };
    for (let n = 0n; n < 512n; n++) iommu.map(split, MIB_2 + n * PAGE, n === 0n ? changed : gpa + n * PAGE);
    expect([probe.read(MIB_2), probe.read(MIB_2 + PAGE)]).toEqual(['first', 'second']);
    iommu.invalidate(domain, MIB_2, PAGE);
    expect([probe.read(MIB_2), probe.read(MIB_2 + PAGE)]).toEqual(['changed', 'second']);
  });

  it('mirrors of a leaf of 1 GiB what is RAM', () => {
    const { vm, probe, iommu, domain, space } = startIntelGuest();
    const gpa = textPage(vm.ram, 'in a big leaf');
    iommu.map(domain, 4n * GIB, GIB, { level: 3 });
    expect(probe.read(4n * GIB + gpa - GIB)).toBe('in a big leaf');
    expect(space.mirrored).toEqual([{ iova: 4n * GIB, gpa: GIB, length: BigInt(vm.ram.bytes.length), prot: 3 }]);
  });

  it('leaves out what the host refuses, and mirrors the rest', () => {
    const { vm, probe, iommu, domain } = startIntelGuest();
    const gpa = textPage(vm.ram, 'refused');
    iommu.map(domain, 0x800_0000n, gpa);
    iommu.map(domain, IOVA, textPage(vm.ram, 'mirrored'));
    expect([probe.read(0x800_0000n), probe.read(IOVA)]).toEqual([null, 'mirrored']);
  });

  it('leaves nothing behind when its process ends', () => {
    const { machine, vm, iommu, domain } = startIntelGuest();
    iommu.map(domain, IOVA, textPage(vm.ram, 'mapped'));
    vm.exit();
    expect(leftovers(machine)).toEqual({});
  });

  it('stops at a descriptor that is none, and says so', () => {
    const { vtd, iommu } = startIntelGuest();
    expect(() => iommu.push([0xfn, 0n])).toThrow('stopped');
    expect(vtd.read('FSTS')).toBe(1n << 4n);
    expect(vtd.read('IQH')).not.toBe(vtd.read('IQT'));
  });

  it('takes tables that are nowhere for empty ones', () => {
    const { probe, iommu, domain } = startIntelGuest();
    iommu.attach(SOURCE, { ...domain, root: 0x7fff_0000_0000n });
    expect(probe.read(IOVA)).toBeNull();
  });
});

describe('V14: a range of which the guest has taken away whole tables', () => {
  it.each([
    [
      'stays mapped for the device when upper entries that are not present are skipped',
      { skipAbsentTables: true },
      'stale',
    ],
    ['is unmapped for the device', {}, null],
  ] as const)('%s', (_what, faults, expected) => {
    const { vm, probe, iommu, domain } = startIntelGuest({ faults });
    const inside = MIB_2 + 7n * PAGE;
    iommu.map(domain, inside, textPage(vm.ram, 'stale'));
    iommu.unmap(domain, MIB_2, MIB_2);
    expect(probe.read(inside)).toBe(expected);
  });

  it('is no trouble to the same VMM page by page', () => {
    const { vm, probe, iommu, domain } = startIntelGuest({ faults: { skipAbsentTables: true } });
    iommu.map(domain, IOVA, textPage(vm.ram, 'gone'));
    iommu.unmap(domain, IOVA, PAGE);
    expect(probe.read(IOVA)).toBeNull();
  });

  it('stays around what the guest maps there next', () => {
    const { vm, probe, iommu, domain } = startIntelGuest({ faults: { skipAbsentTables: true } });
    iommu.map(domain, MIB_2, textPage(vm.ram, 'old'));
    iommu.map(domain, MIB_2 + PAGE, textPage(vm.ram, 'old neighbour'));
    iommu.unmap(domain, MIB_2, MIB_2);
    iommu.map(domain, MIB_2, textPage(vm.ram, 'new'));
    expect([probe.read(MIB_2), probe.read(MIB_2 + PAGE)]).toEqual(['new', 'old neighbour']);
  });
});
