/** Runs a program that others wrote, as it was installed, on a preset machine. */
import { spawn } from 'node:child_process';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { findProgram } from '../../src/server/program-file.ts';
import { Server } from '../../src/server/server.ts';
import type { TraceEvent } from '../../src/trace/events.ts';

export interface Visit {
  readonly status: number | null;
  /** Of stdout and stderr, as it came. */
  readonly text: string;
  /** How many accesses of its devices were translated, and how many were not. */
  readonly translated: number;
  readonly refused: number;
}

export const installed = (program: string): boolean => findProgram(program, process.env) !== null;

/** Says what to install to have a test that was skipped. */
export const unless = (program: string, what: string): string =>
  installed(program) ? what : `${what} (skipped: ${program} is not installed)`;

/** A shell script. Nothing of the machine may be in use once it has ended. */
export async function visit(machineName: string, script: string): Promise<Visit> {
  let [translated, refused] = [0, 0];
  const tracer = {
    on: true,
    emit: (event: TraceEvent) => {
      if (event.type !== 'dma') return;
      if (event.frame >= 0) translated++;
      else refused++;
    },
  };
  const machine = new Machine(parseMachine(preset(machineName).machine), { tracer });
  const server = new Server({ machine, tracer });
  await server.start();
  const text: string[] = [];
  let status: number | null;
  try {
    const child = spawn('bash', ['-c', script], { env: { ...process.env, ...server.environment(), LC_ALL: 'C' } });
    child.stdout.on('data', (part: Buffer) => text.push(String(part)));
    child.stderr.on('data', (part: Buffer) => text.push(String(part)));
    child.stdin.end();
    status = await new Promise((resolve) => child.on('close', resolve));
  } finally {
    await server.stop();
  }
  const left = Object.entries(machine.leftovers()).filter(([, count]) => count > 0);
  if (left.length) throw new Error(`still in use: ${JSON.stringify(left)}`);
  return { status, text: text.join(''), translated, refused };
}
