import { describe, expect, it } from 'vitest';
import { SILENT } from '../../trace/events.ts';
import { NO_SUBSTREAM, READ, WRITE } from '../iommu.ts';
import { Atc } from './atc.ts';

const atc = (entries = 8) => new Atc('0000:01:00.0', SILENT, entries);

describe('an ATC', () => {
  it('answers for every frame of the size that it was given', () => {
    const cache = atc();
    cache.fill(NO_SUBSTREAM, 0x205, 0x8005, 9, READ);
    expect(cache.lookup(NO_SUBSTREAM, 0x200, READ)).toBe(0x8000);
    expect(cache.lookup(NO_SUBSTREAM, 0x3ff, READ)).toBe(0x81ff);
    expect(cache.lookup(NO_SUBSTREAM, 0x400, READ)).toBe(-1);
  });

  it('keeps PASIDs apart', () => {
    const cache = atc();
    cache.fill(5, 1, 100, 0, READ);
    expect(cache.lookup(5, 1, READ)).toBe(100);
    expect(cache.lookup(6, 1, READ)).toBe(-1);
    expect(cache.lookup(NO_SUBSTREAM, 1, READ)).toBe(-1);
  });

  it('permits what the answer permitted, and a later answer for the frame replaces it', () => {
    const cache = atc();
    cache.fill(NO_SUBSTREAM, 1, 100, 0, READ);
    expect(cache.lookup(NO_SUBSTREAM, 1, WRITE)).toBe(-1);
    cache.fill(NO_SUBSTREAM, 1, 100, 0, READ | WRITE);
    expect(cache.lookup(NO_SUBSTREAM, 1, WRITE)).toBe(100);
    expect(cache.used).toBe(1);
  });

  it.each([
    ['the frame itself', NO_SUBSTREAM, 0x250, 0, false, true],
    ['a range around it', NO_SUBSTREAM, 0x000, 12, false, true],
    ['everything', NO_SUBSTREAM, 0, 52, false, true],
    ['another frame', NO_SUBSTREAM, 0x400, 0, false, false],
    ['a PASID that it has not', 3, 0x250, 0, false, false],
    ['all PASIDs', 3, 0x250, 0, true, true],
  ])('an invalidation of %s', (_what, substream, frame, log2Frames, global, drops) => {
    const cache = atc();
    cache.fill(NO_SUBSTREAM, 0x200, 0x8000, 9, READ);
    cache.invalidateAtc(substream, frame, log2Frames, global);
    expect(cache.lookup(NO_SUBSTREAM, 0x250, READ)).toBe(drops ? -1 : 0x8050);
  });

  it.each([
    ['that PASID', 5, false, [true, false, false]],
    ['that PASID, global', 5, true, [true, true, true]],
    [
      'no PASID: all of them, there is none for the entries without PASID alone',
      NO_SUBSTREAM,
      false,
      [true, true, true],
    ],
  ])('drops, for an invalidation with %s', (_what, substream, global, dropped) => {
    const cache = atc();
    const substreams = [5, 6, NO_SUBSTREAM];
    for (const [n, filled] of substreams.entries()) cache.fill(filled, 0x10, 0x100 + n, 0, READ);
    for (const filled of substreams) cache.fill(filled, 0x20, 0x200, 0, READ);
    cache.invalidateAtc(substream, 0x10, 0, global);
    expect(substreams.map((filled) => cache.lookup(filled, 0x10, READ) < 0)).toEqual(dropped);
    expect(substreams.every((filled) => cache.lookup(filled, 0x20, READ) === 0x200)).toBe(true);
  });

  it('finds frames at the top of the 64-bit space', () => {
    const cache = atc();
    const frame = 2 ** 52 - 1;
    cache.fill(NO_SUBSTREAM, frame, 7, 0, READ);
    expect(cache.lookup(NO_SUBSTREAM, frame, READ)).toBe(7);
    cache.invalidateAtc(NO_SUBSTREAM, frame, 0, false);
    expect(cache.lookup(NO_SUBSTREAM, frame, READ)).toBe(-1);
  });

  it('drops the oldest entry when it is full, not the newest', () => {
    const cache = atc(4);
    for (let frame = 0; frame < 5; frame++) cache.fill(NO_SUBSTREAM, frame, frame, 0, READ);
    expect(cache.used).toBe(4);
    expect(cache.lookup(NO_SUBSTREAM, 0, READ)).toBe(-1);
    expect(cache.lookup(NO_SUBSTREAM, 4, READ)).toBe(4);
  });
});
