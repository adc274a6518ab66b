/** Reading and writing the caller's memory by the kernel's rules. Addresses and lengths are bytes. */
import { fail } from '../abi/errno.ts';
import type { UserData, UserDataArray } from '../drivers/iommu-driver.ts';
import type { ProcessMemory } from '../memory/process-memory.ts';
import { hex } from './format.ts';

/** A longer tail is not searched for a byte that is not zero, but refused: a caller cannot keep us busy with it. */
const LONGEST_TAIL = 2 ** 20;
const PAGE = 4096;
const CHUNK = 65536;

/** Fills `into` from `address`, or EFAULT. */
export function readUser(memory: ProcessMemory, address: bigint, into: Uint8Array): void {
  if (into.length === 0) return;
  if (!reachable(address, into.length) || !memory.read(Number(address), into)) {
    throw fail('EFAULT', `${into.length} bytes at ${hex(address)} cannot be read`);
  }
}

/** Writes `from` at `address`, or EFAULT. */
export function writeUser(memory: ProcessMemory, address: bigint, from: Uint8Array): void {
  if (from.length === 0) return;
  if (!reachable(address, from.length) || !memory.write(Number(address), from)) {
    throw fail('EFAULT', `${from.length} bytes at ${hex(address)} cannot be written`);
  }
}

/** Clears [address, address + length), or EFAULT. */
export function clearUser(memory: ProcessMemory, address: bigint, length: number): void {
  const zeros = new Uint8Array(Math.min(length, CHUNK));
  for (let done = 0; done < length; done += zeros.length) {
    writeUser(memory, address + BigInt(done), zeros.subarray(0, Math.min(zeros.length, length - done)));
  }
}

/**
 * Fills `into`, a struct as we know it, from the caller's struct of `length` bytes: a shorter one is extended by zeros,
 * the tail of a longer one must be zero (E2BIG). EFAULT when unreadable.
 */
export function copyStruct(memory: ProcessMemory, address: bigint, length: number, into: Uint8Array): void {
  if (length > into.length) checkZero(memory, address + BigInt(into.length), length - into.length);
  readUser(memory, address, into.subarray(0, Math.min(length, into.length)));
  into.fill(0, Math.min(length, into.length));
}

function checkZero(memory: ProcessMemory, address: bigint, length: number): void {
  const end = address + BigInt(Math.min(length, LONGEST_TAIL));
  // Page by page: a byte that is not zero counts before a page that is not there.
  for (let at = address; at < end; ) {
    const next = (at | BigInt(PAGE - 1)) + 1n;
    const bytes = new Uint8Array(Number((next < end ? next : end) - at));
    readUser(memory, at, bytes);
    const found = bytes.findIndex((byte) => byte !== 0);
    if (found >= 0) throw fail('E2BIG', `the byte at ${hex(at + BigInt(found))}, beyond the known struct, is not 0`);
    at = next;
  }
  if (length > LONGEST_TAIL) throw fail('E2BIG', `the struct is ${length} bytes longer than the known one`);
}

const reachable = (address: bigint, length: number): boolean =>
  address + BigInt(length) <= BigInt(Number.MAX_SAFE_INTEGER);

/** Driver data of a command: { type, data_len, data_uptr }. */
export class CallerData implements UserData {
  readonly type: number;
  readonly length: number;
  private readonly memory: ProcessMemory;
  private readonly address: bigint;

  constructor(memory: ProcessMemory, type: number, length: number, address: bigint) {
    this.memory = memory;
    this.type = type;
    this.length = length;
    this.address = address;
  }

  /** Unlike other structs a longer one is refused whatever its tail holds: EINVAL. */
  copy(minimum: number, size: number): Uint8Array {
    if (this.length < minimum || this.length > size) {
      throw fail('EINVAL', `data_len ${this.length} is not between ${minimum} and ${size}`);
    }
    const bytes = new Uint8Array(size);
    copyStruct(this.memory, this.address, this.length, bytes);
    return bytes;
  }

  writeBack(bytes: Uint8Array): void {
    writeUser(this.memory, this.address, bytes.subarray(0, this.length));
  }
}

/** Driver commands of a command: { type, entry_len, entry_num, data_uptr }. */
export class CallerDataArray implements UserDataArray {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  private readonly memory: ProcessMemory;
  private readonly address: bigint;

  constructor(memory: ProcessMemory, type: number, entryLength: number, entryCount: number, address: bigint) {
    this.memory = memory;
    this.type = type;
    this.entryLength = entryLength;
    this.entryCount = entryCount;
    this.address = address;
  }

  copy(index: number, minimum: number, size: number): Uint8Array {
    if (index >= this.entryCount) throw fail('EINVAL', `entry ${index} of ${this.entryCount} does not exist`);
    if (this.entryLength < minimum) throw fail('EINVAL', `entry_len ${this.entryLength} is less than ${minimum}`);
    const bytes = new Uint8Array(size);
    copyStruct(this.memory, this.address + BigInt(index) * BigInt(this.entryLength), this.entryLength, bytes);
    return bytes;
  }

  /** The driver bounds entryCount and entryLength before it calls. */
  copyAll(): Uint8Array {
    const bytes = new Uint8Array(this.entryCount * this.entryLength);
    readUser(this.memory, this.address, bytes);
    return bytes;
  }
}
