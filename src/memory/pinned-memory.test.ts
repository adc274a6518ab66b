import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory, SLOT_FRAMES } from './physical-memory.ts';
import { PinnedMemory } from './pinned-memory.ts';
import type { MemoryObject } from './process-memory.ts';

/** A process whose byte at any address is that address, and which keeps what is written. */
const processOf = (name: string): MemoryObject & { written: Map<number, number> } => {
  const written = new Map<number, number>();
  return {
    name,
    written,
    read: (address, into) => {
      for (let i = 0; i < into.length; i++) into[i] = written.get(address + i) ?? (address + i) & 0xff;
      return true;
    },
    write: (address, from) => {
      from.forEach((byte, i) => {
        written.set(address + i, byte);
      });
      return true;
    },
  };
};

const pinned = (fragmentSeed?: number, slots = 8) => {
  const memory = new PhysicalMemory();
  const options = { firstSlot: 64, slots };
  return {
    memory,
    pins: new PinnedMemory(memory, fragmentSeed === undefined ? options : { ...options, fragmentSeed }),
  };
};

describe('pinned memory', () => {
  it('gives user pages frames that lead to their bytes, both ways', () => {
    const { memory, pins } = pinned();
    const process = processOf('p');
    expect(pins.pin(process, 0x7f0012345, 3)).toBe(true);
    const frame = pins.frameOf(process, 0x7f0012345);
    expect(frame).toBeGreaterThanOrEqual(64 * SLOT_FRAMES);
    const bytes = new Uint8Array(2);
    expect(memory.read(frame, 0x7f, bytes)).toBe(true);
    expect([...bytes]).toEqual([0x7f, 0x80]);
    expect(memory.write(frame + 1, 5, Uint8Array.of(0xee))).toBe(true);
    expect(process.written.get(0x7f0012346 * 4096 + 5)).toBe(0xee);
  });

  it.each([
    [9, 512],
    [18, SLOT_FRAMES],
  ])('shuffles huge pages of 2^%i frames as wholes', (log2PageFrames, frames) => {
    const memory = new PhysicalMemory();
    const pins = new PinnedMemory(memory, { firstSlot: 64, slots: 8, fragmentSeed: 77, log2PageFrames });
    const process = processOf('p');
    pins.pin(process, 0, SLOT_FRAMES);
    expect(pins.contiguous(process, 0, SLOT_FRAMES)).toBe(frames);
    expect(pins.frameOf(process, 0) % frames).toBe(0);
    const pages = Array.from({ length: SLOT_FRAMES / frames }, (_, page) => pins.frameOf(process, page * frames));
    expect(new Set(pages).size).toBe(pages.length);
    memory.write(pins.frameOf(process, frames / 2 + 1), 5, Uint8Array.of(0xee));
    expect([...process.written]).toEqual([[(frames / 2 + 1) * 4096 + 5, 0xee]]);
  });

  it('keeps user memory contiguous by default, at equal offsets in a GiB and beyond it', () => {
    const { pins } = pinned();
    const process = processOf('p');
    pins.pin(process, SLOT_FRAMES - 100, 2 * SLOT_FRAMES);
    expect(pins.frameOf(process, SLOT_FRAMES - 100) % SLOT_FRAMES).toBe(SLOT_FRAMES - 100);
    expect(pins.contiguous(process, SLOT_FRAMES - 100, 2 * SLOT_FRAMES)).toBe(2 * SLOT_FRAMES);
  });

  it('shuffles pages by a seed: a permutation, the same for the same seed, rarely two in a row', () => {
    const { memory, pins } = pinned(1234);
    const process = processOf('p');
    pins.pin(process, 0, 4096);
    const frames = Array.from({ length: 4096 }, (_, page) => pins.frameOf(process, page));
    expect(new Set(frames).size).toBe(4096);
    expect(frames.filter((frame, i) => frames[i + 1] === frame + 1).length).toBeLessThan(10);
    expect(pins.contiguous(process, 0, 4096)).toBe(1);
    const bytes = new Uint8Array(1);
    fc.assert(
      fc.property(fc.nat(4095), (page) => {
        memory.write(frames[page]!, page & 0xfff, Uint8Array.of(0x5a));
        expect(process.written.get(page * 4096 + (page & 0xfff))).toBe(0x5a);
        return memory.read(frames[page]!, 1, bytes);
      }),
    );
    const again = pinned(1234).pins;
    again.pin(process, 0, 4096);
    expect(again.frameOf(process, 77)).toBe(frames[77]);
    const other = pinned(99).pins;
    other.pin(process, 0, 4096);
    expect(other.frameOf(process, 77)).not.toBe(frames[77]);
  });

  it('keeps processes apart that have pages at the same addresses', () => {
    const { pins } = pinned();
    const [a, b] = [processOf('a'), processOf('b')];
    pins.pin(a, 5, 1);
    pins.pin(b, 5, 1);
    expect(pins.frameOf(a, 5)).not.toBe(pins.frameOf(b, 5));
  });

  it('ends where it began: after the last unpin a frame leads nowhere', () => {
    const { memory, pins } = pinned();
    const process = processOf('p');
    pins.pin(process, 10, 20);
    pins.pin(process, 15, 1);
    const frame = pins.frameOf(process, 15);
    pins.unpin(process, 10, 20);
    expect(pins.pinnedFrames).toBe(1);
    expect(memory.load64(frame, 0)).toBe(true);
    pins.unpin(process, 15, 1);
    expect(memory.load64(frame, 0)).toBe(false);
    expect([pins.pinnedFrames, pins.windowsInUse]).toEqual([0, 0]);
    expect(() => pins.unpin(process, 15, 1)).toThrow(/not pinned/);
  });

  it('refuses to pin more than the window holds and keeps nothing of the attempt', () => {
    const { pins } = pinned(undefined, 2);
    const process = processOf('p');
    expect(pins.pin(process, 0, 3 * SLOT_FRAMES)).toBe(false);
    expect([pins.pinnedFrames, pins.windowsInUse]).toEqual([0, 0]);
    expect(pins.pin(process, 0, 2 * SLOT_FRAMES)).toBe(true);
  });

  it('keeps pinned frames as RAM when what is behind them goes: zeros, then what is written', () => {
    const { memory, pins } = pinned(5);
    const process = processOf('p');
    pins.pin(process, 100, 2);
    const frame = pins.frameOf(process, 101);
    memory.write(frame, 0, Uint8Array.of(7));
    process.read = process.write = () => false;
    const bytes = Uint8Array.of(1, 1);
    expect(memory.read(frame, 0, bytes)).toBe(true);
    expect([...bytes]).toEqual([0, 0]);
    memory.write(frame, 0, Uint8Array.of(9));
    pins.write(process, 101 * 4096 - 1, Uint8Array.of(3, 8));
    pins.read(process, 101 * 4096, bytes);
    expect([...bytes]).toEqual([8, 0]);
    pins.unpin(process, 100, 2);
    expect(memory.read(frame, 0, bytes)).toBe(false);
  });

  it('holds an object as long as some of its pages are pinned', () => {
    const { pins } = pinned();
    let holders = 0;
    const object = { ...processOf('f'), hold: () => void holders++, drop: () => void holders-- };
    pins.pin(object, 0, 2);
    pins.pin(object, 1, 1);
    pins.unpin(object, 0, 2);
    expect(holders).toBe(1);
    pins.unpin(object, 1, 1);
    expect(holders).toBe(0);
    expect(pins.pin(object, 0, 9 * SLOT_FRAMES)).toBe(false);
    expect(holders).toBe(0);
  });
});

/** A file that can be read and written in place, of `bytes` bytes. */
const fileOf = (bytes: number) => {
  const words = new Uint32Array(2 ** 28);
  const file = {
    name: 'f',
    bytes,
    shown: 0,
    words,
    read: () => false,
    write: () => false,
    openWindow: (_gigabyte: number, first: number) => {
      const extend = (end: number): boolean => {
        file.shown = Math.max(file.shown, end);
        return end <= file.bytes;
      };
      extend(first);
      return { words, extend, close: () => void (file.shown = 0) };
    },
  };
  return file;
};

describe('pinned memory that can be reached in place', () => {
  it.each([
    ['contiguous', undefined],
    ['fragmented', 77],
  ])('is read and written without a call, %s', (_, seed) => {
    const { memory, pins } = pinned(seed);
    const file = fileOf(2 ** 22);
    pins.pin(file, 600, 2);
    const frame = pins.frameOf(file, 601);
    file.words[601 * 1024 + 2] = 0x1234;
    expect([memory.load64(frame, 8), memory.lo, memory.hi]).toEqual([true, 0x1234, 0]);
    memory.store32(frame, 12, 0x55);
    expect(file.words[601 * 1024 + 3]).toBe(0x55);
    memory.write(frame, 14, Uint8Array.of(1));
    const bytes = new Uint8Array(4);
    memory.read(frame, 12, bytes);
    expect([...bytes]).toEqual([0x55, 0, 1, 0]);
    pins.write(file, 601 * 4096 - 1, Uint8Array.of(9, 8));
    expect([file.words[600 * 1024 + 1023]! >>> 24, file.words[601 * 1024]! & 0xff]).toEqual([9, 8]);
    pins.read(file, 601 * 4096 + 12, bytes);
    expect([...bytes]).toEqual([0x55, 0, 1, 0]);
  });

  it('is never kept by those who keep words of RAM, since it may go', () => {
    const { memory, pins } = pinned();
    const file = fileOf(2 ** 20);
    pins.pin(file, 0, 1);
    const frame = pins.frameOf(file, 0);
    expect([memory.ramWords(frame), memory.load64(frame, 0)]).toEqual([null, true]);
    pins.unpin(file, 0, 1);
    expect([memory.load64(frame, 0), file.shown, pins.windowsInUse]).toEqual([false, 0, 0]);
  });

  it('grows with what is pinned of it, and cannot be pinned where it cannot be reached', () => {
    const { pins } = pinned();
    const file = fileOf(4 * 4096);
    expect([pins.pin(file, 0, 2), file.shown]).toEqual([true, 2 * 4096]);
    expect([pins.pin(file, 3, 1), file.shown]).toEqual([true, 4 * 4096]);
    expect([pins.pin(file, 3, 2), pins.pinnedFrames]).toEqual([false, 3]);
    pins.unpin(file, 0, 2);
    pins.unpin(file, 3, 1);
    expect([pins.pin(file, 4, 1), pins.windowsInUse]).toEqual([false, 0]);
  });
});

describe('memory that has its place already', () => {
  it('is found there, however often and with whatever seed it is pinned, and takes no slot', () => {
    const { pins } = pinned(7, 1);
    const bar: MemoryObject = { name: 'BAR0', firstFrame: 0x10000, read: () => false, write: () => false };
    for (let i = 0; i < 2; i++) expect(pins.pin(bar, 1, 4)).toBe(true);
    expect([pins.frameOf(bar, 3), pins.contiguous(bar, 1, 4)]).toEqual([0x10003, 4]);
    expect([pins.pinnedFrames, pins.windowsInUse]).toEqual([0, 0]);
    pins.unpin(bar, 1, 4);
  });
});
