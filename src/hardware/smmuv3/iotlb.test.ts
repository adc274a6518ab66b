import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ANY_ASID, GLOBAL_SHARED, GLOBAL_UNSHARED, Iotlb, STAGE2_ONLY } from './iotlb.ts';

/** Fills with permissions all granted; the leaf is as large as the entry. */
function fill(tlb: Iotlb, vmid: number, asid: number, frame: number, log2 = 0, out = frame + 1000, leaf = log2): void {
  tlb.fill(vmid, asid, frame, log2, out, out, 63, 63, leaf, 3, 12, false);
}

const found = (tlb: Iotlb, vmid: number, asid: number, frame: number): boolean =>
  tlb.find(vmid, asid, GLOBAL_SHARED, frame) >= 0;

describe('Iotlb', () => {
  it('answers for every frame of a large entry', () => {
    const tlb = new Iotlb(64);
    fill(tlb, 1, 2, 0x12345, 9, 0x98745);
    const at = tlb.find(1, 2, GLOBAL_SHARED, 0x123ff);
    expect(tlb.outputFrame(at, 0x123ff)).toBe(0x987ff);
    expect(found(tlb, 1, 2, 0x12400)).toBe(false);
    expect(found(tlb, 1, 3, 0x12345)).toBe(false);
    expect(found(tlb, 2, 2, 0x12345)).toBe(false);
  });

  it('keeps the upper half of the VA space apart', () => {
    const tlb = new Iotlb(64);
    fill(tlb, 1, 2, 2 ** 52 - 1);
    expect(found(tlb, 1, 2, 2 ** 52 - 1)).toBe(true);
    expect(found(tlb, 1, 2, 2 ** 51 - 1)).toBe(false);
  });

  it('lets global entries match every ASID of the VMID with the same ASET', () => {
    const tlb = new Iotlb(64);
    fill(tlb, 1, GLOBAL_SHARED, 0x10);
    expect(tlb.find(1, 77, GLOBAL_SHARED, 0x10)).toBeGreaterThanOrEqual(0);
    expect(tlb.find(1, 77, GLOBAL_UNSHARED, 0x10)).toBe(-1);
    expect(tlb.find(1, STAGE2_ONLY, STAGE2_ONLY, 0x10)).toBe(-1);
  });

  it.each([0, 9])(
    'drops global entries of either ASET by an address, whatever the ASID, with leaves of 2^%i frames',
    (leaf) => {
      for (const asid of [GLOBAL_SHARED, GLOBAL_UNSHARED]) {
        const tlb = new Iotlb(64);
        fill(tlb, 1, asid, 0x10, 0, 0x300, leaf);
        fill(tlb, 1, STAGE2_ONLY, 0x10);
        expect([tlb.invalidateRange(1, 77, 0x10, 0x10, 0, 0), tlb.count]).toEqual([1, 1]);
      }
    },
  );

  it('replaces an entry with the same tags and range', () => {
    const tlb = new Iotlb(64);
    fill(tlb, 1, 2, 5, 0, 100);
    fill(tlb, 1, 2, 5, 0, 200);
    expect(tlb.count).toBe(1);
    expect(tlb.outputFrame(tlb.find(1, 2, GLOBAL_SHARED, 5), 5)).toBe(200);
  });

  it('finds a small entry by any address of its stage 1 leaf', () => {
    const tlb = new Iotlb(64);
    fill(tlb, 1, 2, 0x205, 0, 0x300, 9);
    expect(tlb.invalidateRange(1, 2, 0x1ff, 0x1ff, 0, 0)).toBe(0);
    expect(tlb.invalidateRange(1, 2, 0x3ff, 0x3ff, 0, 0)).toBe(1);
  });

  it('holds no more than its capacity', () => {
    for (const capacity of [1, 2, 8]) {
      const tlb = new Iotlb(capacity);
      for (let n = 0; n < 100; n++) fill(tlb, 1, 2, n);
      expect(tlb.count).toBeLessThanOrEqual(capacity);
      expect(found(tlb, 1, 2, 99)).toBe(true);
      tlb.clear();
      expect(found(tlb, 1, 2, 99)).toBe(false);
    }
  });

  it.each([
    ['as large as their leaves', [0]],
    ['smaller, some of them', [0, 0, 0, 3]],
  ])('drops what an invalidation covers, and nothing else, of entries %s', (_what, largerLeaves) => {
    const tag = fc.record({
      vmid: fc.constantFrom(0, 1, 0xffff),
      asid: fc.constantFrom(0, 1, 0xffff, GLOBAL_SHARED, GLOBAL_UNSHARED, STAGE2_ONLY),
      page: fc.integer({ min: 0, max: 12 }),
      log2: fc.constantFrom(0, 4, 9),
      /** How much larger the leaf is than the entry, log2. */
      larger: fc.constantFrom(...largerLeaves),
      level: fc.constantFrom(2, 3),
    });
    const command = fc.record({
      kind: fc.constantFrom('vmid', 'vmall', 'asid', 'va', 'vaa', 'ipa'),
      vmid: fc.constantFrom(0, 1, 0xffff),
      asid: fc.constantFrom(0, 1, 0xffff),
      first: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 2000 })),
      count: fc.oneof(fc.integer({ min: 1, max: 17 }), fc.integer({ min: 1, max: 600 })),
      level: fc.constantFrom(0, 2, 3),
    });
    fc.assert(
      fc.property(fc.array(tag, { maxLength: 60 }), command, (entries, c) => {
        const tlb = new Iotlb(1024);
        const model = new Map<string, (typeof entries)[number] & { leaf: number; first: number; size: number }>();
        for (const e of entries) {
          const size = 2 ** e.log2;
          const first = e.page * size;
          tlb.fill(e.vmid, e.asid, first, e.log2, 7, 7, 63, 63, e.log2 + e.larger, e.level, 12, false);
          const leafSize = size * 2 ** e.larger;
          const leaf = Math.floor(first / leafSize) * leafSize;
          model.set(`${e.vmid} ${e.asid} ${first} ${e.log2}`, { ...e, leaf, first, size: leafSize });
        }
        const covered = (e: { vmid: number; asid: number; leaf: number; size: number; level: number }): boolean => {
          if (e.vmid !== c.vmid) return false;
          const stage1 = e.asid !== STAGE2_ONLY;
          const within =
            e.leaf < c.first + c.count && c.first < e.leaf + e.size && (c.level === 0 || c.level === e.level);
          switch (c.kind) {
            case 'vmall':
              return true;
            case 'vmid':
              return stage1;
            case 'asid':
              return e.asid === c.asid;
            case 'va':
              return stage1 && within && (e.asid === c.asid || e.asid < 0);
            case 'vaa':
              return stage1 && within;
            default:
              return !stage1 && within;
          }
        };
        const before = model.size;
        const left = [...model.values()].filter((e) => !covered(e));
        const last = c.first + c.count - 1;
        const granule = c.level === 0 ? 0 : 12;
        const dropped =
          c.kind === 'vmid' || c.kind === 'vmall'
            ? tlb.invalidateVmid(c.vmid, c.kind === 'vmall')
            : c.kind === 'asid'
              ? tlb.invalidateAsid(c.vmid, c.asid)
              : tlb.invalidateRange(
                  c.vmid,
                  { va: c.asid, vaa: ANY_ASID, ipa: STAGE2_ONLY }[c.kind],
                  c.first,
                  last,
                  c.level,
                  granule,
                );
        expect(dropped).toBe(before - left.length);
        expect(tlb.count).toBe(left.length);
        for (const e of left) {
          const asid = e.asid === GLOBAL_SHARED || e.asid === GLOBAL_UNSHARED ? 5 : e.asid;
          expect(tlb.find(e.vmid, asid, e.asid < 0 ? e.asid : GLOBAL_SHARED, e.first)).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 500, seed: 317 },
    );
  });
});
