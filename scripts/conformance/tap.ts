/** Results of a program that reports in TAP, as the kernel's selftests do (tools/testing/selftests/kselftest.h). */

export type Result = 'pass' | 'skip' | 'fail';

const LINE = /^(not ok|ok) \d+ (\S+)( # SKIP)?/;

/** By name of the test, in the order in which they ran. */
export function tapResults(output: string): Map<string, Result> {
  const results = new Map<string, Result>();
  for (const line of output.split('\n')) {
    const [, verdict, name, skipped] = LINE.exec(line) ?? [];
    if (name === undefined) continue;
    const passed = skipped ? 'skip' : 'pass';
    results.set(name, verdict === 'ok' ? passed : 'fail');
  }
  return results;
}
