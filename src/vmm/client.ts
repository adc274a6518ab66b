/** The calls of a VMM: ioctls with their structs, reads and writes of descriptors, all as its process makes them. */
import { Errno, type ErrnoName } from '../abi/errno.ts';
import type { AnyStruct } from '../abi/struct.ts';
import type { Machine } from '../host/machine.ts';
import { VmmProcess } from './process.ts';

export type Values = Readonly<Record<string, number | bigint>>;

/** A call that was refused. */
export class Refused extends Error {
  readonly code: ErrnoName;
  /** The struct of the ioctl, or the name of another call. */
  readonly call: string;

  constructor(code: ErrnoName, call: string, reason: string) {
    super(`${call}: ${code}: ${reason}`);
    this.name = 'Refused';
    this.code = code;
    this.call = call;
  }
}

/** Room for the struct of a call, and behind it for the data that it points to. */
const SCRATCH_BYTES = 0x1_0000;
const DATA_AT = 0x1000;

export class Client {
  readonly machine: Machine;
  readonly process: VmmProcess;
  /** Called after each ioctl: here the guest's other CPUs, and its devices, have their turn. */
  afterCall: ((struct: string) => void) | null;
  /** Has an ioctl fail before it is made, with the errno that this gives. */
  refuse: ((struct: string, values: Values) => ErrnoName | null) | null;
  private readonly scratch: number;

  /** @param memoryBytes of the process, from `base` on, beside room for the calls themselves */
  constructor(machine: Machine, memoryBytes: number, pid: number) {
    this.machine = machine;
    this.process = new VmmProcess(pid, memoryBytes + SCRATCH_BYTES);
    this.afterCall = null;
    this.refuse = null;
    this.scratch = this.process.memory.base + memoryBytes;
  }

  get base(): bigint {
    return BigInt(this.process.memory.base);
  }

  open(path: string): number {
    return this.attempt('open', () => this.process.openFd(this.machine.open(path)));
  }

  close(fd: number): void {
    this.process.closeFd(fd);
    this.machine.settle();
  }

  /** Data for the next call. @returns its address */
  put(bytes: Uint8Array): bigint {
    this.process.memory.write(this.scratch + DATA_AT, bytes);
    return BigInt(this.scratch + DATA_AT);
  }

  /** Data that the last call left. */
  data(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.process.memory.read(this.scratch + DATA_AT, bytes);
    return bytes;
  }

  /**
   * An ioctl that ends at once, as all but those that open descriptors do. Throws Refused.
   * @param values `size` or `argsz` is the struct's own unless it is among them
   */
  ioctl<S extends AnyStruct>(fd: number, command: number, layout: S, values: Values = {}): InstanceType<S> {
    const s = this.prepare(layout, values);
    this.attempt(layout.structName, () => {
      const result = this.process.file(fd).ioctl(this.process, command, BigInt(this.scratch));
      if (typeof result !== 'number') throw new Error(`${layout.structName} takes its time: it needs ioctlLater()`);
      return result;
    });
    this.finish(layout, s.bytes);
    return s;
  }

  /** The same for an ioctl whose struct tells how far it came, refused or not. */
  ioctlEvenRefused<S extends AnyStruct>(fd: number, command: number, layout: S, values: Values): InstanceType<S> {
    try {
      return this.ioctl(fd, command, layout, values);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const s = new layout();
      this.process.memory.read(this.scratch, s.bytes);
      return s as InstanceType<S>;
    }
  }

  /** An ioctl that opens a descriptor or takes eventfds. @param tail what follows the struct */
  async ioctlLater<S extends AnyStruct>(
    fd: number,
    command: number,
    layout: S,
    values: Values = {},
    tail?: Uint8Array<ArrayBuffer>,
  ): Promise<InstanceType<S>> {
    return (await this.callLater(fd, command, layout, values, tail)).s;
  }

  /** An ioctl whose result is a descriptor. */
  async ioctlForDescriptor(
    fd: number,
    command: number,
    layout: AnyStruct,
    values: Values,
    tail: Uint8Array<ArrayBuffer>,
  ): Promise<number> {
    return (await this.callLater(fd, command, layout, values, tail)).result;
  }

  /** An ioctl without a struct. */
  bare(fd: number, command: number, name: string): void {
    this.checkRefusal(name, {});
    this.attempt(name, () => this.process.file(fd).ioctl(this.process, command, 0n) as number);
    this.machine.settle();
  }

  /** @param position null for read(2) */
  read(fd: number, length: number, position: bigint | null = null): Uint8Array {
    const address = BigInt(this.scratch + DATA_AT);
    const count = this.attempt('read', () => this.process.file(fd).read(this.process, address, length, position));
    this.machine.settle();
    return this.data(count);
  }

  write(fd: number, bytes: Uint8Array, position: bigint): void {
    const address = this.put(bytes);
    this.attempt('write', () => this.process.file(fd).write(this.process, address, bytes.length, position));
    this.machine.settle();
  }

  private async callLater<S extends AnyStruct>(
    fd: number,
    command: number,
    layout: S,
    values: Values,
    tail = new Uint8Array(),
  ): Promise<{ s: InstanceType<S>; result: number }> {
    const s = this.prepare(layout, values, tail);
    try {
      const result = await this.process.file(fd).ioctl(this.process, command, BigInt(this.scratch));
      this.finish(layout, s.bytes);
      return { s, result };
    } catch (error) {
      throw refused(error, layout.structName);
    }
  }

  private prepare<S extends AnyStruct>(layout: S, values: Values, tail = new Uint8Array()): InstanceType<S> {
    const s = new layout();
    const sizeField = 'argsz' in layout.fields ? 'argsz' : 'size';
    Object.assign(s, { [sizeField]: layout.size + tail.length, ...values });
    this.process.memory.write(this.scratch, s.bytes);
    this.process.memory.write(this.scratch + layout.size, tail);
    this.checkRefusal(layout.structName, values);
    return s as InstanceType<S>;
  }

  private finish(layout: AnyStruct, bytes: Uint8Array): void {
    this.process.memory.read(this.scratch, bytes);
    this.machine.settle();
    this.afterCall?.(layout.structName);
  }

  private checkRefusal(struct: string, values: Values): void {
    const errno = this.refuse?.(struct, values);
    if (errno) throw new Refused(errno, struct, 'injected');
  }

  private attempt<T>(call: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      this.machine.settle();
      throw refused(error, call);
    }
  }
}

function refused(error: unknown, call: string): unknown {
  return error instanceof Errno ? new Refused(error.code, call, error.reason) : error;
}
