import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BufferMemory } from './testing.ts';
import { UserBitmap } from './user-bitmap.ts';

const BASE = 0x1000;
const BYTES = 3 * 4096;

function bitmap(at = 0) {
  const memory = new BufferMemory(BASE, BYTES);
  return { memory, bits: new UserBitmap(memory, BigInt(BASE + at)) };
}

describe('a bitmap in user memory', () => {
  it('has bit n in byte n / 8, at any address', () => {
    const { memory, bits } = bitmap(3);
    bits.set(0, 0);
    bits.set(9, 12);
    bits.set(16, 39);
    bits.flush();
    expect([...memory.bytes.subarray(2, 10)]).toEqual([0, 0x01, 0x1e, 0xff, 0xff, 0xff, 0, 0]);
  });

  it('keeps the bits that the program has set, and all bytes around', () => {
    const { memory, bits } = bitmap();
    memory.bytes.fill(0x80, 0, 4);
    bits.set(8, 8);
    bits.flush();
    expect([...memory.bytes.subarray(0, 4)]).toEqual([0x80, 0x81, 0x80, 0x80]);
  });

  it('leaves out what cannot be written, without a word', () => {
    const { memory, bits } = bitmap();
    bits.set(BYTES * 8 + 1, BYTES * 8 + 2);
    bits.set(1, 1);
    bits.flush();
    expect(memory.bytes[0]).toBe(2);
  });

  it('leaves out the page that cannot be written, and not the one before it', () => {
    const { memory, bits } = bitmap(BYTES - 2);
    memory.bytes[BYTES - 1] = 0x40;
    bits.set(1, 9);
    bits.set(20, 30);
    bits.flush();
    expect([...memory.bytes.subarray(-2)]).toEqual([0xfe, 0x43]);
  });

  it('sets exactly the bits of all ranges, in whatever order they come', () => {
    const last = (BYTES - 100) * 8 - 1;
    const span = fc.tuple(fc.nat(last), fc.nat(last)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
    fc.assert(
      fc.property(fc.nat(99), fc.array(span, { maxLength: 4 }), (at, spans) => {
        const { memory, bits } = bitmap(at);
        const plain = new Uint8Array(BYTES);
        for (const [first, end] of spans) {
          bits.set(first, end);
          for (let bit = first; bit <= end; bit++) plain[at + (bit >>> 3)]! |= 1 << (bit & 7);
        }
        bits.flush();
        expect(Buffer.compare(memory.bytes, plain)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });
});
