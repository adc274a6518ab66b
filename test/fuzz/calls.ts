/** Calls of a program as data: made on any machine, printed as they are written in regressions.ts, and shrunk. */
import { dialect } from '../../src/abi/dialects.ts';
import { Errno } from '../../src/abi/errno.ts';
import { FailurePoints } from '../../src/drivers/failure-points.ts';
import type { Machine } from '../../src/host/machine.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { type MappedRegisters, type Mapping, mappedRegisters } from '../../src/iommufd/file.ts';
import { RecordingTracer } from '../../src/iommufd/testing.ts';
import { Program, testMachine } from '../host/program.ts';

const MEMORY_BYTES = 2 ** 20;

/**
 * Numbers are what the call is given; `bytes`, in hexadecimal, are put at `address` before. A store or load is one of the
 * n-th thing that was mapped.
 */
export type Call =
  | { readonly open: string }
  | { readonly close: number }
  | { readonly poll: number }
  | {
      readonly ioctl: number;
      readonly number: number;
      readonly address: bigint;
      readonly bytes: string;
      readonly fails?: number;
    }
  | { readonly read: number; readonly address: bigint; readonly count: number; readonly at: bigint | null }
  | { readonly write: number; readonly address: bigint; readonly count: number; readonly at: bigint | null }
  | {
      readonly mmap: number;
      readonly length: bigint;
      readonly protection: number;
      readonly flags: number;
      readonly at: bigint;
    }
  | { readonly store: number; readonly at: number; readonly bytes: string }
  | { readonly load: number; readonly at: number; readonly count: number };

/** The machine of a test, and a program on it whose descriptors are the same in every run. */
export class Target {
  readonly program: Program;
  readonly paths: readonly string[];
  private readonly machine: Machine | MockMachine;
  private readonly tracer: RecordingTracer | null;
  private readonly events: unknown[];
  private readonly atRest: Record<string, number>;
  /** What the program has mapped, each of which keeps its file. */
  private readonly mappings: Mapping[];

  constructor(name: string, abi: string) {
    if (name === 'mock') {
      this.tracer = new RecordingTracer();
      this.machine = new MockMachine({ dialect: dialect(abi), tracer: this.tracer });
      this.events = this.tracer.events;
    } else {
      this.tracer = null;
      const { machine, events } = testMachine({ abi, preset: name });
      this.machine = machine;
      this.events = events;
    }
    this.atRest = this.machine.leftovers();
    this.mappings = [];
    // Of a machine, a program only opens nodes and waits for it to settle.
    this.program = new Program(this.machine as Machine, MEMORY_BYTES);
    this.paths = this.machine.deviceNodes.map(({ path }) => path);
    for (let n = 0; n < 4; n++) this.program.eventfd();
  }

  get dialect(): Machine['dialect'] {
    return this.machine.dialect;
  }

  /** How many mappings it has made. */
  get mapped(): number {
    return this.mappings.length;
  }

  get descriptors(): number[] {
    return [...this.program.process.files.keys()];
  }

  /** The errno, or 'ok'. Throws what is neither a result nor an Errno: a defect of ours. */
  async make(call: Call): Promise<string> {
    try {
      await this.perform(call);
      return 'ok';
    } catch (error) {
      if (error instanceof Errno) return error.code;
      throw error;
    } finally {
      this.machine.settle();
      this.events.length = 0;
    }
  }

  /** The end of the program: whatever it had is given back. */
  end(order: (fds: number[]) => number[] = (fds) => fds): void {
    this.program.die(order);
    for (const mapping of this.mappings) mapping.ended();
    const now = this.machine.leftovers();
    const left = Object.entries(now).filter(([name, count]) => count !== this.atRest[name]);
    if (left.length) throw new Error(`left behind: ${left.map(([name, count]) => `${name} ${count}`).join(', ')}`);
  }

  /** Null for memory, and when a shrunk sequence has lost what mapped it. */
  private registers(index: number): MappedRegisters | null {
    const mapping = this.mappings[index];
    return mapping ? mappedRegisters(mapping) : null;
  }

  private perform(call: Call): unknown {
    const { program } = this;
    const { process } = program;
    if ('open' in call) return program.open(call.open);
    if ('close' in call) return process.files.has(call.close) ? program.close(call.close) : undefined;
    if ('store' in call) return this.registers(call.store)?.store(call.at, Buffer.from(call.bytes, 'hex'));
    if ('load' in call) return this.registers(call.load)?.load(call.at, new Uint8Array(call.count));
    const fd = Object.values(call)[0] as number;
    // A shrunk sequence may have lost what opened it.
    const file = process.fileOf(fd);
    if (!file) return undefined;
    if ('poll' in call) return file.pollMask;
    if ('read' in call) return file.read(process, call.address, call.count, call.at);
    if ('write' in call) return file.write(process, call.address, call.count, call.at);
    if ('mmap' in call) {
      return this.mappings.push(file.mmap(process, call.length, call.protection, call.flags, call.at));
    }
    program.memory.write(Number(call.address), Buffer.from(call.bytes, 'hex'));
    const failures = new FailurePoints();
    failures.failNth(call.fails ?? 0);
    return failures.during(() => file.ioctl(process, call.number, call.address));
  }
}

/** What goes wrong when a program makes these calls and ends: null when nothing does. */
export async function defectOf(machine: string, abi: string, calls: readonly Call[]): Promise<Error | null> {
  try {
    const target = new Target(machine, abi);
    for (const call of calls) await target.make(call);
    target.end();
    return null;
  } catch (error) {
    return error as Error;
  }
}

/** A short sequence that still goes wrong in the same way: halves, quarters ... of it are left out as long as it does. */
export async function shrink(machine: string, abi: string, calls: readonly Call[]): Promise<readonly Call[]> {
  const message = (await defectOf(machine, abi, calls))?.message;
  if (message === undefined) return calls;
  for (let size = Math.ceil(calls.length / 2), tries = 0; tries < 4000; ) {
    let shorter: readonly Call[] | null = null;
    for (let at = 0; at < calls.length && !shorter; at += size, tries++) {
      const rest = [...calls.slice(0, at), ...calls.slice(at + size)];
      if ((await defectOf(machine, abi, rest))?.message === message) shorter = rest;
    }
    if (shorter) calls = shorter;
    else if (size === 1) break;
    size = Math.min(shorter ? size : Math.ceil(size / 2), Math.max(1, Math.ceil(calls.length / 2)));
  }
  return calls;
}

const literal = (value: unknown): string => {
  if (typeof value === 'bigint') return `0x${value.toString(16)}n`;
  return typeof value === 'string' ? `'${value.replace(/(00)+$/, '')}'` : String(value);
};

/** As it is written in regressions.test.ts. */
export function printed(machine: string, abi: string, calls: readonly Call[]): string {
  const lines = calls.map((call) => {
    const fields = Object.entries(call).map(([name, value]) => `${name}: ${literal(value)}`);
    return `      { ${fields.join(', ')} },\n`;
  });
  return `  {\n    machine: '${machine}',\n    abi: '${abi}',\n    calls: [\n${lines.join('')}    ],\n  },`;
}
