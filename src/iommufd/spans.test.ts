import { describe, expect, it } from 'vitest';
import { holes, merge, overlaps, within } from './spans.ts';

const span = (start: number, last: number) => ({ start: BigInt(start), last: BigInt(last) });

describe('spans', () => {
  it('merge when they overlap or touch', () => {
    expect(merge([span(10, 20), span(5, 9), span(30, 40), span(15, 25)])).toEqual([span(5, 25), span(30, 40)]);
    expect(merge([span(10, 40), span(20, 30)])).toEqual([span(10, 40)]);
  });

  it('have holes before, between and after them', () => {
    const spans = [span(5, 9), span(20, 30)];
    expect([...holes(spans, 0n, 40n)]).toEqual([span(0, 4), span(10, 19), span(31, 40)]);
    expect([...holes(spans, 6n, 25n)]).toEqual([span(10, 19)]);
    expect([...holes(spans, 20n, 30n)]).toEqual([]);
    expect([...holes([], 3n, 4n)]).toEqual([span(3, 4)]);
  });

  it('are clipped to a window', () => {
    expect([...within([span(5, 9), span(20, 30)], 7n, 21n)]).toEqual([span(7, 9), span(20, 21)]);
    expect([...within([span(5, 9)], 10n, 21n)]).toEqual([]);
  });

  it('overlap at a common address', () => {
    expect(overlaps([span(5, 9)], 9n, 12n)).toBe(true);
    expect(overlaps([span(5, 9)], 10n, 12n)).toBe(false);
  });
});
