import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryStore } from './disk.ts';

const BYTES = 2 ** 18;

describe('a store in memory', () => {
  it('is like an array of bytes', () => {
    const range = fc.record({
      at: fc.nat({ max: BYTES - 1 }),
      length: fc.nat({ max: BYTES }),
      byte: fc.nat({ max: 255 }),
    });
    const step = fc.record({ what: fc.constantFrom('write', 'zero', 'discard', 'read'), range });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const store = new MemoryStore(BYTES);
        const model = new Uint8Array(BYTES);
        for (const { what, range } of steps) {
          const end = Math.min(range.at + range.length, BYTES);
          const bytes = new Uint8Array(end - range.at).fill(range.byte);
          if (what === 'write') store.write(range.at, bytes);
          if (what === 'zero') store.zero(range.at, bytes.length);
          if (what === 'discard') store.discard(range.at, bytes.length);
          if (what !== 'read') model.fill(what === 'write' ? range.byte : 0, range.at, end);
          store.read(range.at, bytes);
          expect(Buffer.compare(bytes, model.subarray(range.at, end))).toBe(0);
        }
        const all = new Uint8Array(BYTES);
        store.read(0, all);
        expect(Buffer.compare(all, model)).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('looks at what it holds, and not at all that is to be zeros', () => {
    const store = new MemoryStore(2 ** 52);
    store.write(2 ** 51 + 5, Uint8Array.of(1, 2));
    store.discard(2 ** 51 + 6, 2 ** 51 - 6);
    const seen = new Uint8Array(3);
    store.read(2 ** 51 + 4, seen);
    expect(seen).toEqual(Uint8Array.of(0, 1, 0));
    store.zero(0, 2 ** 52);
    expect(store.allocated).toBe(0);
  });

  it('takes memory for what is written only, and gives it back', () => {
    const store = new MemoryStore(2 ** 40);
    expect(store.allocated).toBe(0);
    store.write(2 ** 39, new Uint8Array(512).fill(1));
    expect(store.allocated).toBe(2 ** 16);
    store.discard(2 ** 39, 2 ** 16);
    expect(store.allocated).toBe(0);
  });
});
