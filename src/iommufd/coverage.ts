/**
 * How many users each page of a piece of memory has, as runs of equal counts. Usually there is one run; every copy of a
 * part adds at most two.
 */

/** Pages first..last, inclusive. */
export interface PageRun {
  readonly first: number;
  readonly last: number;
}

interface UsedRun {
  readonly first: number;
  last: number;
  readonly users: number;
}

export class Coverage {
  /** In order, disjoint, users >= 1; neighbours with equal users are one run. */
  private readonly runs: UsedRun[];

  constructor() {
    this.runs = [];
  }

  /** The parts of first..last that have no user. */
  missing(first: number, last: number): PageRun[] {
    const parts: PageRun[] = [];
    let from = first;
    for (let at = this.indexAt(first); at < this.runs.length && this.runs[at]!.first <= last; at++) {
      const run = this.runs[at]!;
      if (run.first > from) parts.push({ first: from, last: run.first - 1 });
      from = run.last + 1;
    }
    if (from <= last) parts.push({ first: from, last });
    return parts;
  }

  add(first: number, last: number): void {
    this.change(first, last, 1);
  }

  /** Takes back one add() of the same pages. */
  remove(first: number, last: number): void {
    this.change(first, last, -1);
  }

  private change(first: number, last: number, by: number): void {
    // One run on either side is taken along: it may join what is put in between.
    const from = Math.max(this.indexAt(first) - 1, 0);
    let to = from;
    while (to < this.runs.length && this.runs[to]!.first <= last + 1) to++;
    const old = this.runs.slice(from, to);
    const fresh: UsedRun[] = [];
    const put = (a: number, b: number, users: number) => {
      if (a > b || users === 0) return;
      if (users < 0) throw new Error(`pages ${a} to ${b} are given back by more users than they have`);
      const previous = fresh.at(-1);
      if (previous && previous.users === users && previous.last === a - 1) previous.last = b;
      else fresh.push({ first: a, last: b, users });
    };
    let next = first;
    for (const run of old) {
      const a = Math.max(run.first, first);
      const b = Math.min(run.last, last);
      if (run.first > next) put(next, Math.min(run.first - 1, last), by);
      put(run.first, Math.min(run.last, first - 1), run.users);
      put(a, b, run.users + by);
      put(Math.max(run.first, last + 1), run.last, run.users);
      next = Math.max(next, run.last + 1);
    }
    put(next, last, by);
    this.runs.splice(from, old.length, ...fresh);
  }

  /** Index of the first run that ends at or after `page`. */
  private indexAt(page: number): number {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runs[middle]!.last < page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
