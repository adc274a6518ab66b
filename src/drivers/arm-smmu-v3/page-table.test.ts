import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import { FrameAllocator } from '../frame-allocator.ts';
import { PROT_READ, PROT_WRITE } from '../iommu-driver.ts';
import { PageTable } from './page-table.ts';
import { pageSizesOf, type TableFormat, tableFormat } from './table-format.ts';

const RW = PROT_READ | PROT_WRITE;

function make(format: TableFormat, frames = 4096) {
  const memory = new PhysicalMemory();
  memory.addRam(0x100000, 4096);
  const allocator = new FrameAllocator(memory, 0x100000, frames);
  return { memory, allocator, table: new PageTable(memory, allocator, format) };
}

/** The walk of DDI 0487 D8.2, from bytes, in bigint: PA of a byte address and the leaf's low word, or null. */
function walk(memory: PhysicalMemory, format: TableFormat, root: number, address: bigint) {
  const load = (at: bigint) => {
    if (!memory.load64(Number(at >> 12n), Number(at & 0xfffn))) throw new Error('walk left RAM');
    return (BigInt(memory.hi) << 32n) | BigInt(memory.lo);
  };
  const granule = BigInt(format.granuleLog2);
  const stride = granule - 3n;
  let base = BigInt(root) << 12n;
  for (let level = BigInt(format.startLevel); ; level++) {
    const low = granule + stride * (3n - level);
    const top = level === BigInt(format.startLevel) ? BigInt(format.inputBits) : low + stride;
    const descriptor = load(base + ((address & ((1n << top) - 1n)) >> low) * 8n);
    let output = ((descriptor & 0xffff_ffff_f000n) >> granule) << granule;
    if (granule === 16n) output |= ((descriptor >> 12n) & 0xfn) << 48n;
    if (!(descriptor & 1n)) return null;
    if (level === 3n || !(descriptor & 2n)) {
      return { pa: ((output >> low) << low) | (address & ((1n << low) - 1n)), bits: descriptor & 0xfffn, level };
    }
    base = output;
  }
}

const S2_4K = tableFormat(2, 12, 48, 48);

describe('table formats', () => {
  it('choose the start level and the roots side by side that the architecture demands of stage 2', () => {
    const shape = (granule: 12 | 14 | 16, bits: number) => {
      const format = tableFormat(2, granule, bits, bits);
      return [format.startLevel, format.rootTables];
    };
    expect(shape(12, 32)).toEqual([1, 1]);
    expect(shape(12, 36)).toEqual([1, 1]);
    expect(shape(12, 40)).toEqual([1, 2]);
    expect(shape(12, 42)).toEqual([1, 8]);
    expect(shape(12, 44)).toEqual([0, 1]);
    expect(shape(12, 48)).toEqual([0, 1]);
    expect(shape(14, 36)).toEqual([2, 1]);
    expect(shape(14, 40)).toEqual([2, 16]);
    expect(shape(14, 42)).toEqual([1, 1]);
    expect(shape(14, 48)).toEqual([1, 2]);
    expect(shape(16, 42)).toEqual([2, 1]);
    expect(shape(16, 48)).toEqual([1, 1]);
    expect(shape(16, 52)).toEqual([1, 1]);
  });

  it('offer the leaf sizes of their granule', () => {
    expect(pageSizesOf(tableFormat(2, 12, 48, 48))).toBe(0x40201000n);
    expect(pageSizesOf(tableFormat(1, 14, 48, 44))).toBe(0x2004000n);
    expect(pageSizesOf(tableFormat(1, 16, 48, 48))).toBe(0x20010000n);
    expect(pageSizesOf(tableFormat(2, 16, 52, 52))).toBe(0x40020010000n);
  });

  it('set AF, write-back and S2AP in a stage 2 leaf, and AF, nG and AP in a stage 1 leaf', () => {
    const s2 = make(S2_4K);
    s2.table.map(0x1000, 0x5000, 1, PROT_READ);
    expect(walk(s2.memory, S2_4K, s2.table.rootFrame, 0x1000000n)!.bits).toBe(0x77fn);
    s2.table.map(0x1001, 0x5001, 1, RW);
    expect(walk(s2.memory, S2_4K, s2.table.rootFrame, 0x1001000n)!.bits).toBe(0x7ffn);
    const format = tableFormat(1, 12, 48, 48);
    const s1 = make(format);
    s1.table.map(0x1000, 0x5000, 1, PROT_READ);
    expect(walk(s1.memory, format, s1.table.rootFrame, 0x1000000n)!.bits).toBe(0xfc3n);
    s1.table.map(0x1001, 0x5001, 1, RW);
    expect(walk(s1.memory, format, s1.table.rootFrame, 0x1001000n)!.bits).toBe(0xf43n);
  });
});

describe('PageTable', () => {
  it('uses 1 GiB, 2 MiB and 4 KiB leaves wherever both addresses allow them', () => {
    const { memory, table } = make(S2_4K);
    table.map(0x40000 - 513, 0x80000 - 513, 513 + 0x40000 + 512 + 1, RW);
    const level = (frame: number) => Number(walk(memory, S2_4K, table.rootFrame, BigInt(frame) << 12n)!.level);
    expect(level(0x40000 - 513)).toBe(3);
    expect(level(0x40000 - 512)).toBe(2);
    expect(level(0x40000)).toBe(1);
    expect(level(0x80000)).toBe(2);
    expect(level(0x80200)).toBe(3);
    const skewed = make(S2_4K);
    skewed.table.map(0x40000, 0x80001, 1024, RW);
    expect(Number(walk(skewed.memory, S2_4K, skewed.table.rootFrame, 0x40000000n)!.level)).toBe(3);
  });

  it('reports the levels of the leaves that went, and gives back the tables that they emptied', () => {
    const { allocator, table } = make(S2_4K);
    table.map(0x40000, 0x80000, 513, RW);
    expect(table.tableFrames).toBe(4);
    table.unmap(0x40000, 513);
    expect([table.lowestLevel, table.highestLevel]).toEqual([2, 3]);
    expect(table.retired.length).toBe(3);
    expect(allocator.used).toBe(4);
    table.reclaim();
    expect(allocator.used).toBe(1);
    table.free();
    expect(allocator.used).toBe(0);
  });

  it('writes bits [51:48] of an output where the 64 KiB granule has them', () => {
    const format = tableFormat(2, 16, 52, 52);
    const { memory, table } = make(format);
    table.map(0x10, 2 ** 39 + 0x30, 16, RW);
    expect(walk(memory, format, table.rootFrame, 0x12345n)!.pa).toBe((1n << 51n) + 0x32345n);
    expect(table.lookup(0x12)).toBe(2 ** 39 + 0x32);
  });

  it('leaves nothing behind when tables run out in the middle', () => {
    for (let frames = 1; frames < 8; frames++) {
      const { allocator, table } = make(S2_4K, frames);
      expect(() => table.map(0x3ffff, 0x80001, 513 * 4, RW), `${frames} frames`).toThrow('ENOMEM');
      expect(table.lookup(0x3ffff)).toBe(-1);
      table.reclaim();
      expect(allocator.used).toBe(1);
    }
  });

  it('refuses to map twice, to split a leaf, or to unmap a hole: these are mistakes of ours', () => {
    const { table } = make(S2_4K);
    table.map(0x200, 0x400, 512, RW);
    expect(() => table.map(0x200, 0x400, 512, RW)).toThrow('mapped already');
    expect(() => table.map(0x201, 0x400, 1, RW)).toThrow('block covers');
    expect(() => table.unmap(0x200, 1)).toThrow('split a leaf');
    expect(() => table.unmap(0x201, 1)).toThrow('split a leaf');
    expect(() => table.unmap(0x600, 1)).toThrow('not mapped');
  });

  const formats = fc.constantFrom<TableFormat>(
    S2_4K,
    tableFormat(2, 12, 40, 40),
    tableFormat(2, 14, 48, 48),
    tableFormat(2, 14, 40, 40),
    tableFormat(2, 16, 52, 52),
    tableFormat(1, 12, 48, 44),
    tableFormat(1, 14, 48, 40),
  );
  const piece = fc.record({ at: fc.nat(1500), pages: fc.integer({ min: 1, max: 1200 }), skew: fc.nat(3) });

  it('translates every mapped page and no other, as an independent walk sees it', () => {
    fc.assert(
      fc.property(formats, fc.array(piece, { maxLength: 6 }), fc.nat(), (format, pieces, drop) => {
        const { memory, allocator, table } = make(format);
        const page = 2 ** (format.granuleLog2 - 12);
        const base = 2 ** (format.inputBits - 13);
        const maps: Array<{ frame: number; output: number; count: number }> = [];
        for (const { at, pages, skew } of pieces) {
          const map = { frame: base + at * page, output: 2 ** 19 + (at + skew) * page, count: pages * page };
          if (maps.some((m) => map.frame < m.frame + m.count && m.frame < map.frame + map.count)) continue;
          table.map(map.frame, map.output, map.count, RW);
          maps.push(map);
        }
        if (maps.length) {
          const [gone] = maps.splice(drop % maps.length, 1);
          table.unmap(gone!.frame, gone!.count);
          table.reclaim();
        }
        for (let frame = base - page; frame < base + 2800 * page; frame += page * 97) {
          const map = maps.find((m) => frame >= m.frame && frame < m.frame + m.count);
          const expected = map ? map.output + frame - map.frame : -1;
          expect(table.lookup(frame)).toBe(expected);
          const walked = walk(memory, format, table.rootFrame, BigInt(frame) << 12n);
          expect(walked === null ? -1 : Number(walked.pa >> 12n)).toBe(expected);
        }
        expect(allocator.used).toBe(table.tableFrames);
        for (const map of maps) table.unmap(map.frame, map.count);
        table.reclaim();
        expect(allocator.used).toBe(format.rootTables * page);
      }),
      { numRuns: 60 },
    );
  });

  it('tells clean leaves from dirty ones by DBM and AP[2], at every level, and marks none that cannot be written', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<12 | 14 | 16>(12, 14, 16),
        fc.array(fc.record({ unit: fc.nat(4), pages: fc.nat(40), write: fc.boolean(), clear: fc.boolean() }), {
          minLength: 1,
          maxLength: 5,
        }),
        fc.nat(),
        fc.nat(),
        (granule, pieces, from, size) => {
          const format = tableFormat(1, granule, 48, 48, true);
          const { memory, table } = make(format);
          const page = 2 ** (granule - 12);
          const block = 2 ** format.frameShifts[2]!;
          let end = block;
          const written = new Set<number>();
          for (const { unit, pages, write, clear } of pieces) {
            const count = (unit ? block : 0) + (pages + 1) * page;
            table.map(end, 2 ** 20 + end, count, write ? RW : PROT_READ);
            if (clear) table.readDirty(end, count, true, () => {});
            for (let frame = end; frame < end + count; frame += page) if (write && !clear) written.add(frame);
            end += count;
          }
          const first = block + (from % ((end - block) / page)) * page;
          const count = (1 + (size % ((end - first) / page))) * page;
          const seen: number[] = [];
          table.readDirty(first, count, false, (frame, frames) => {
            for (let at = frame; at < frame + frames; at += page) seen.push(at);
          });
          expect(seen).toEqual([...written].filter((frame) => frame >= first && frame < first + count));
          for (const frame of written) {
            const walked = walk(memory, format, table.rootFrame, BigInt(frame) << 12n)!;
            expect(walked.bits & 0x80n).toBe(0n);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
