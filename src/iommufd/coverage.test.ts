import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Coverage } from './coverage.ts';

const range = fc.tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 8 }));

it('knows which pages no one uses, whatever ranges come and go', () => {
  const steps = fc.array(fc.tuple(range, fc.option(fc.nat())), { maxLength: 60 });
  fc.assert(
    fc.property(steps, range, (all, [at, more]) => {
      const coverage = new Coverage();
      const present: Array<[number, number]> = [];
      for (const [[first, length], take] of all) {
        if (take !== null && present.length) {
          const [[a, b]] = present.splice(take % present.length, 1) as [[number, number]];
          coverage.remove(a, b);
        } else {
          coverage.add(first, first + length);
          present.push([first, first + length]);
        }
      }
      const unused: number[] = [];
      for (let page = at; page <= at + more; page++) {
        if (!present.some(([a, b]) => a <= page && page <= b)) unused.push(page);
      }
      const missing = coverage.missing(at, at + more);
      expect(
        missing.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i)),
      ).toEqual(unused);
      for (const [a, b] of present) coverage.remove(a, b);
      expect(coverage.missing(0, 100)).toEqual([{ first: 0, last: 100 }]);
    }),
  );
});

it('refuses to give back what is not used', () => {
  const coverage = new Coverage();
  coverage.add(2, 4);
  expect(() => coverage.remove(4, 5)).toThrow('more users');
});

it('joins runs again, so that it does not grow with the number of changes', () => {
  const coverage = new Coverage();
  coverage.add(0, 1000);
  for (let page = 0; page < 1000; page += 2) {
    coverage.add(page, page);
    coverage.remove(page, page);
  }
  expect((coverage as unknown as { runs: unknown[] }).runs).toHaveLength(1);
});
