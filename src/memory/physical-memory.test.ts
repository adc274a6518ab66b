import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Backing, PHYSICAL_FRAMES, PhysicalMemory, SLOT_FRAMES } from './physical-memory.ts';

const MiB2 = 512;

const ram = (firstFrame: number, frames: number): PhysicalMemory => {
  const memory = new PhysicalMemory();
  memory.addRam(firstFrame, frames);
  return memory;
};

describe('physical memory', () => {
  it('reads zeros from RAM that was never written, and aborts where nothing is', () => {
    const memory = ram(MiB2, MiB2);
    expect(memory.load64(MiB2, 0)).toBe(true);
    expect([memory.lo, memory.hi]).toEqual([0, 0]);
    expect(memory.load64(MiB2 - 1, 4088)).toBe(false);
    expect(memory.load64(2 * MiB2, 0)).toBe(false);
    expect(memory.store64(2 * MiB2, 0, 1, 1)).toBe(false);
    expect(memory.store32(0, 0, 1)).toBe(false);
    expect(memory.load32(0, 0)).toBe(false);
  });

  it('is little endian: bytes, words and double words are the same memory', () => {
    const memory = ram(0, MiB2);
    memory.write(3, 8, Uint8Array.of(0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0xf1));
    expect(memory.load64(3, 8)).toBe(true);
    expect([memory.lo, memory.hi]).toEqual([0x55667788, 0xf1223344]);
    expect(memory.load32(3, 12)).toBe(true);
    expect(memory.lo).toBe(0xf1223344);
    memory.store32(3, 8, 0xfffffffe);
    const bytes = new Uint8Array(2);
    memory.read(3, 7, bytes);
    expect([...bytes]).toEqual([0, 0xfe]);
  });

  it('keeps the pages of a machine of 15 TiB apart without allocating it', () => {
    const memory = ram(2 ** 18, 15 * 2 ** 28);
    const frames = [2 ** 18, 2 ** 28 + 5, 15 * 2 ** 28 + 2 ** 18 - 1];
    frames.forEach((frame, i) => {
      expect(memory.store64(frame, 16, i + 1, frame % 256)).toBe(true);
    });
    frames.forEach((frame, i) => {
      expect(memory.load64(frame, 16)).toBe(true);
      expect([memory.lo, memory.hi]).toEqual([i + 1, frame % 256]);
      expect(memory.load64(frame % 2 ? frame - 1 : frame + 1, 16)).toBe(true);
      expect(memory.lo).toBe(0);
    });
  });

  it('reads and writes across frames, chunks and slots like one array of bytes', () => {
    const first = 2 * SLOT_FRAMES - 2 * MiB2;
    const memory = ram(first, 4 * MiB2);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4 * MiB2 * 4096 - 10_000 }),
        fc.uint8Array({ minLength: 1, maxLength: 10_000 }),
        (at, bytes) => {
          expect(memory.write(first + Math.floor(at / 4096), at % 4096, bytes)).toBe(true);
          const back = new Uint8Array(bytes.length);
          expect(memory.read(first + Math.floor(at / 4096), at % 4096, back)).toBe(true);
          expect(back).toEqual(bytes);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('stops a transfer at the first frame that aborts and keeps what went before', () => {
    const memory = ram(0, MiB2);
    expect(memory.write(MiB2 - 1, 4092, Uint8Array.of(1, 2, 3, 4, 5, 6))).toBe(false);
    expect(memory.load32(MiB2 - 1, 4092)).toBe(true);
    expect(memory.lo).toBe(0x04030201);
  });

  it('refuses frames beyond 52 bits', () => {
    const memory = ram(PHYSICAL_FRAMES - MiB2, MiB2);
    expect(memory.read(PHYSICAL_FRAMES - 1, 4095, new Uint8Array(2))).toBe(false);
    expect(memory.write(PHYSICAL_FRAMES + 7, 0, new Uint8Array(1))).toBe(false);
    expect(() => memory.addRam(PHYSICAL_FRAMES, MiB2)).toThrow(/52-bit/);
  });

  it('hands accesses of a backing to it, with frame and offset, and takes it away again', () => {
    const memory = new PhysicalMemory();
    const seen: Array<[string, number, number, number]> = [];
    const backing: Backing = {
      name: 'probe',
      read: (frame, offset, into) => {
        seen.push(['read', frame, offset, into.length]);
        into.fill(0xa5);
        return true;
      },
      write: (frame, offset, from) => {
        seen.push(['write', frame, offset, from.length]);
        return false;
      },
    };
    memory.placeBacking(7, 1, backing);
    expect(memory.load64(7 * SLOT_FRAMES + 9, 8)).toBe(true);
    expect([memory.lo, memory.hi]).toEqual([0xa5a5a5a5, 0xa5a5a5a5]);
    expect(memory.store32(7 * SLOT_FRAMES, 4, 1)).toBe(false);
    expect(seen).toEqual([
      ['read', 7 * SLOT_FRAMES + 9, 8, 8],
      ['write', 7 * SLOT_FRAMES, 4, 4],
    ]);
    expect(() => memory.placeBacking(7, 1, backing)).toThrow(/overlaps/);
    expect(() => memory.addRam(7 * SLOT_FRAMES, MiB2)).toThrow(/overlaps probe/);
    memory.placeBacking(7, 1, undefined);
    expect(memory.load64(7 * SLOT_FRAMES, 0)).toBe(false);
  });
});
