/** What fuzzing found, as it printed it: each led to an exception that was no errno, or left something behind. */
import { describe, expect, it } from 'vitest';
import { type Call, defectOf } from './calls.ts';

interface Regression {
  readonly what: string;
  readonly machine: string;
  readonly abi: string;
  readonly calls: readonly Call[];
}

const FOUND: readonly Regression[] = [];

describe('calls that fuzzing found once', () => {
  it.each(FOUND)('$what', async ({ machine, abi, calls }) => {
    expect(await defectOf(machine, abi, calls)).toBeNull();
  });

  it('end in nothing when nothing is called', async () => {
    expect(await defectOf('mock', 'linux-7.1', [])).toBeNull();
  });
});
