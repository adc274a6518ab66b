/** `uiommufd run`: a program on a simulated machine. */
import { runProgram } from '../server/run.ts';
import { CANNOT_EXECUTE, CliError, endLike, NOT_FOUND, type Outcome } from './exit.ts';
import { findDialect, type MachineOptions, withMachine } from './session.ts';
import { type TraceOptions, withTrace } from './trace-options.ts';

export interface RunOptions extends MachineOptions, TraceOptions {
  readonly abi: string;
}

export async function runCommand(program: string, args: readonly string[], options: RunOptions): Promise<void> {
  const dialect = findDialect(options.abi);
  const outcome = await withTrace(options, dialect, (trace) =>
    withMachine(options, dialect, trace, async ({ server }): Promise<Outcome> => {
      try {
        return await runProgram(server, program, args);
      } catch (error) {
        throw notStarted(program, error as NodeJS.ErrnoException);
      }
    }),
  );
  endLike(outcome);
}

function notStarted(program: string, error: NodeJS.ErrnoException): CliError {
  if (error.code === 'ENOENT') return new CliError(`${program}: no such program`, NOT_FOUND);
  return new CliError(`${program}: cannot be executed: ${error.message}`, CANNOT_EXECUTE);
}
