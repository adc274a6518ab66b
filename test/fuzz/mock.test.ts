/**
 * Malformed input, on the machine with the mock driver: random calls get an errno or a result, never anything else, and
 * when the program is gone so is all that was its. `npm run fuzz` makes a million; UIOMMUFD_FUZZ_SEED and
 * UIOMMUFD_FUZZ_CALLS choose others. Seeds are printed, and a failure as the shortest calls that lead to it.
 */
import { expect, it } from 'vitest';
import { fuzzPrograms } from './fuzz-programs.ts';

it('random calls on the mock machine are answered and leave nothing', { timeout: 3_600_000 }, async () => {
  const answers = await fuzzPrograms(['mock'], 0.5);
  // Calls that only ever bounce off the first check would test nothing.
  expect([...answers.keys()]).toEqual(expect.arrayContaining(['ok', 'EINVAL', 'EFAULT', 'ENOENT', 'ENOTTY', 'ENOMEM']));
  const all = [...answers.values()].reduce((sum, count) => sum + count, 0);
  expect(answers.get('ok')! / all).toBeGreaterThan(0.1);
});
