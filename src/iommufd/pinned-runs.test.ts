import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MemoryObject } from '../memory/process-memory.ts';
import { PinnedRuns } from './pinned-runs.ts';

const object = (name: string): MemoryObject => ({ name, read: () => true, write: () => true });
const [A, B] = [object('a'), object('b')];

describe('pinned runs', () => {
  it('join where they continue each other in one object, and come apart again', () => {
    const runs = new PinnedRuns();
    runs.add({ first: 0, last: 3, object: A, page: 10 });
    runs.add({ first: 8, last: 9, object: A, page: 18 });
    runs.add({ first: 4, last: 7, object: A, page: 14 });
    expect(runs.from(5)).toEqual({ first: 0, last: 9, object: A, page: 10 });
    expect(runs.take(2, 3)).toEqual([{ first: 2, last: 3, object: A, page: 12 }]);
    expect(runs.from(2)).toEqual({ first: 4, last: 9, object: A, page: 14 });
    expect([runs.has(A, 11), runs.has(A, 12), runs.has(A, 19), runs.has(A, 20)]).toEqual([true, false, true, false]);
  });

  it('stay apart when they are of two objects, or of other places of one', () => {
    const runs = new PinnedRuns();
    runs.add({ first: 0, last: 0, object: A, page: 0 });
    runs.add({ first: 1, last: 1, object: B, page: 1 });
    runs.add({ first: 2, last: 2, object: B, page: 0 });
    expect([runs.from(0)?.last, runs.from(1)?.last]).toEqual([0, 1]);
    expect([runs.has(B, 0), runs.has(A, 1)]).toEqual([true, false]);
  });

  it('tell for each page where it is, whatever was added and taken', () => {
    const step = fc.record({ at: fc.nat(30), length: fc.integer({ min: 1, max: 8 }), object: fc.constantFrom(A, B) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const runs = new PinnedRuns();
        const model = new Map<number, { object: MemoryObject; page: number }>();
        for (const { at, length, object } of steps) {
          const pages = Array.from({ length }, (_, i) => at + i);
          if (pages.every((page) => model.has(page))) {
            const taken = runs.take(at, at + length - 1);
            expect(taken.reduce((sum, { first, last }) => sum + last - first + 1, 0)).toBe(length);
            for (const page of pages) model.delete(page);
          } else if (!pages.some((page) => model.has(page))) {
            runs.add({ first: at, last: at + length - 1, object, page: 100 + at });
            for (const page of pages) model.set(page, { object, page: 100 + page });
          }
          for (let page = 0; page < 40; page++) {
            const run = runs.from(page);
            const there =
              run && run.first <= page ? { object: run.object, page: run.page + page - run.first } : undefined;
            expect(there).toEqual(model.get(page));
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});
