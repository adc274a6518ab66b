import { bench, describe } from '../../bench/harness.ts';
import { Interval, IntervalTree } from './interval.ts';

/** Areas of one page with a page between them, inserted in a scattered order. */
function filled(count: number): IntervalTree<Interval> {
  const tree = new IntervalTree<Interval>();
  for (let i = 0; i < count; i++) {
    const start = BigInt((i * 7919) % count) * 0x2000n;
    tree.insert(new Interval(start, start + 0xfffn));
  }
  return tree;
}

for (const count of [1e3, 1e6]) {
  describe(`${count} intervals`, () => {
    const tree = filled(count);
    let at = 0;
    const next = () => BigInt((at = (at + 104729) % count)) * 0x2000n;

    bench('find', () => {
      tree.at(next());
    });

    bench('insert and remove', () => {
      const start = next() + 0x1000n;
      const interval = new Interval(start, start + 0xfffn);
      tree.insert(interval);
      tree.remove(interval);
    });

    bench('find room behind all of them', () => {
      tree.findFree(0n, 2n ** 64n - 1n, 0x2000n, (start) => start);
    });
  });
}
