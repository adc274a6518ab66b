import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MockPageTable } from './page-table.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Every power of two from 2 KiB to 2^37. */
const ALL = 2n ** 38n - 2n ** 11n;

function dirtyRanges(table: MockPageTable, iova: number, length: number, clear = false): [number, number][] {
  const ranges: [number, number][] = [];
  table.readDirty(iova, length, clear, (at, bytes) => ranges.push([at, bytes]));
  return ranges;
}

describe('the mock page table', () => {
  it('maps with the largest leaves that both addresses and the length allow', () => {
    const table = new MockPageTable(ALL);
    table.map(16 * MIB, 48 * MIB, 16 * MIB);
    expect(table.size).toBe(1);
    table.map(64 * MIB + 2 * KIB, 2 * KIB, 4 * KIB);
    expect(table.size).toBe(3);
    expect([table.physical(16 * MIB + 5), table.physical(64 * MIB + 5 * KIB)]).toEqual([48 * MIB + 5, 5 * KIB]);
    expect([table.physical(16 * MIB - 1), table.physical(32 * MIB)]).toEqual([null, null]);
  });

  it('has only the leaf sizes that it was made with', () => {
    const table = new MockPageTable(BigInt(MIB | (4 * KIB)));
    table.map(0, 0, 2 * MIB + 8 * KIB);
    expect(table.size).toBe(4);
    expect(() => table.map(4 * MIB, 2 * KIB, 4 * KIB)).toThrow(/not aligned/);
  });

  it('refuses to map twice, to unmap what is not mapped, and to cut a leaf', () => {
    const table = new MockPageTable(ALL);
    table.map(MIB, MIB, 4 * KIB);
    expect(() => table.map(MIB + 2 * KIB, 0, 2 * KIB)).toThrow(/twice/);
    expect(() => table.unmap(2 * MIB, 4 * KIB)).toThrow(/not mapped/);
    expect(() => table.unmap(MIB, 2 * KIB)).toThrow(/cuts/);
  });

  it('reports what was written by leaves, once when it is to forget it', () => {
    const table = new MockPageTable((2n ** 11n) | (2n ** 20n));
    table.map(MIB, MIB, MIB);
    table.map(2 * MIB, 0, 4 * KIB);
    expect([table.setDirty(MIB + 3), table.setDirty(2 * MIB + 2 * KIB), table.setDirty(8 * MIB)]).toEqual([
      true,
      true,
      false,
    ]);
    const both: [number, number][] = [
      [MIB, MIB],
      [2 * MIB + 2 * KIB, 2 * KIB],
    ];
    expect(dirtyRanges(table, 0, 4 * MIB)).toEqual(both);
    expect(dirtyRanges(table, MIB + 512 * KIB, 4 * KIB)).toEqual([[MIB + 512 * KIB, 4 * KIB]]);
    expect(dirtyRanges(table, 0, 4 * MIB, true)).toEqual(both);
    expect(dirtyRanges(table, 0, 4 * MIB)).toEqual([]);
  });

  it('leaves out the last item of a leaf of several items, as the table of Linux 7.1 does', () => {
    const table = new MockPageTable(ALL);
    table.map(MIB, MIB, 8 * KIB);
    table.map(4 * MIB, 4 * MIB, 4 * MIB);
    table.setDirty(MIB + 7 * KIB);
    table.setDirty(4 * MIB);
    expect(dirtyRanges(table, 0, 8 * MIB)).toEqual([
      [MIB, 6 * KIB],
      [4 * MIB, 3 * MIB],
    ]);
  });

  it('translates as a plain map of granules does, whatever was mapped and unmapped', () => {
    const piece = fc.record({
      at: fc.nat(255),
      pa: fc.nat(255),
      granules: fc.integer({ min: 1, max: 64 }),
      keep: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const table = new MockPageTable(ALL);
        const plain = new Map<number, number>();
        for (const { at, pa, granules, keep } of pieces) {
          const range = Array.from({ length: granules }, (_, i) => i);
          if (range.some((i) => plain.has(at + i))) continue;
          table.map(at * 2048, pa * 2048, granules * 2048);
          if (keep) for (const i of range) plain.set(at + i, (pa + i) * 2048);
          else table.unmap(at * 2048, granules * 2048);
        }
        for (let i = 0; i < 320; i++) expect(table.physical(i * 2048)).toBe(plain.get(i) ?? null);
      }),
    );
  });
});
