/** Boots a guest in QEMU on one of our machines, and watches its console to the end. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dialect } from '../../src/abi/dialects.ts';
import { withMachine } from '../../src/cli/session.ts';
import type { Tracer } from '../../src/trace/events.ts';
import { GuestConsole } from './console.ts';

export interface GuestRun {
  readonly qemu: string;
  readonly arguments: readonly string[];
  readonly machine: string;
  readonly dialect: Dialect;
  readonly tracer: Tracer;
  readonly seconds: number;
  /** Hears each line of the console, and of QEMU's own messages. */
  readonly onLine: (line: string) => void;
}

export interface GuestOutcome {
  readonly console: GuestConsole;
  readonly seconds: number;
  /** Of QEMU: exit status, signal, or 'timeout'. */
  readonly end: string;
  /** What the machine still held when QEMU had ended, by kind: all 0 unless something leaked. */
  readonly left: Readonly<Record<string, number>>;
}

export function runGuest(run: GuestRun): Promise<GuestOutcome> {
  return withMachine({ machine: run.machine }, run.dialect, run.tracer, async ({ server, machine }) => {
    const console = new GuestConsole();
    const started = performance.now();
    const end = await boot(run, server.environment(), console);
    const seconds = (performance.now() - started) / 1000;
    // The server hears a moment later that its client has ended, and takes back what it had.
    const busy = () => [server.clients, machine.leftovers()].some((counts) => Object.values(counts).some((n) => n > 0));
    for (let tries = 0; tries < 500 && busy(); tries++) await sleep(10);
    return { console, seconds, end, left: machine.leftovers() };
  });
}

function boot(run: GuestRun, environment: Readonly<Record<string, string>>, console: GuestConsole): Promise<string> {
  const child = spawn(run.qemu, [...run.arguments], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, run.seconds * 1000);
  child.stdout.setEncoding('utf8').on('data', (text: string) => console.take(text).forEach(run.onLine));
  child.stderr.setEncoding('utf8').on('data', (text: string) => text.trimEnd().split('\n').forEach(run.onLine));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve(late ? `timeout after ${run.seconds} s` : (signal ?? `exit status ${status}`));
    });
  });
}
