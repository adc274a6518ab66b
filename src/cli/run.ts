/** `uiommufd run`: a program on a simulated machine. */
import { FailurePoints } from '../drivers/failure-points.ts';
import { inheritedDescriptors, runProgram } from '../server/run.ts';
import { takeStartState } from '../server/start-state.ts';
import { CANNOT_EXECUTE, CliError, endLike, NOT_FOUND, type Outcome } from './exit.ts';
import { findDialect, type MachineOptions, withMachine } from './session.ts';
import { type TraceOptions, withTrace } from './trace-options.ts';

/** Before anything of ours opens a descriptor, or looks at the environment. */
const inherited = inheritedDescriptors();
const start = takeStartState();

export interface RunOptions extends MachineOptions, TraceOptions {
  readonly abi: string;
  readonly failNth?: number;
}

export async function runCommand(program: string, args: readonly string[], options: RunOptions): Promise<void> {
  const dialect = findDialect(options.abi);
  const failures = new FailurePoints();
  failures.failNth(options.failNth ?? 0);
  const outcome = await withTrace(options, dialect, (trace) =>
    withMachine({ ...options, failures }, dialect, trace, async ({ server }): Promise<Outcome> => {
      try {
        return await runProgram(server, program, args, { descriptors: inherited, start });
      } catch (error) {
        throw notStarted(program, error as NodeJS.ErrnoException);
      }
    }),
  );
  if (options.failNth) process.stderr.write(`uiommufd: ${whatFailed(options.failNth, failures)}\n`);
  endLike(outcome);
}

function whatFailed(nth: number, { failed, remaining }: FailurePoints): string {
  if (failed !== null) return `the allocation of ${failed}, number ${nth}, was made to fail`;
  return `the program's calls made ${nth - remaining} allocations, so that number ${nth} did not fail`;
}

function notStarted(program: string, error: NodeJS.ErrnoException): CliError {
  if (error.code === 'ENOENT') return new CliError(`${program}: no such program`, NOT_FOUND);
  return new CliError(`${program}: cannot be executed: ${error.message}`, CANNOT_EXECUTE);
}
