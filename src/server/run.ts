/** Runs a program under a server, as if the program had been started in its place. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Server } from './server.ts';

export interface RunResult {
  /** Exit status, or null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RunOptions {
  /** Instead of this process's environment. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

const PASSED_ON: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGCONT'];
const FROM_TERMINALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];

/** @returns how the program ended. Rejects when it cannot be started (error.code: ENOENT, EACCES, ...) */
export async function runProgram(
  server: Server,
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  let child: ChildProcess | undefined;
  const passOn = (signal: NodeJS.Signals): void => {
    child?.kill(signal);
  };
  // A terminal sends these to its whole foreground group, so to the program as well: once is enough.
  const terminal = process.stdin.isTTY === true;
  const ignore = (): void => {};
  // Before the program exists: a signal between its start and this would end us, and leave it running.
  for (const signal of PASSED_ON) process.on(signal, passOn);
  for (const signal of FROM_TERMINALS) process.on(signal, terminal ? ignore : passOn);
  try {
    const started = spawn(command, args, {
      stdio: 'inherit',
      env: { ...(options.env ?? process.env), ...server.environment() },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    child = started;
    return await new Promise((resolve, reject) => {
      started.on('error', reject);
      started.on('exit', (status, signal) => resolve({ status, signal }));
    });
  } finally {
    for (const signal of PASSED_ON) process.off(signal, passOn);
    for (const signal of FROM_TERMINALS) process.off(signal, terminal ? ignore : passOn);
  }
}
