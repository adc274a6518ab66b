/** A program inside this process: descriptors, ioctls, eventfds, and memory of its own, on a machine. */
import { dialect } from '../../src/abi/dialects.ts';
import { ERRNO, Errno, type ErrnoName, fail } from '../../src/abi/errno.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import { Machine } from '../../src/host/machine.ts';
import { type MachineInput, parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import type { EventFd, OpenFile } from '../../src/iommufd/file.ts';
import { BufferMemory, errnoName, RecordingTracer, TestProcess } from '../../src/iommufd/testing.ts';
import type { TraceEvent } from '../../src/trace/events.ts';

type Values = Readonly<Record<string, number | bigint>>;

export const MIB = 2 ** 20;

/** An eventfd that counts. */
export class CountingEventFd implements EventFd {
  count = 0;
  held = 0;

  private signalled: (() => void) | null = null;

  signal(): void {
    this.count++;
    this.wake();
  }

  watch(signalled: () => void): void {
    this.signalled = signalled;
    this.wake();
  }

  release(): void {
    this.held--;
    this.signalled = null;
  }

  private wake(): void {
    if (!this.signalled || this.count === 0) return;
    this.count = 0;
    this.signalled();
  }
}

class Process extends TestProcess {
  readonly eventFds = new Map<number, CountingEventFd>();

  override eventFd(fd: number): EventFd {
    const found = this.eventFds.get(fd);
    if (!found) throw fail(this.files.has(fd) ? 'EINVAL' : 'EBADF', `descriptor ${fd} is not an eventfd`);
    found.held++;
    return found;
  }
}

export interface TestMachine {
  readonly machine: Machine;
  readonly events: TraceEvent[];
}

export interface MachineChoice {
  readonly preset?: string;
  readonly abi?: string;
  readonly change?: (machine: MutableMachine) => void;
}

/** A preset's text, to be changed by a test. */
export interface MutableMachine {
  memory?: Record<string, unknown>;
  iommus: Record<string, unknown>[];
  functions: Record<string, unknown>[];
  policy?: Record<string, unknown>;
}

export function testMachine(choice: MachineChoice = {}): TestMachine {
  const text = structuredClone(preset(choice.preset ?? 'two-smmus').machine) as MachineInput & MutableMachine;
  choice.change?.(text);
  const tracer = new RecordingTracer();
  const machine = new Machine(parseMachine(text), { dialect: dialect(choice.abi ?? 'linux-7.1'), tracer });
  return { machine, events: tracer.events };
}

/** Room for structs and data of calls at the end of a program's memory. */
const SCRATCH_BYTES = 0x10000;

export class Program {
  readonly machine: Machine;
  readonly process: Process;
  readonly memory: BufferMemory;
  private readonly scratch: number;

  constructor(machine: Machine, memoryBytes = 16 * MIB, pid = 42) {
    this.machine = machine;
    this.memory = new BufferMemory(0x7000_0000_0000 + pid * 2 ** 32, memoryBytes + SCRATCH_BYTES, `program ${pid}`);
    this.process = new Process(this.memory, pid);
    this.scratch = this.memory.base + memoryBytes;
  }

  /** Address of the memory that is not scratch. */
  get base(): bigint {
    return BigInt(this.memory.base);
  }

  open(path: string): number {
    return this.process.openFd(this.machine.open(path)) as number;
  }

  file(fd: number): OpenFile {
    return this.process.fileOf(fd)!;
  }

  close(fd: number): void {
    this.process.closeFd(fd);
    this.machine.settle();
  }

  /** The end of the process, with whatever is open, in an order of the test's choice. */
  die(order: (fds: number[]) => number[] = (fds) => fds): void {
    for (const fd of order([...this.process.files.keys()])) this.close(fd);
  }

  eventfd(): { fd: number; eventFd: CountingEventFd } {
    const fd = 1000 + this.process.eventFds.size;
    const eventFd = new CountingEventFd();
    this.process.eventFds.set(fd, eventFd);
    return { fd, eventFd };
  }

  /** Puts bytes into scratch memory behind the struct of the next call. */
  put(bytes: Uint8Array, offset = 0x1000): bigint {
    this.memory.write(this.scratch + offset, bytes);
    return BigInt(this.scratch + offset);
  }

  get(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.memory.read(this.scratch + offset, bytes);
    return bytes;
  }

  /** @param tail bytes directly behind the struct */
  async call<S extends AnyStruct>(
    fd: number,
    command: number,
    layout: S,
    values: Values = {},
    tail = new Uint8Array(),
  ): Promise<{ errno: ErrnoName | ''; s: InstanceType<S>; tail: Uint8Array }> {
    const s = new layout();
    const sizeField = 'argsz' in layout.fields ? 'argsz' : 'size';
    Object.assign(s, { [sizeField]: layout.size + tail.length, ...values });
    this.memory.write(this.scratch, s.bytes);
    this.memory.write(this.scratch + layout.size, tail);
    const errno = await this.errnoOf(() => this.file(fd).ioctl(this.process, command, BigInt(this.scratch)));
    this.memory.read(this.scratch, s.bytes);
    this.memory.read(this.scratch + layout.size, tail);
    return { errno, s: s as InstanceType<S>, tail };
  }

  async ok<S extends AnyStruct>(fd: number, command: number, layout: S, values: Values = {}): Promise<InstanceType<S>> {
    const { errno, s } = await this.call(fd, command, layout, values);
    if (errno) throw new Error(`${layout.structName} is refused: ${errno}: ${this.lastReason}`);
    return s;
  }

  async err<S extends AnyStruct>(fd: number, command: number, layout: S, values: Values = {}): Promise<ErrnoName | ''> {
    return (await this.call(fd, command, layout, values)).errno;
  }

  /** A command without a struct. */
  bare(fd: number, command: number, arg = 0n): Promise<ErrnoName | ''> {
    return this.errnoOf(() => this.file(fd).ioctl(this.process, command, arg));
  }

  /** What the call returns, or why it is refused. */
  async result(fd: number, command: number, arg = 0n): Promise<number | ErrnoName> {
    let result = 0;
    const errno = await this.errnoOf(async () => {
      result = await this.file(fd).ioctl(this.process, command, arg);
      return result;
    });
    return errno || result;
  }

  pread(fd: number, position: bigint, length: number): Uint8Array | ErrnoName {
    const result = this.transfer(() => this.file(fd).read(this.process, BigInt(this.scratch), length, position));
    return typeof result === 'number' ? this.get(0, result) : result;
  }

  pwrite(fd: number, position: bigint, bytes: Uint8Array): number | ErrnoName {
    this.memory.write(this.scratch, bytes);
    return this.transfer(() => this.file(fd).write(this.process, BigInt(this.scratch), bytes.length, position));
  }

  /** read(2) of an event queue. */
  read(fd: number, length: number): Uint8Array {
    const count = this.file(fd).read(this.process, BigInt(this.scratch), length, null);
    return this.get(0, count);
  }

  /** write(2) of an event queue. */
  write(fd: number, bytes: Uint8Array): number | ErrnoName {
    this.memory.write(this.scratch, bytes);
    return this.transfer(() => this.file(fd).write(this.process, BigInt(this.scratch), bytes.length, null));
  }

  private transfer(call: () => number): number | ErrnoName {
    try {
      return call();
    } catch (error) {
      if (error instanceof Errno) return error.code;
      throw error;
    } finally {
      this.machine.settle();
    }
  }

  private lastReason = '';

  private async errnoOf(call: () => number | Promise<number>): Promise<ErrnoName | ''> {
    try {
      await call();
      return '';
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      this.lastReason = error.reason;
      return errnoName(-ERRNO[error.code]) || error.code;
    } finally {
      this.machine.settle();
    }
  }
}

/** Fails with the names of what is left. */
export function leftovers(machine: Machine): Record<string, number> {
  return Object.fromEntries(Object.entries(machine.leftovers()).filter(([, count]) => count !== 0));
}
