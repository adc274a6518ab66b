/** How the command ends: in words on stderr, and by the statuses that env(1) and timeout(1) use. */

import { constants } from 'node:os';

/** uiommufd itself failed, or was asked for something that does not exist. */
export const OWN_FAILURE = 125;
export const CANNOT_EXECUTE = 126;
export const NOT_FOUND = 127;

/** Ends the command with one sentence. */
export class CliError extends Error {
  readonly status: number;

  constructor(sentence: string, status: number = OWN_FAILURE) {
    super(sentence);
    this.name = 'CliError';
    this.status = status;
  }
}

/** How a program ended: with a status, or killed by a signal. */
export interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Ends this process as the program ended: a shell that looks at `$?` or WTERMSIG sees no difference. */
export function endLike({ status, signal }: Outcome): void {
  if (signal === null) {
    process.exitCode = status ?? OWN_FAILURE;
    return;
  }
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  // A signal that does not kill us (Node ignores SIGPIPE, a core may be on its way) leaves a status that says the same.
  setTimeout(() => process.exit(128 + constants.signals[signal]), 100);
}
