import { describe, expect, it } from 'vitest';
import type { MmioDevice } from '../hardware/iommu.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { MmioWindow } from './mmio-window.ts';

/** Remembers accesses; reads give the offset. */
class Registers implements MmioDevice {
  readonly seen: [number, number, number][] = [];

  readRegister(offset: number, size: number): number {
    this.seen.push([offset, size, -1]);
    return offset;
  }

  writeRegister(offset: number, size: number, value: number): void {
    this.seen.push([offset, size, value]);
  }
}

function rig() {
  const window = new MmioWindow(0x1000_0000);
  const memory = new PhysicalMemory();
  memory.placeBacking(0, 1, window);
  const registers = new Registers();
  return { window, memory, registers };
}

describe('the window of registers', () => {
  it('splits 8-byte accesses, low word first', () => {
    const { window, memory, registers } = rig();
    window.place(0x20000, 0x1000, registers);
    memory.store64(0x20, 0x10, 0x1111, 0x2222);
    expect(registers.seen).toEqual([
      [0x10, 4, 0x1111],
      [0x14, 4, 0x2222],
    ]);
    expect(memory.load64(0x20, 0x18)).toBe(true);
    expect([memory.lo, memory.hi]).toEqual([0x18, 0x1c]);
  });

  it('leaves it to a device that wants its writes posted when they arrive', () => {
    const { window, memory, registers } = rig();
    const posted: [number, number[]][] = [];
    window.place(
      0x20000,
      0x1000,
      Object.assign(registers, { postWrite: (at: number, from: Uint8Array) => void posted.push([at, [...from]]) }),
    );
    memory.write(0x20, 0x10, Uint8Array.of(1, 2, 3, 4, 5));
    expect([posted, registers.seen]).toEqual([[[0x10, [1, 2, 3, 4, 5]]], []]);
  });

  it('aborts where nothing is', () => {
    const { window, memory, registers } = rig();
    window.place(0x20000, 0x1000, registers);
    expect(memory.load32(0x21, 0)).toBe(false);
    expect(memory.load32(0, 0)).toBe(false);
  });

  it('aligns each BAR to its size', () => {
    const { window, registers } = rig();
    expect(window.placeBar(0x1000, registers)).toBe(0x1000_0000);
    expect(window.placeBar(0x4000, registers)).toBe(0x1000_4000);
    expect(window.placeBar(0x1000, registers)).toBe(0x1000_8000);
    window.alignBars(0x10_0000);
    expect(window.placeBar(0x1000, registers)).toBe(0x1010_0000);
  });

  it('refuses two things in one place', () => {
    const { window, registers } = rig();
    window.place(0x20000, 0x20000, registers);
    expect(() => window.place(0x3f000, 0x1000, registers)).toThrow('overlap');
    expect(() => window.place(0x40000, 0x1000, registers)).not.toThrow();
  });
});
