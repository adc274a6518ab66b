/**
 * What stands between a client process and the engine: open files that the engine gives out, and what the engine may
 * ask of the process that calls. The server implements ClientProcess; tests and the browser have in-process ones.
 */
import type { FailurePoints } from '../drivers/failure-points.ts';
import type { MappableMemory } from '../drivers/iommu-driver.ts';
import type { PageSource, ProcessMemory } from '../memory/process-memory.ts';
import type { ProcessAccount } from './process-account.ts';

export const POLLIN = 0x001;
export const POLLOUT = 0x004;

/** An event fd of a client, held by us until release(). */
export interface EventFd {
  /** Adds 1 to the counter: wakes whoever polls it. */
  signal(): void;
  /**
   * Calls `signalled` each time that the program signals it, and now if it has been signalled: until release(). What the
   * counter counts is taken from it. Once for each eventfd.
   */
  watch(signalled: () => void): void;
  release(): void;
}

export interface ClientProcess {
  readonly pid: number;
  readonly memory: ProcessMemory;
  /** Where what it pins is accounted for. */
  readonly account: ProcessAccount;
  /** Makes allocations of this process's, or this thread's, calls fail; absent where nothing can ask for that. */
  readonly failures?: FailurePoints;
  /** The open file of ours behind this process's descriptor `fd`; null when it is closed or not ours. */
  fileOf(fd: number): OpenFile | null;
  /** The file behind descriptor `fd`, whoever's it is, as memory: nothing of it can be pinned if it is none. Null: closed. */
  memoryFile(fd: number): PageSource | null;
  /** The registers that the process has mapped at `address`, and where in them that is; null: they are not all registers. */
  registersAt?(address: bigint, length: bigint): { registers: MappedRegisters; offset: number } | null;
  /** EBADF when closed, EINVAL when not an eventfd. */
  eventFd(fd: number): EventFd | Promise<EventFd>;
  /** Opens a new descriptor for `file` in the process (O_CLOEXEC as in `flags`). Rejects when the process is gone. */
  openFd(file: OpenFile, flags: number): number | Promise<number>;
  /** Takes back a descriptor that openFd gave, when the call that made it fails after all. */
  closeFd(fd: number): void | Promise<void>;
}

/** Offsets are bytes from the start of the mapping. EIO for an access that the device does not answer: a bus error. */
export interface MappedRegisters {
  /** For the trace. */
  readonly name: string;
  readonly length: number;
  /** Physical frame of the first of them, when DMA of devices is to lead there; absent: such DMA is done by these, too. */
  readonly frame?: number;
  load(offset: number, into: Uint8Array): void;
  store(offset: number, from: Uint8Array): void;
}

/** Pages of ours that programs map. One for all mappings of the same region. */
export interface Mapping {
  /**
   * Memory: whoever serves the mapping puts memory that it shares with the program in place of the bytes. Or registers: it
   * has every access of the program done by these, before the program goes on.
   */
  readonly pages: MappableMemory | MappedRegisters;
  /** Set by the server: whether a process has it mapped, or is about to. null counts as yes. */
  inUse: (() => boolean) | null;
  /** No process has it mapped any more: called when that is noticed, once or more. */
  ended(): void;
}

/** The registers that are mapped; null: it is memory. */
export const mappedRegisters = ({ pages }: Mapping): MappedRegisters | null => ('load' in pages ? pages : null);

/** An open file description of ours. All methods throw Errno to refuse. */
export interface OpenFile {
  /** For traces and `inspect`: 'iommufd', 'vfio-device', 'veventq', ... */
  readonly kind: string;
  /** Character device numbers, or null for an anonymous inode. */
  readonly device: { readonly major: number; readonly minor: number } | null;
  /** @param arg the third argument of ioctl, unsigned 64 bits @returns what ioctl returns on success */
  ioctl(caller: ClientProcess, command: number, arg: bigint): number | Promise<number>;
  /** @param position null for read(2), the offset for pread(2) @returns bytes read */
  read(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number;
  write(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number;
  /** lseek(2), of files that have a position: ESPIPE without. @returns the new one */
  seek?(offset: bigint, whence: number): number;
  /**
   * Offers pages to map (which keeps the file from being released), or throws what the kernel answers for this file.
   * @param length as given to mmap(2): not yet rounded up to pages
   */
  mmap(caller: ClientProcess, length: bigint, protection: number, flags: number, offset: bigint): Mapping;
  /** Present poll mask. */
  readonly pollMask: number;
  /** Set by the server; the file calls it whenever pollMask changes. */
  onPollChange: (() => void) | null;
  /** The last descriptor is gone. */
  release(): void;
}
