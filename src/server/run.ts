/** Runs a program under a server, as if the program had been started in its place. */
import { type ChildProcess, type IOType, spawn } from 'node:child_process';
import fs from 'node:fs';
import { buildStart } from './build-shim.ts';
import { findProgram } from './program-file.ts';
import type { Server } from './server.ts';
import type { StartState } from './start-state.ts';

export interface RunResult {
  /** Exit status, or null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RunOptions {
  /** Instead of this process's environment. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Descriptors of this process, 3 and above, that the program gets under the same numbers. */
  readonly descriptors?: readonly number[];
  /** What the program is to inherit instead of what Node has made of it. */
  readonly start?: StartState;
}

/**
 * Descriptors from 3 on that were open when this process began: a program is given them as they are (-object iommufd,fd=N,
 * LISTEN_FDS). Node marks low ones close-on-exec, so spawn() has to name them. What Node opens for itself looks different:
 * epoll, eventfds, and pipes with both ends here. To be called before anything else opens descriptors.
 */
export function inheritedDescriptors(): readonly number[] {
  const links = new Map<number, string>();
  for (const name of fs.readdirSync('/proc/self/fd')) {
    try {
      links.set(Number(name), fs.readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The descriptor with which the folder was read.
    }
  }
  const uses = new Map<string, number>();
  for (const link of links.values()) uses.set(link, (uses.get(link) ?? 0) + 1);
  return [...links]
    .filter(
      ([fd, link]) => fd > 2 && !link.startsWith('anon_inode:') && !(link.startsWith('pipe:') && uses.get(link)! > 1),
    )
    .map(([fd]) => fd);
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
    const env = { ...(options.env ?? process.env), ...server.environment() };
    const [file, ...rest] = withStartState(command, args, options, env);
    const started = spawn(file!, rest, {
      stdio: stdioWith(options.descriptors ?? []),
      env,
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

/** The command itself, or one that restores the start state first. One that cannot be found is left for spawn() to refuse. */
function withStartState(
  command: string,
  args: readonly string[],
  { start, cwd }: RunOptions,
  env: NodeJS.ProcessEnv,
): readonly string[] {
  if (!start || findProgram(command, env, cwd) === null) return [command, ...args];
  return [buildStart(), String(start.files ?? 0), start.ignored.toString(16), command, ...args];
}

/** For spawn(): the standard three, and `descriptors` under their own numbers. */
function stdioWith(descriptors: readonly number[]): (IOType | number)[] {
  const stdio: (IOType | number)[] = ['inherit', 'inherit', 'inherit'];
  for (const fd of descriptors) {
    while (stdio.length < fd) stdio.push('ignore');
    stdio[fd] = fd;
  }
  return stdio;
}
