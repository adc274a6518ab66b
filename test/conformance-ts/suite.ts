/**
 * Cases of the conformance suite. What they expect comes from the sources of Linux 7.1 (drivers/iommu/iommufd, the mock
 * driver in it, include/linux/iommu.h), never from this engine.
 */
import { Errno, type ErrnoName } from '../../src/abi/errno.ts';
import { NEEDS, type Need, type Program } from './program.ts';
import { Setting } from './setting.ts';

export interface Case {
  /** Of the uAPI: 'IOMMU_IOAS_MAP', or an operation of IOMMU_TEST_CMD. */
  readonly command: string;
  /** A sentence that begins with the command. */
  readonly name: string;
  readonly errno: ErrnoName | null;
  readonly needs: readonly Need[];
  /** Throws when the answer is another one. */
  run(setting: Setting): Promise<void>;
}

/** The call that is to be refused, after what comes before it has succeeded. */
type Prepared = () => Promise<unknown>;

interface Cases {
  /** @param name ends the sentence 'COMMAND refuses ...' */
  refuses(errno: ErrnoName, name: string, prepare: (t: Setting) => Prepared | Promise<Prepared>): void;
  /** @param name ends the sentence 'COMMAND ...' */
  does(name: string, run: (t: Setting) => Promise<void>): void;
}

/** Every case, in the order in which they were told. */
export const CASES: Case[] = [];

export function casesOf(command: string, needs: readonly Need[], tell: (cases: Cases) => void): void {
  tell({
    refuses: (errno, what, prepare) => {
      const run = async (setting: Setting): Promise<void> => expectErrno(errno, await prepare(setting));
      CASES.push({ command, name: `${command} refuses ${what} (${errno})`, errno, needs, run });
    },
    does: (what, run) => CASES.push({ command, name: `${command} ${what}`, errno: null, needs, run }),
  });
}

/** Fails unless `call` is refused with `errno`. */
export async function expectErrno(errno: ErrnoName, call: Prepared): Promise<void> {
  const answer = await errnoOf(call);
  if (answer !== errno) throw new Error(`expected ${errno}, got ${answer || 'success'}`);
}

/** The errno with which `call` is refused; '' when it is not. */
export async function errnoOf(call: Prepared): Promise<ErrnoName | ''> {
  try {
    await call();
    return '';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

/** What it needs and a program has not, in words; null when nothing. */
export function missing({ needs }: Case, { has }: Pick<Program, 'has'>): string | null {
  const wanted: readonly Need[] = needs.includes('viommu-v2') ? needs : ['linux-7.1', ...needs];
  const need = wanted.find((each) => !has.has(each));
  return need ? NEEDS[need] : null;
}

/** Runs one case on a program of its own. Throws when it fails, or leaves something behind. */
export async function runCase(each: Case, program: Program): Promise<void> {
  const setting = new Setting(program);
  let left: readonly string[] = [];
  try {
    await each.run(setting);
  } finally {
    setting.close();
    left = program.end();
  }
  if (left.length) throw new Error(`left behind: ${left.join(', ')}`);
}
