import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import { GRANULES, stage2StartAllowed, startLevelOf } from './granule.ts';
import { WALK_ABORT, WALK_OK, WALK_PERMISSION, WALK_TRANSLATION } from './leaf.ts';
import { TableRoot } from './table-root.ts';
import { type Answer, unreadable, walk } from './testing.ts';
import { Vmsav8Walker } from './vmsav8.ts';

const RAM_FRAMES = 0x4000;
const ROOT_FRAME = 0x200;

function machine() {
  const memory = new PhysicalMemory();
  memory.addRam(0, RAM_FRAMES);
  const read = (address: bigint): bigint | Answer =>
    memory.load64(Number(address >> 12n), Number(address & 0xfffn))
      ? BigInt(memory.lo >>> 0) | (BigInt(memory.hi >>> 0) << 32n)
      : unreadable(address);
  return { memory, walker: new Vmsav8Walker(memory), read };
}

function store(memory: PhysicalMemory, address: bigint, value: bigint): void {
  const low = Number(value & 0xffffffffn);
  if (!memory.store64(Number(address >> 12n), Number(address & 0xfffn), low, Number(value >> 32n)))
    throw new Error('hole');
}

/** One path of descriptors towards a leaf, each of which may be spoilt. */
const path = fc.record({
  log2Bytes: fc.constantFrom(12, 14, 16),
  inputBits: fc.integer({ min: 25, max: 48 }),
  oas: fc.constantFrom(44, 48, 52),
  outputBits: fc.constantFrom(32, 36, 40, 44, 48, 52),
  address: fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }),
  leafLevel: fc.integer({ min: 1, max: 3 }),
  leafAddress: fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }),
  leafBits: fc.bigInt({ min: 0n, max: 0xfffn }),
  contiguous: fc.boolean(),
  affd: fc.boolean(),
  spoilLevel: fc.integer({ min: 0, max: 12 }),
  spoilBit: fc.integer({ min: 0, max: 63 }),
});

describe('VMSAv8-64 walk', () => {
  it('answers as a walker in bigint does, for every granule, size and level, with one spoilt bit', () => {
    fc.assert(
      fc.property(path, (c) => {
        const { memory, walker, read } = machine();
        const granule = GRANULES[c.log2Bytes]!;
        const outputBits = Math.min(c.outputBits, c.oas);
        const wide = c.oas === 52 && c.log2Bytes === 16;
        const start = startLevelOf(granule, c.inputBits);
        const address = c.address & ((1n << BigInt(c.inputBits)) - 1n);
        const leafLevel = Math.max(start, c.leafLevel);
        const g = BigInt(c.log2Bytes);
        let table = BigInt(ROOT_FRAME) << 12n;
        for (let level = start; level <= leafLevel; level++) {
          const lsb = g + BigInt(3 - level) * (g - 3n);
          const width = level === start ? BigInt(c.inputBits) - lsb : g - 3n;
          const place = table + ((address >> lsb) & ((1n << width) - 1n)) * 8n;
          const next = BigInt(ROOT_FRAME + (level + 1) * 0x40) << 12n;
          let descriptor = next | 3n;
          if (level === leafLevel) {
            const limit = (1n << BigInt(Math.min(outputBits, wide ? 52 : 48))) - 1n;
            let out = c.leafAddress & limit & ~((1n << lsb) - 1n);
            if (wide) out = (out & 0xffffffff0000n) | ((out >> 36n) & 0xf000n);
            if (c.contiguous) out = (out & ~(0x3ffn << lsb)) | (address & (0x3ffn << lsb)) | (1n << 52n);
            descriptor = out | (c.leafBits & 0xffcn) | (level === 3 ? 3n : 1n);
          }
          if (level === c.spoilLevel) descriptor ^= 1n << BigInt(c.spoilBit);
          store(memory, place, descriptor);
          table = next;
        }
        const root = new TableRoot();
        root.configure(granule, c.inputBits, start, ROOT_FRAME, 0, outputBits, c.oas);
        root.accessFlagFaults = !c.affd;
        const output = BigInt(wide ? outputBits : Math.min(outputBits, 48));
        const root64 = BigInt(ROOT_FRAME) << 12n;
        const shape = {
          granule: g,
          input: BigInt(c.inputBits),
          start: BigInt(start),
          root: root64,
          output,
          wide,
          affd: c.affd,
        };
        const want = walk(read, shape, address);
        for (let again = 0; again < 2; again++) {
          const frame = Number(address >> 12n);
          const first: Answer = { outcome: walker.stage1(root, null, frame) };
          const second: Answer = { outcome: walker.stage2(root, frame) };
          if (want.outcome === WALK_OK) {
            first.address = (BigInt(walker.s1Frame) << 12n) | (address & 0xfffn);
            first.size = 1n << BigInt(walker.s1Log2Frames + 12);
            second.address = (BigInt(walker.s2Frame) << 12n) | (address & 0xfffn);
            second.size = 1n << BigInt(walker.s2Log2Frames + 12);
          }
          const { outcome, address: out, size } = want;
          expect(first).toEqual({ outcome, address: out, size });
          expect(second).toEqual({ outcome, address: out, size });
        }
      }),
      { numRuns: 2000, seed: 70 },
    );
  });

  it('sees a descriptor that software changes after it was read', () => {
    const { memory, walker } = machine();
    const root = new TableRoot();
    root.configure(GRANULES[12]!, 30, 2, ROOT_FRAME, 0, 48, 48);
    expect(walker.stage2(root, 0)).toBe(WALK_TRANSLATION);
    store(memory, BigInt(ROOT_FRAME) << 12n, 0x4c1n | (0x200000n << 1n));
    expect(walker.stage2(root, 5)).toBe(WALK_OK);
    store(memory, BigInt(ROOT_FRAME) << 12n, 0x4c1n | (0x200000n << 2n));
    expect([walker.stage2(root, 5), walker.s2Frame]).toEqual([WALK_OK, 0x805]);
  });

  it('takes concatenated root tables as one table', () => {
    const { memory, walker } = machine();
    const root = new TableRoot();
    // 4 KiB, 40 bits from level 1: two tables, so bit 39 chooses the second page.
    root.configure(GRANULES[12]!, 40, 1, ROOT_FRAME + 1, 0x7f8, 48, 48);
    store(memory, (BigInt(ROOT_FRAME) << 12n) + 513n * 8n, 0x4c1n | (7n << 30n));
    expect(walker.stage2(root, (513 * 2 ** 18) | 0)).toBe(WALK_OK);
    expect(walker.s2Frame).toBe(7 * 2 ** 18);
  });

  it('reports where a descriptor could not be read', () => {
    const { memory, walker } = machine();
    const root = new TableRoot();
    root.configure(GRANULES[12]!, 39, 1, ROOT_FRAME, 0, 48, 48);
    store(memory, (BigInt(ROOT_FRAME) << 12n) + 8n, (0xabcde000n << 8n) | 3n);
    expect(walker.stage2(root, 2 ** 18 + 512 * 3)).toBe(WALK_ABORT);
    expect([walker.fetchFrame, walker.fetchOffset]).toEqual([0xabcde00, 3 * 8]);
  });

  it('translates each stage 1 table through stage 2 and names the IPA that stage 2 refused', () => {
    const { memory, walker } = machine();
    const first = new TableRoot();
    const second = new TableRoot();
    first.configure(GRANULES[12]!, 30, 2, 0x40000, 0, 48, 48);
    second.configure(GRANULES[12]!, 39, 1, ROOT_FRAME, 0, 48, 48);
    expect(walker.stage1(first, second, 0)).toBe(WALK_TRANSLATION);
    expect([walker.faultInStage2, walker.faultFrame]).toEqual([true, 0x40000]);
    // IPA 1 GiB.. to PA 0 by one block without read permission, then with it.
    store(memory, (BigInt(ROOT_FRAME) << 12n) + 8n, 0x481n);
    expect(walker.stage1(first, second, 0)).toBe(WALK_PERMISSION);
    store(memory, (BigInt(ROOT_FRAME) << 12n) + 8n, 0x441n);
    store(memory, 0n, 0xc41n | (0x200000n << 3n));
    expect([walker.stage1(first, second, 1), walker.s1Frame]).toEqual([WALK_OK, 0x1001]);
    // The leaf is Device memory (MemAttr 0b0000), which S2PTW does not allow for tables.
    second.protectsTables = true;
    expect(walker.stage1(first, second, 1)).toBe(WALK_PERMISSION);
  });
});

describe('stage 1 permissions', () => {
  const READ_WRITE = 0b011;
  const EXECUTE = 0b100;
  const cases: Array<[string, bigint, bigint, number]> = [
    ['AP = 00: privileged only', 0n, 0n, (READ_WRITE << 3) | EXECUTE | (EXECUTE << 3)],
    ['AP = 01: everybody, so never privileged-executable', 0x40n, 0n, READ_WRITE | EXECUTE | (READ_WRITE << 3)],
    ['AP = 10: privileged read', 0x80n, 0n, EXECUTE | (0b101 << 3)],
    ['AP = 11: everybody reads', 0xc0n, 0n, 0b101 | (0b101 << 3)],
    ['UXN', 0xc0n | (1n << 54n), 0n, 0b001 | (0b101 << 3)],
    ['PXN', 0xc0n | (1n << 53n), 0n, 0b101 | (0b001 << 3)],
    ['APTable takes writes', 0x40n, 1n << 62n, 0b101 | (0b101 << 3)],
    ['APTable takes the unprivileged', 0x40n, 1n << 61n, EXECUTE | (0b111 << 3)],
    ['UXNTable and PXNTable', 0xc0n, 3n << 59n, 0b001 | (0b001 << 3)],
  ];

  it.each(cases)('%s', (_name, leaf, table, permissions) => {
    const { memory, walker } = machine();
    const root = new TableRoot();
    root.configure(GRANULES[12]!, 30, 2, ROOT_FRAME, 0, 48, 48);
    store(memory, BigInt(ROOT_FRAME) << 12n, table | (BigInt(ROOT_FRAME + 1) << 12n) | 3n);
    store(memory, BigInt(ROOT_FRAME + 1) << 12n, leaf | 0x400403n);
    expect(walker.stage1(root, null, 0)).toBe(WALK_OK);
    expect(walker.s1Permissions).toBe(permissions);
    root.hierarchical = false;
    walker.stage1(root, null, 0);
    if (table !== 0n) expect(walker.s1Permissions).not.toBe(permissions);
  });
});

describe('stage 2 start level', () => {
  it.each([
    // granule, input bits, level, allowed (DDI 0487, D8.2.8: at most 16 concatenated tables, at least 2 entries)
    [12, 39, 1, true],
    [12, 40, 1, true],
    [12, 43, 1, true],
    [12, 44, 1, false],
    [12, 39, 0, false],
    [12, 40, 0, true],
    [12, 30, 1, false],
    [12, 31, 1, true],
    [16, 42, 2, true],
    [16, 46, 2, true],
    [16, 47, 2, false],
    [14, 36, 2, true],
    [14, 25, 2, false],
  ])('granule 2^%i, %i bits, level %i: %s', (log2Bytes, bits, level, allowed) => {
    expect(stage2StartAllowed(GRANULES[log2Bytes]!, bits, level)).toBe(allowed);
  });
});
