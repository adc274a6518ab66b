/**
 * Malformed input: random calls get an errno or a result, never anything else, and when the program is gone so is all
 * that was its. `npm run fuzz` makes a million of them; UIOMMUFD_FUZZ_SEED and UIOMMUFD_FUZZ_CALLS choose others. The
 * seed of every run is printed, and in the message of a failure.
 */
import { describe, expect, it } from 'vitest';
import { testMachine } from '../host/program.ts';
import { HostileProgram } from './hostile-program.ts';

const CALLS = Number(process.env.UIOMMUFD_FUZZ_CALLS ?? 40_000);
const FIRST_SEED = Number(process.env.UIOMMUFD_FUZZ_SEED ?? 1);
const CALLS_PER_SEED = 2_000;

describe.each(['linux-7.1', 'linux-6.6', 'viommu-v2'])('random calls, %s', (abi) => {
  it('are answered with a result or an errno, and leave nothing', { timeout: 3_600_000 }, async () => {
    const seeds = Math.max(1, Math.ceil(CALLS / 3 / CALLS_PER_SEED));
    console.log(`${abi}: seeds ${FIRST_SEED} to ${FIRST_SEED + seeds - 1}, ${CALLS_PER_SEED} calls each`);
    const answers = new Map<string, number>();
    for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++) {
      const { machine, events } = testMachine({ abi, preset: seed % 2 ? 'two-smmus' : 'one-smmu' });
      const atRest = machine.leftovers();
      const program = new HostileProgram(machine, seed);
      try {
        for (let call = 0; call < CALLS_PER_SEED; call++) {
          await program.step();
          events.length = 0;
        }
        program.die();
      } catch (error) {
        throw new Error(`seed ${seed}: ${program.current}`, { cause: error });
      }
      expect(machine.leftovers(), `seed ${seed}`).toEqual(atRest);
      for (const [answer, count] of program.answers) answers.set(answer, (answers.get(answer) ?? 0) + count);
    }
    // Calls that only ever bounce off the first check would test nothing.
    expect([...answers.keys()]).toEqual(expect.arrayContaining(['ok', 'EINVAL', 'EFAULT', 'ENOENT', 'ENOTTY']));
    expect(answers.get('ok')!).toBeGreaterThan(CALLS_PER_SEED / 20);
  });
});
