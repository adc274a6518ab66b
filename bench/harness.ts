/**
 * What an x.bench.ts is written with: groups of benchmarks, and what to do when they are over. They run from source, a
 * file per process, without a test runner: its module wrapper alone makes the data plane 1.7 times slower.
 */
import { Bench } from 'tinybench';

export interface Result {
  readonly group: string;
  readonly name: string;
  /** Milliseconds per call of the benchmark's function. The fastest sample is the one that others disturbed least. */
  readonly fastest: number;
  readonly median: number;
}

const groups: { name: string; bench: Bench; sampled: Result[] }[] = [];
const cleanups: (() => void | Promise<void>)[] = [];

export function describe(name: string, body: () => void): void {
  groups.push({ name, bench: new Bench({ time: 600, warmupTime: 200 }), sampled: [] });
  body();
}

/** Adds a benchmark to the group around it. */
export function bench(name: string, body: () => unknown): void {
  groups.at(-1)!.bench.add(name, body as () => void);
}

/** Adds a benchmark that has been run to the group around it: milliseconds per call, of each round. */
export function sampled(name: string, rounds: readonly number[]): void {
  const sorted = rounds.toSorted((a, b) => a - b);
  const group = groups.at(-1)!;
  const median = sorted[Math.floor(sorted.length / 2)]!;
  group.sampled.push({ group: group.name, name, fastest: sorted[0]!, median });
}

/** Runs `end` after the last benchmark of the file. */
export function cleanup(end: () => void | Promise<void>): void {
  cleanups.push(end);
}

export async function runAll(): Promise<Result[]> {
  const results: Result[] = [];
  for (const { name: group, bench, sampled } of groups) {
    results.push(...sampled);
    if (bench.tasks.length === 0) continue;
    await bench.run();
    for (const { name, result } of bench.tasks) {
      if (result.state !== 'completed') throw new Error(`benchmark '${group} > ${name}' ${result.state}`);
      results.push({ group, name, fastest: result.latency.min, median: result.latency.p50 });
    }
  }
  for (const end of cleanups) await end();
  return results;
}
