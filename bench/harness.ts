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

const groups: { name: string; bench: Bench }[] = [];
const cleanups: (() => void | Promise<void>)[] = [];

export function describe(name: string, body: () => void): void {
  groups.push({ name, bench: new Bench({ time: 600, warmupTime: 200 }) });
  body();
}

/** Adds a benchmark to the group around it. */
export function bench(name: string, body: () => unknown): void {
  groups.at(-1)!.bench.add(name, body as () => void);
}

/** Runs `end` after the last benchmark of the file. */
export function cleanup(end: () => void | Promise<void>): void {
  cleanups.push(end);
}

export async function runAll(): Promise<Result[]> {
  const results: Result[] = [];
  for (const { name: group, bench } of groups) {
    await bench.run();
    for (const { name, result } of bench.tasks) {
      if (result.state !== 'completed') throw new Error(`benchmark '${group} > ${name}' ${result.state}`);
      results.push({ group, name, fastest: result.latency.min, median: result.latency.p50 });
    }
  }
  for (const end of cleanups) await end();
  return results;
}
