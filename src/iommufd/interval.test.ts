import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Interval, IntervalTree } from './interval.ts';

const numbers = fc.integer({ min: 0, max: 200 });
const operations = fc.array(fc.record({ add: fc.boolean(), start: numbers, length: fc.integer({ min: 1, max: 12 }) }), {
  maxLength: 150,
});

/** Applies the operations to a tree and to a plain list. */
function build(steps: Array<{ add: boolean; start: number; length: number }>): [IntervalTree<Interval>, Interval[]] {
  const tree = new IntervalTree<Interval>();
  let list: Interval[] = [];
  for (const { add, start, length } of steps) {
    const wanted = new Interval(BigInt(start), BigInt(start + length - 1));
    const overlapping = list.filter((i) => i.start <= wanted.last && i.last >= wanted.start);
    if (add && overlapping.length === 0) {
      tree.insert(wanted);
      list.push(wanted);
    } else if (!add) {
      for (const gone of overlapping) tree.remove(gone);
      list = list.filter((i) => !overlapping.includes(i));
    }
  }
  return [tree, list.sort((a, b) => Number(a.start - b.start))];
}

describe('an interval tree', () => {
  it('holds what was inserted and not removed, in order', () => {
    fc.assert(
      fc.property(operations, (steps) => {
        const [tree, list] = build(steps);
        expect([...tree]).toEqual(list);
        expect(tree.size).toBe(list.length);
      }),
    );
  });

  it('finds the lowest interval that a range touches', () => {
    fc.assert(
      fc.property(operations, numbers, numbers, (steps, a, b) => {
        const [tree, list] = build(steps);
        const start = BigInt(Math.min(a, b));
        const last = BigInt(Math.max(a, b));
        expect(tree.first(start, last)).toBe(list.find((i) => i.start <= last && i.last >= start) ?? null);
      }),
    );
  });

  it('offers exactly the free ranges that are long enough, clipped to the window, lowest first', () => {
    fc.assert(
      fc.property(operations, numbers, numbers, fc.integer({ min: 1, max: 20 }), (steps, a, b, length) => {
        const [tree, list] = build(steps);
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        const free: string[] = [];
        for (let from = low; from <= high; from++) {
          if (list.some((i) => i.start <= from && i.last >= from)) continue;
          let to = from;
          while (to < high && !list.some((i) => i.start <= to + 1 && i.last >= to + 1)) to++;
          if (to - from + 1 >= length) free.push(`${from}-${to}`);
          from = to;
        }
        const offered: string[] = [];
        tree.findFree(BigInt(low), BigInt(high), BigInt(length), (start, last) => {
          offered.push(`${start}-${last}`);
          return null;
        });
        expect(offered).toEqual(free);
      }),
    );
  });

  it('stops at the first range that is taken', () => {
    const tree = new IntervalTree<Interval>();
    for (const start of [10n, 20n, 30n]) tree.insert(new Interval(start, start + 4n));
    expect(tree.findFree(0n, 100n, 5n, (start) => (start > 5n ? start : null))).toBe(15n);
  });

  it('refuses an interval that overlaps another', () => {
    const tree = new IntervalTree<Interval>();
    tree.insert(new Interval(10n, 20n));
    expect(() => tree.insert(new Interval(20n, 30n))).toThrow('overlaps');
    expect(() => tree.remove(new Interval(10n, 20n))).toThrow('not in this tree');
  });

  it('stays shallow, in whatever order intervals come', () => {
    const tree = new IntervalTree<Interval>();
    const intervals = Array.from({ length: 4096 }, (_, i) => new Interval(BigInt(i * 2), BigInt(i * 2)));
    for (const interval of intervals) tree.insert(interval);
    // An AVL tree is at most 1.44 log2(n) high.
    expect(Math.max(...intervals.map((i) => i.height))).toBeLessThanOrEqual(17);
    for (const interval of intervals.slice(0, 4000)) tree.remove(interval);
    expect(Math.max(...intervals.slice(4000).map((i) => i.height))).toBeLessThanOrEqual(9);
  });

  it('finds the smallest hole even where numbers are no longer exact', () => {
    const tree = new IntervalTree<Interval>();
    const base = 2n ** 64n - 2n ** 20n;
    for (let i = 0n; i < 64n; i++) {
      if (i !== 37n) tree.insert(new Interval(base + i * 3n, base + i * 3n + (i === 20n ? 1n : 2n)));
    }
    const room = (length: bigint) => tree.findFree(base, base + 191n, length, (start) => start);
    expect([room(1n), room(2n), room(4n)]).toEqual([base + 62n, base + 111n, null]);
  });

  it('reaches to the end of the 64-bit space', () => {
    const end = 2n ** 64n - 1n;
    const tree = new IntervalTree<Interval>();
    tree.insert(new Interval(end, end));
    expect(tree.at(end)?.start).toBe(end);
    expect(tree.findFree(0n, end, 1n, (start, last) => (start === 0n ? last : null))).toBe(end - 1n);
  });
});
