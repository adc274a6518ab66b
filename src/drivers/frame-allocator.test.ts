import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { FrameAllocator } from './frame-allocator.ts';

const FIRST = 0x40000;

function allocator(frames: number, first = FIRST) {
  const memory = new PhysicalMemory();
  memory.addRam(FIRST, 1024);
  return { memory, frames: new FrameAllocator(memory, first, frames) };
}

describe('FrameAllocator', () => {
  it('aligns a block to its own size', () => {
    const { frames } = allocator(64, FIRST + 1);
    frames.allocate(0);
    for (const log2 of [3, 1, 4, 0]) expect(frames.allocate(log2) % 2 ** log2).toBe(0);
  });

  it('says ENOMEM when no block of that size is left and gives it after a free', () => {
    const { frames } = allocator(8);
    const low = frames.allocate(2);
    frames.allocate(2);
    expect(() => frames.allocate(0)).toThrow('ENOMEM');
    frames.free(low);
    expect(frames.allocate(2)).toBe(low);
  });

  it('hands out zeros even where an earlier owner wrote', () => {
    const { memory, frames } = allocator(1);
    const frame = frames.allocate(0);
    memory.store64(frame, 8, 0xffffffff, 1);
    frames.free(frame);
    expect(frames.allocate(0)).toBe(frame);
    memory.load64(frame, 8);
    expect([memory.lo, memory.hi]).toEqual([0, 0]);
  });

  it('refuses a free of what it did not give', () => {
    const { frames } = allocator(8);
    const frame = frames.allocate(1);
    expect(() => frames.free(frame + 1)).toThrow('not the first of a block');
    frames.free(frame);
    expect(() => frames.free(frame)).toThrow('not the first of a block');
  });

  it('never gives overlapping blocks and is whole again when all are back', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5 }),
        fc.integer({ min: 40, max: 200 }),
        fc.array(fc.oneof(fc.record({ take: fc.nat(4) }), fc.record({ give: fc.nat() })), { maxLength: 60 }),
        (skew, size, steps) => {
          const { frames } = allocator(size, FIRST + skew);
          const out: Array<{ frame: number; frames: number }> = [];
          for (const step of steps) {
            if ('give' in step) {
              if (out.length) frames.free(out.splice(step.give % out.length, 1)[0]!.frame);
              continue;
            }
            let frame: number;
            try {
              frame = frames.allocate(step.take);
            } catch {
              continue;
            }
            const block = { frame, frames: 2 ** step.take };
            expect(frame).toBeGreaterThanOrEqual(FIRST + skew);
            expect(frame + block.frames).toBeLessThanOrEqual(FIRST + skew + size);
            for (const other of out) {
              expect(frame + block.frames <= other.frame || other.frame + other.frames <= frame).toBe(true);
            }
            out.push(block);
          }
          expect(frames.used).toBe(out.reduce((sum, block) => sum + block.frames, 0));
          for (const block of out) frames.free(block.frame);
          expect(frames.used).toBe(0);
          for (let i = 0; i < size; i++) frames.allocate(0);
          expect(() => frames.allocate(0)).toThrow('ENOMEM');
        },
      ),
      { numRuns: 100 },
    );
  });
});
