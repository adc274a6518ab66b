/** One ioctl of a device on its way through a handler: the caller's struct, by the rules of vfio's `argsz`. */
import { fail } from '../abi/errno.ts';
import type { StructType } from '../abi/struct.ts';
import type { ClientProcess } from '../iommufd/file.ts';
import { readUser, writeUser } from '../iommufd/user-memory.ts';

/** The terminating zero included. */
const LONGEST_STRING = 4096n;

export class Call {
  readonly caller: ClientProcess;
  /** Where the caller's struct is. */
  readonly address: bigint;

  constructor(caller: ClientProcess, address: bigint) {
    this.caller = caller;
    this.address = address;
  }

  /**
   * The caller's struct up to `last`, the rest zero. EFAULT when unreadable, EINVAL when argsz says that it is shorter.
   * What the caller has beyond is not looked at.
   */
  take<F extends StructType>(struct: F, last: keyof F['fields'] & string): InstanceType<F> & { argsz: number } {
    const minimum = struct.end(last);
    const bytes = new Uint8Array(struct.size);
    readUser(this.caller.memory, this.address, bytes.subarray(0, minimum));
    const taken = new struct(bytes) as InstanceType<F> & { argsz: number };
    if (taken.argsz < minimum) throw fail('EINVAL', `argsz ${taken.argsz} is less than ${minimum}`);
    return taken;
  }

  /** Bytes of the caller's memory `offset` behind its struct's start. */
  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    readUser(this.caller.memory, this.address + BigInt(offset), bytes);
    return bytes;
  }

  /** The C string at the argument, of at most a page: EINVAL when longer, EFAULT when unreadable. */
  string(): string {
    const characters: number[] = [];
    const byte = new Uint8Array(1);
    for (let length = 0n; length < LONGEST_STRING; length++) {
      readUser(this.caller.memory, this.address + length, byte);
      if (byte[0] === 0) return String.fromCharCode(...characters);
      characters.push(byte[0]!);
    }
    throw fail('EINVAL', `the string has no end within ${LONGEST_STRING} bytes`);
  }

  write(offset: number, bytes: Uint8Array): void {
    writeUser(this.caller.memory, this.address + BigInt(offset), bytes);
  }
}
