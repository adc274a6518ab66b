/** An open file and its ioctls, made from the layouts of abi: every command is a method that takes and gives its struct. */
import type { AnyStruct } from '../abi/struct.ts';
import { checked, Refusal } from './refusal.ts';
import type { System, UserMemory } from './system.ts';

/** Fields to set; the others are 0, and the size is the struct's own. */
export type Values<S extends AnyStruct> = {
  readonly [K in Exclude<keyof InstanceType<S>, 'bytes'>]?: InstanceType<S>[K];
};

/** The struct after the call, and what the ioctl returned. */
export type Answer<S extends AnyStruct> = InstanceType<S> & { readonly result: number };

/** Ways to make a call that differ from the usual ones, and wrong calls. */
export interface Raw {
  /** Bytes directly behind the struct, which the size counts. They are as the call left them afterwards. */
  readonly tail?: Uint8Array;
  /** Told instead of where the struct is. */
  readonly address?: bigint;
}

/** A command and its layout; null: its argument is a number. */
export interface CommandOf<S extends AnyStruct | null> {
  readonly command: number;
  readonly struct: S;
}

export type CommandTable = Readonly<Record<string, CommandOf<AnyStruct | null>>>;

type Call<C> =
  C extends CommandOf<infer S>
    ? S extends AnyStruct
      ? (values?: Values<S>, raw?: Raw) => Promise<Answer<S>>
      : (argument?: number | bigint) => Promise<number>
    : never;

export type Calls<T extends CommandTable> = { readonly [K in keyof T]: Call<T[K]> };

export const takes = <S extends AnyStruct>(command: number, struct: S): CommandOf<S> => ({ command, struct });
export const takesNumber = (command: number): CommandOf<null> => ({ command, struct: null });

const NO_TAIL = new Uint8Array(0);
const BLOCK_BYTES = 4096;

/** All methods throw Refusal. */
export class OpenedFile {
  readonly system: System;
  private descriptor: number;
  /** Blocks of memory for structs, in no call now. */
  private readonly idle: UserMemory[];

  constructor(system: System, fd: number) {
    this.system = system;
    this.descriptor = fd;
    this.idle = [];
  }

  /** -1 once it is closed, for the number may be another file's then: whatever is done with this one is EBADF. */
  get fd(): number {
    return this.descriptor;
  }

  close(): void {
    const { fd } = this;
    this.descriptor = -1;
    for (const memory of this.idle.splice(0)) this.system.release(memory);
    checked(this.system.close(fd), 'close');
  }

  /** Makes an ioctl with a struct. */
  async call<S extends AnyStruct>(
    command: number,
    layout: S,
    values: Values<S> = {},
    { tail = NO_TAIL, address }: Raw = {},
  ): Promise<Answer<S>> {
    const { size } = layout;
    return this.withMemory(size + tail.length, async (memory) => {
      const bytes = memory.bytes.subarray(0, size).fill(0);
      const sizeField = 'argsz' in layout.fields ? 'argsz' : 'size';
      Object.assign(new layout(bytes), { [sizeField]: size + tail.length }, values);
      memory.bytes.set(tail, size);
      const result = await this.system.ioctl(this.fd, command, address ?? memory.address);
      const answer = Object.assign(new layout(bytes.slice()), { result }) as Answer<S>;
      tail.set(memory.bytes.subarray(size, size + tail.length));
      if (result < 0) throw new Refusal(result, layout.structName, answer);
      return answer;
    });
  }

  /** Makes an ioctl whose argument is a number. */
  async callNumber(command: number, argument: number | bigint = 0n): Promise<number> {
    return checked(await this.system.ioctl(this.fd, command, BigInt(argument)), `ioctl 0x${command.toString(16)}`);
  }

  /** Makes an ioctl whose argument points at `bytes`. */
  callBytes(command: number, bytes: Uint8Array): Promise<number> {
    return this.withMemory(bytes.length, (memory) => {
      memory.bytes.set(bytes);
      return this.callNumber(command, memory.address);
    });
  }

  /** read(2), or pread(2) with a position: as many bytes as there were. */
  read(count: number, position?: bigint): Promise<Uint8Array> {
    return this.withMemory(count, ({ address, bytes }) => {
      const { system, fd } = this;
      const result =
        position === undefined ? system.read(fd, address, count) : system.pread(fd, address, count, position);
      return bytes.slice(0, checked(result, 'read'));
    });
  }

  /** write(2), or pwrite(2) with a position: how many bytes were taken. */
  write(from: Uint8Array, position?: bigint): Promise<number> {
    return this.withMemory(from.length, ({ address, bytes }) => {
      bytes.set(from);
      const { system, fd } = this;
      const result =
        position === undefined
          ? system.write(fd, address, from.length)
          : system.pwrite(fd, address, from.length, position);
      return checked(result, 'write');
    });
  }

  private async withMemory<T>(length: number, use: (memory: UserMemory) => T | Promise<T>): Promise<T> {
    const large = length > BLOCK_BYTES;
    const memory = (large ? null : this.idle.pop()) ?? this.system.allocate(Math.max(length, BLOCK_BYTES));
    try {
      return await use(memory);
    } finally {
      if (large || this.fd < 0) this.system.release(memory);
      else this.idle.push(memory);
    }
  }
}

/** A class of files whose commands are methods, by the names in `table`. */
export function withCommands<const T extends CommandTable>(
  table: T,
): new (
  system: System,
  fd: number,
) => OpenedFile & Calls<T> {
  class CommandFile extends OpenedFile {}
  for (const [name, { command, struct }] of Object.entries(table)) {
    Object.defineProperty(CommandFile.prototype, name, {
      value: struct
        ? function (this: OpenedFile, values?: object, raw?: Raw) {
            return this.call(command, struct, values, raw);
          }
        : function (this: OpenedFile, argument?: number | bigint) {
            return this.callNumber(command, argument);
          },
    });
  }
  return CommandFile as unknown as new (
    system: System,
    fd: number,
  ) => OpenedFile & Calls<T>;
}
