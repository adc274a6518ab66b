/** Where the pinned pages of a piece of memory are: runs of pages that lie behind one another in one memory object. */
import type { MemoryObject } from '../memory/process-memory.ts';

/** Pages first..last (inclusive) are pages `page` and following of `object`. */
export interface PinnedRun {
  readonly first: number;
  readonly last: number;
  readonly object: MemoryObject;
  readonly page: number;
}

export class PinnedRuns {
  /** In order, disjoint; neighbours that continue each other are one. */
  private readonly runs: PinnedRun[];

  constructor() {
    this.runs = [];
  }

  /** The run with page `index`, or else the next one. */
  from(index: number): PinnedRun | undefined {
    return this.runs[this.position(index)];
  }

  /** Is page `page` of `object` one of them? */
  has(object: MemoryObject, page: number): boolean {
    return this.runs.some(
      (run) => run.object === object && page >= run.page && page - run.page <= run.last - run.first,
    );
  }

  /** Adds a run, none of whose pages is there. */
  add(run: PinnedRun): void {
    let at = this.position(run.first);
    const [before, after] = [this.runs[at - 1], this.runs[at]];
    let replaced = 0;
    if (after && continues(run, after)) {
      run = { ...run, last: after.last };
      replaced++;
    }
    if (before && continues(before, run)) {
      run = { ...before, last: run.last };
      replaced++;
      at--;
    }
    this.runs.splice(at, replaced, run);
  }

  /** Takes out pages first..last, all of which are there, and gives them. */
  take(first: number, last: number): PinnedRun[] {
    const from = this.position(first);
    const taken: PinnedRun[] = [];
    const kept: PinnedRun[] = [];
    let at = from;
    for (let run = this.runs[at]; run && run.first <= last; run = this.runs[++at]) {
      taken.push(part(run, Math.max(run.first, first), Math.min(run.last, last)));
      if (run.first < first) kept.push(part(run, run.first, first - 1));
      if (run.last > last) kept.push(part(run, last + 1, run.last));
    }
    this.runs.splice(from, at - from, ...kept);
    return taken;
  }

  /** Position of the first run that ends at or after `index`. */
  private position(index: number): number {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runs[middle]!.last < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const continues = (a: PinnedRun, b: PinnedRun): boolean =>
  a.object === b.object && a.last + 1 === b.first && a.page + (b.first - a.first) === b.page;

const part = ({ object, page, first }: PinnedRun, from: number, to: number): PinnedRun => ({
  first: from,
  last: to,
  object,
  page: page + (from - first),
});
