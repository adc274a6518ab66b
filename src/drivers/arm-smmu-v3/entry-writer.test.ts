import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import { EntryWriter } from './entry-writer.ts';
import { usedBitsOfSte } from './ste.ts';

const FRAME = 0x1000;

/** Words of an STE by hand: dw0, dw1, dw2, dw3 as [lo, hi]. */
const ste = (...doublewords: Array<[number, number]>) => {
  const words = new Uint32Array(16);
  for (const [i, [lo, hi]] of doublewords.entries()) words.set([lo, hi], i * 2);
  return words;
};
const ABORT = ste([0x1, 0]);
const S1 = ste([0xb | 0x5000, 0], [0x74, 0]);
const S1_OTHER = ste([0xb | 0x9000, 0], [0x74, 0]);
const S2 = ste([0xd, 0], [0, 0], [7, 0x4083590], [0x8000, 0]);
const S2_OTHER_VMID = ste([0xd, 0], [0, 0], [8, 0x4083590], [0x8000, 0]);
const NESTED = ste([0xf | 0x5000, 0], [0x74 | (1 << 19), 0], [7, 0x4083590], [0x8000, 0]);

/** Every state of the entry that hardware could read on the way from one to the other, and how often it was told to. */
function update(from: Uint32Array, to: Uint32Array) {
  const memory = new PhysicalMemory();
  memory.addRam(FRAME, 512);
  for (let i = 0; i < 16; i += 2) memory.store64(FRAME, 64 + i * 4, from[i]!, from[i + 1]!);
  const states: Uint32Array[] = [];
  let syncs = 0;
  const store = memory.store64.bind(memory);
  const read = () => Uint32Array.from({ length: 16 }, (_, i) => (memory.load32(FRAME, 64 + i * 4) ? memory.lo : 0));
  memory.store64 = (frame, offset, lo, hi) => {
    const stored = store(frame, offset, lo, hi);
    states.push(read());
    return stored;
  };
  new EntryWriter(memory, FRAME * 4096 + 64, () => syncs++).write(to);
  return { states, syncs, final: read() };
}

const meaning = (entry: Uint32Array) => {
  const used = usedBitsOfSte(entry);
  return [...entry].map((word, i) => (word & used[i]!) >>> 0).join();
};

/** MEV may change at any moment. */
const withoutMev = (entry: Uint32Array) => {
  const copy = entry.slice();
  copy[2]! &= ~(1 << 19);
  return meaning(copy);
};

describe('EntryWriter', () => {
  it.each([
    ['abort to stage 1', ABORT, S1],
    ['stage 1 to another context table', S1, S1_OTHER],
    ['abort to stage 2', ABORT, S2],
    ['stage 2 to nested', S2, NESTED],
    ['nested to stage 2', NESTED, S2],
    ['stage 2 to another VMID', S2, S2_OTHER_VMID],
    ['nested to abort', NESTED, ABORT],
  ])('goes from %s without hardware ever reading anything else', (_, from, to) => {
    const { states, final } = update(from, to);
    for (const state of states) expect([withoutMev(from), withoutMev(to)]).toContain(withoutMev(state));
    expect(final).toEqual(to);
  });

  it('goes through V = 0, and sets V last, when two doublewords change their meaning', () => {
    const { states, final } = update(S1, NESTED);
    const valid = states.map((state) => state[0]! & 1);
    expect(valid[0]).toBe(0);
    expect(valid.indexOf(1)).toBe(states.length - 1);
    expect(final).toEqual(NESTED);
  });

  it('stores and syncs nothing when nothing changes', () => {
    expect(update(S2, S2)).toMatchObject({ states: [], syncs: 0 });
  });

  it('never shows hardware a valid mixture of any two entries', () => {
    const entries = [ABORT, S1, S1_OTHER, S2, S2_OTHER_VMID, NESTED, new Uint32Array(16)];
    const any = fc.constantFrom(...entries);
    fc.assert(
      fc.property(any, any, (from, to) => {
        const { states, final } = update(from, to);
        expect(final).toEqual(to);
        for (const state of states) {
          if (state[0]! & 1) expect([withoutMev(from), withoutMev(to)]).toContain(withoutMev(state));
        }
      }),
    );
  });
});
