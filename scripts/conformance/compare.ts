/** What a program's tests gave, beside what they give on a real kernel of the release. */
import type { Result } from './tap.ts';

/** Huge pages are the host's: a test that needs them may be skipped. */
export type Expectation = Result | 'pass or skip';

export interface Comparison {
  readonly program: string;
  readonly counts: Readonly<Record<Result, number>>;
  readonly expected: number;
  /** 'name: was, not expected', for each test with another result than expected. */
  readonly deviations: readonly string[];
}

/** A test that did not run is a deviation, and so is one that is not expected. */
export function compare(
  program: string,
  expected: Readonly<Record<string, Expectation>>,
  results: ReadonlyMap<string, Result>,
): Comparison {
  const counts: Record<Result, number> = { pass: 0, skip: 0, fail: 0 };
  for (const result of results.values()) counts[result]++;
  const names = new Set([...Object.keys(expected), ...results.keys()]);
  const deviations = [...names]
    .filter((name) => !isMet(expected[name], results.get(name)))
    .map((name) => `${name}: ${results.get(name) ?? 'did not run'}, expected ${expected[name] ?? 'no such test'}`);
  return { program, counts, expected: Object.keys(expected).length, deviations };
}

function isMet(expected: Expectation | undefined, result: Result | undefined): boolean {
  return expected === 'pass or skip' ? result === 'pass' || result === 'skip' : result === expected;
}

/** A line for each program, then every deviation. */
export function table(comparisons: readonly Comparison[]): string {
  const rows = [['program', 'pass', 'skip', 'fail', 'of', 'deviations']];
  for (const { program, counts, expected, deviations } of comparisons) {
    rows.push([program, ...[counts.pass, counts.skip, counts.fail, expected, deviations.length].map(String)]);
  }
  const width = (column: number): number => Math.max(...rows.map((row) => row[column]!.length));
  const lines = rows.map(([name, ...numbers]) =>
    [name!.padEnd(width(0)), ...numbers.map((text, i) => text.padStart(width(i + 1)))].join('  '),
  );
  for (const { program, deviations } of comparisons) lines.push(...deviations.map((text) => `${program}: ${text}`));
  return lines.join('\n');
}
