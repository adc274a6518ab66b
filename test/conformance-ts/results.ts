/** What the cases gave on a target. */
import type { Program } from './program.ts';
import { CASES, type Case, missing, runCase } from './suite.ts';
import './cases/index.ts';

export interface Result {
  readonly command: string;
  readonly name: string;
  readonly verdict: 'pass' | 'fail' | 'skip';
  /** What went wrong, or what it lacks. */
  readonly reason: string;
}

export async function* runAll(start: () => Program): AsyncGenerator<Result> {
  for (const each of CASES) yield resultOf(each, start());
}

async function resultOf(each: Case, program: Program): Promise<Result> {
  const { command, name } = each;
  const lacks = missing(each, program);
  if (lacks) {
    program.end();
    return { command, name, verdict: 'skip', reason: `needs ${lacks}` };
  }
  try {
    await runCase(each, program);
    return { command, name, verdict: 'pass', reason: '' };
  } catch (error) {
    return { command, name, verdict: 'fail', reason: (error as Error).message.replace(/\s+/g, ' ') };
  }
}

export interface Target {
  readonly name: string;
  readonly results: readonly Result[];
}

/** A row for each command, a column of pass / fail / skip for each target; then each failure and the reasons to skip. */
export function table(targets: readonly Target[]): string {
  const commands = [...new Set(CASES.map(({ command }) => command))].sort();
  const rows = commands.map((command) => [command, ...targets.map(({ results }) => counts(results, command))]);
  const all = ['all', ...targets.map(({ results }) => counts(results))];
  const cells = [['command', ...targets.map(({ name }) => name)], ...rows, all];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  for (const { name, results } of targets) lines.push(...failures(name, results), ...skips(name, results));
  return lines.join('\n');
}

function counts(results: readonly Result[], command?: string): string {
  const count = (verdict: string): number =>
    results.filter((each) => each.verdict === verdict && (!command || each.command === command)).length;
  return ['pass', 'fail', 'skip'].map((verdict) => count(verdict)).join(' / ');
}

const failures = (target: string, results: readonly Result[]): string[] =>
  results.filter(({ verdict }) => verdict === 'fail').map(({ name, reason }) => `${target}: FAIL ${name}: ${reason}`);

function skips(target: string, results: readonly Result[]): string[] {
  const reasons = new Map<string, number>();
  for (const { verdict, reason } of results)
    if (verdict === 'skip') reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  return [...reasons].map(([reason, count]) => `${target}: ${count} skipped: ${reason}`);
}
