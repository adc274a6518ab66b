import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM } from '../../hardware/iommu.ts';
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import { FrameAllocator } from '../frame-allocator.ts';
import { CommandQueue, SMMU_QUEUE } from './command-queue.ts';
import { CommandBatch } from './commands.ts';
import { addAtcRange, addRange, type TableChange } from './invalidation.ts';
import { Registers } from './registers.ts';
import { tableFormat } from './table-format.ts';

const PROD = 0x98;
const CONS = 0x9c;
const GERROR = 0x60;
const GERRORN = 0x64;

/** An SMMU that records: it consumes everything at once, or stops at commands with opcode 0xee as at an illegal one. */
function double(log2Entries: number, hangs = false) {
  const memory = new PhysicalMemory();
  memory.addRam(0x1000, 512);
  const registers = new Map<number, number>();
  const seen: number[][] = [];
  const prods: number[] = [];
  const value = (offset: number) => registers.get(offset) ?? 0;
  const wrap = 2 ** (log2Entries + 1);
  const consume = () => {
    if (hangs || (value(GERROR) ^ value(GERRORN)) & 1) return;
    let cons = value(CONS) & 0xfffff;
    for (; cons !== value(PROD); cons = (cons + 1) % wrap) {
      const at = (cons % 2 ** log2Entries) * 16;
      const words = [0, 4, 8, 12].map((word) => (memory.load32(0x1000, at + word) ? memory.lo : -1));
      if (words[0] === 0xee) {
        registers.set(CONS, cons | (1 << 24));
        registers.set(GERROR, value(GERROR) ^ 1);
        return;
      }
      seen.push(words);
    }
    registers.set(CONS, cons);
  };
  const mmio = {
    readRegister: (offset: number) => value(offset),
    writeRegister: (offset: number, _size: number, written: number) => {
      registers.set(offset, written);
      if (offset === PROD) prods.push(written);
      if (offset === PROD || offset === GERRORN) consume();
    },
  };
  const notes: string[] = [];
  const frames = new FrameAllocator(memory, 0x1000, 1);
  const note = (text: string) => void notes.push(text);
  const queue = new CommandQueue(new Registers(mmio), SMMU_QUEUE, memory, frames, log2Entries, note);
  queue.install();
  prods.length = 0;
  seen.length = 0;
  return { queue, registers, seen, prods, notes };
}

describe('CommandQueue', () => {
  it('writes the base with its size and starts from zero', () => {
    const { registers } = double(4);
    expect(registers.get(0x90)).toBe(0x1000000 | 4);
    expect(registers.get(0x94)).toBe(0x40000000);
    expect([registers.get(PROD), registers.get(CONS)]).toEqual([0, 0]);
  });

  it('puts many commands and one SYNC behind one write of PROD', () => {
    const { queue, seen, prods } = double(4);
    const batch = new CommandBatch();
    batch.invalidateSte(0x123);
    batch.invalidateVmid(7);
    batch.invalidateStage1(7);
    batch.invalidateAsid(9);
    batch.invalidateAllConfiguration();
    batch.invalidateAtc(0x45, NO_SUBSTREAM);
    queue.submit(batch);
    expect(prods).toEqual([7]);
    expect(seen).toEqual([
      [0x03, 0x123, 1, 0],
      [0x28, 7, 0, 0],
      [0x10, 7, 0, 0],
      [0x11, 9 << 16, 0, 0],
      [0x04, 0, 31, 0],
      [0x40, 0x45, 52, 0],
      [0x46, 0, 0, 0],
    ]);
    expect(batch.length).toBe(0);
  });

  it('wraps, and feeds a batch larger than the queue in pieces', () => {
    const { queue, seen, prods } = double(2);
    for (let round = 0; round < 3; round++) {
      const batch = new CommandBatch();
      for (let i = 0; i < 9; i++) batch.invalidateAsid(i + round * 10);
      queue.submit(batch);
    }
    expect(prods.length).toBe(9);
    expect(prods.every((prod) => prod < 8)).toBe(true);
    expect(seen.filter((words) => words[0] === 0x11).map((words) => words[1]! >>> 16)).toEqual(
      [0, 1, 2].flatMap((round) => Array.from({ length: 9 }, (_, i) => i + round * 10)),
    );
    expect(seen.filter((words) => words[0] === 0x46).length).toBe(3);
  });

  it('puts a SYNC in the place of an illegal command and goes on', () => {
    const { queue, seen, notes } = double(3);
    const batch = new CommandBatch();
    batch.invalidateAsid(1);
    batch.raw(0xee, 0, 0, 0);
    batch.invalidateAsid(2);
    queue.submit(batch);
    expect(seen.map((words) => words[0])).toEqual([0x11, 0x46, 0x11, 0x46]);
    expect(notes).toEqual(['command 0xee at index 1 of the command queue: error 1']);
  });

  it('says ETIMEDOUT when the SMMU does not move', () => {
    const { queue } = double(3, true);
    expect(() => queue.submit(new CommandBatch())).toThrow('ETIMEDOUT');
  });
});

describe('invalidation commands', () => {
  const change = (frame: number, count: number, level = 3, tables = false): TableChange => ({
    format: tableFormat(2, 12, 48, 48),
    frame,
    count,
    lowestLevel: level,
    highestLevel: level,
    tables,
  });
  const words = (batch: CommandBatch) =>
    Array.from({ length: batch.length }, (_, i) => [...batch.words.subarray(i * 4, i * 4 + 4)]);

  it('write a range in base 32: NUM is a digit less one, SCALE its weight, with the level of the leaves', () => {
    const batch = new CommandBatch();
    expect(addRange(batch, true, 0x2a, 5, 0, change(0x123456, 1 + 3 * 32 + 31 * 1024))).toBe(true);
    expect(words(batch)).toEqual([
      [0x2a, 5, 0x23456000 | 1, 1],
      [0x2a | (2 << 12) | (5 << 20), 5, 0x23457000 | 1 | (3 << 8) | (1 << 10), 1],
      [0x2a | (30 << 12) | (10 << 20), 5, 0x234b7000 | 1 | (3 << 8) | (1 << 10), 1],
    ]);
  });

  it('drop table pointers too, without a level hint, when tables went', () => {
    const batch = new CommandBatch();
    addRange(batch, true, 0x12, 0, 9, change(0x200, 512, 2, true));
    expect(words(batch)).toEqual([[0x12 | (15 << 12) | (5 << 20), 9 << 16, 0x200000 | (1 << 10), 0]]);
  });

  it('step by the leaf size without range support', () => {
    const batch = new CommandBatch();
    addRange(batch, false, 0x2a, 5, 0, change(0x400, 1024, 2));
    expect(words(batch).map((one) => one[2])).toEqual([0x400001, 0x600001]);
    expect(addRange(batch, false, 0x2a, 5, 0, change(0, 513))).toBe(false);
    expect(addRange(batch, true, 0x2a, 5, 0, change(0, 2 ** 36))).toBe(false);
    expect(batch.length).toBe(2);
  });

  it('cover a range of an ATC with the smallest aligned power of two around it', () => {
    const batch = new CommandBatch();
    addAtcRange(batch, 1, NO_SUBSTREAM, 8, 4);
    addAtcRange(batch, 1, NO_SUBSTREAM, 7, 4);
    addAtcRange(batch, 1, 0x77, 5, 1);
    expect(words(batch).map((one) => [one[2]! >>> 12, one[2]! & 63])).toEqual([
      [8, 2],
      [0, 4],
      [5, 0],
    ]);
    // SSV is bit 11, the SubstreamID stands above it.
    expect(words(batch).map(([first]) => first)).toEqual([0x40, 0x40, 0x77840]);
  });
});
