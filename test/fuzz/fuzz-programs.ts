/** Seeds of hostile programs on some machines, each in one of the dialects, and what a failure is printed as. */
import { DIALECTS } from '../../src/abi/dialects.ts';
import { type Call, printed, shrink, Target } from './calls.ts';
import { HostileProgram } from './hostile-program.ts';

/** Of all kinds of fuzzing together; a share of them is made by each. */
export const CALLS = Number(process.env.UIOMMUFD_FUZZ_CALLS ?? 40_000);
export const FIRST_SEED = Number(process.env.UIOMMUFD_FUZZ_SEED ?? 1);
export const CALLS_PER_SEED = 1_000;

/** Every seed has its own machine and dialect; the dialects come one after the other. */
function choiceOf(machines: readonly string[], seed: number): { machine: string; abi: string } {
  const machine = machines[seed % machines.length]!;
  const abi = DIALECTS[Math.floor(seed / machines.length) % DIALECTS.length]!.name;
  return { machine, abi };
}

/** @returns how often each answer was given */
export async function fuzzPrograms(machines: readonly string[], share: number): Promise<Map<string, number>> {
  const seeds = Math.max(1, Math.ceil((CALLS * share) / CALLS_PER_SEED));
  console.log(`${machines.join(', ')}: seeds ${FIRST_SEED} to ${FIRST_SEED + seeds - 1}, ${CALLS_PER_SEED} calls each`);
  const answers = new Map<string, number>();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++) {
    const { machine, abi } = choiceOf(machines, seed);
    const calls: Call[] = [];
    try {
      const target = new Target(machine, abi);
      const program = new HostileProgram(target, seed);
      for (let n = 0; n < CALLS_PER_SEED; n++) {
        const call = program.next();
        calls.push(call);
        const answer = await target.make(call);
        answers.set(answer, (answers.get(answer) ?? 0) + 1);
      }
      target.end((fds) => program.shuffle(fds));
    } catch (error) {
      const short = await shrink(machine, abi, calls);
      const paste = `for test/fuzz/regressions.test.ts:\n${printed(machine, abi, short)}`;
      throw new Error(`seed ${seed}: ${(error as Error).message}\n${paste}`, { cause: error });
    }
  }
  return answers;
}
