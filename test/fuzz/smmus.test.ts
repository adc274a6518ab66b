/** The same as mock.test.ts on machines with SMMUs and VFIO devices, groups and containers. */
import { expect, it } from 'vitest';
import { fuzzPrograms } from './fuzz-programs.ts';

it('random calls on machines with SMMUs are answered and leave nothing', { timeout: 3_600_000 }, async () => {
  const answers = await fuzzPrograms(['two-smmus', 'one-smmu', 'two-smmus-fragmented', 'grace'], 0.5);
  expect([...answers.keys()]).toEqual(expect.arrayContaining(['ok', 'EINVAL', 'EFAULT', 'ENOENT', 'ENOTTY', 'ENOMEM']));
  const all = [...answers.values()].reduce((sum, count) => sum + count, 0);
  expect(answers.get('ok')! / all).toBeGreaterThan(0.1);
});
