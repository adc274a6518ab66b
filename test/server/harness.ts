/** Starts a server, compiles C programs, runs programs under it, and waits until nothing of theirs is left. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, vi } from 'vitest';
import { Server } from '../../src/server/server.ts';
import type { TraceEvent, Tracer } from '../../src/trace/events.ts';
import { TestMachine } from './machine.ts';

const here = path.dirname(fileURLToPath(import.meta.url));

export interface Output {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export class Harness {
  readonly machine = new TestMachine();
  readonly trace: TraceEvent[] = [];
  readonly errors: unknown[] = [];
  readonly server: Server;
  private readonly folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-test-'));

  constructor(tracer: Tracer = { on: true, emit: (event) => this.trace.push(event) }) {
    this.server = new Server({
      machine: this.machine,
      tracer,
      directory: this.folder,
      onInternalError: (error) => this.errors.push(error),
    });
  }

  /** Compiles test/server/NAME.c. */
  compile(name: string): string {
    const output = path.join(this.folder, name);
    const { status, stderr } = spawnSync(
      process.env.CC ?? 'cc',
      ['-D_GNU_SOURCE', '-O1', '-Wall', '-Wextra', '-o', output, path.join(here, `${name}.c`), '-pthread'],
      { encoding: 'utf8' },
    );
    if (status !== 0) throw new Error(stderr);
    return output;
  }

  start(command: string, ...args: string[]): ChildProcess {
    return spawn(command, args, { env: { ...process.env, ...this.server.environment() } });
  }

  async run(command: string, ...args: string[]): Promise<Output> {
    const child = this.start(command, ...args);
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr!.on('data', (chunk) => {
      stderr += chunk;
    });
    const [status, signal] = await once(child, 'close');
    return { status, signal, stdout, stderr };
  }

  async passes(command: string, ...args: string[]): Promise<void> {
    await this.outputOf(command, ...args);
  }

  /** Runs it, and expects success, silence on stderr, and that nothing is left. */
  async outputOf(command: string, ...args: string[]): Promise<string> {
    const { stdout, ...rest } = await this.run(command, ...args);
    expect(rest).toEqual({ status: 0, signal: null, stderr: '' });
    await this.nothingIsLeft();
    return stdout;
  }

  async nothingIsLeft(): Promise<void> {
    const nothing = { processes: 0, connections: 0, handles: 0, eventFds: this.machine.events.length, files: 0 };
    await vi.waitFor(() => expect({ ...this.server.clients, files: this.machine.alive }).toEqual(nothing), 5000);
  }

  async stop(): Promise<void> {
    await this.server.stop();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
