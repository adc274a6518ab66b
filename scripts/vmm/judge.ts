/** What a run showed, in sentences. */
import type { Finding } from '../../src/cli/verdict.ts';
import type { GuestOutcome } from './run-guest.ts';

/** @param functions how many the guest was given */
export function judge({ console, seconds, end, left }: GuestOutcome, functions: number): Finding[] {
  const { passed, failed, finished } = console;
  const disks = passed.filter((what) => what.includes('has a namespace')).length;
  const leaked = Object.entries(left).filter(([, count]) => count !== 0);
  const rest = leaked.map(([what, count]) => `${count} ${what}`).join(', ') || 'nothing';
  return [
    { good: failed.length === 0, sentence: `${passed.length} checks of the guest hold, ${failed.length} do not` },
    { good: disks === functions, sentence: `${disks} of ${functions} functions had a namespace` },
    { good: finished, sentence: finished ? 'the guest came to its end' : 'the guest did not come to its end' },
    { good: end === 'exit status 0', sentence: `QEMU: ${end} after ${seconds.toFixed(1)} s` },
    { good: leaked.length === 0, sentence: `left behind: ${rest}` },
  ];
}
