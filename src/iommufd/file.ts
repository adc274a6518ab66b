/**
 * What stands between a client process and the engine: open files that the engine gives out, and what the engine may
 * ask of the process that calls. The server implements ClientProcess; tests and the browser have in-process ones.
 */
import type { ProcessMemory } from '../memory/process-memory.ts';

export const POLLIN = 0x001;
export const POLLOUT = 0x004;

/** An event fd of a client, held by us until release(). */
export interface EventFd {
  /** Adds 1 to the counter: wakes whoever polls it. */
  signal(): void;
  release(): void;
}

export interface ClientProcess {
  readonly pid: number;
  readonly memory: ProcessMemory;
  /** The open file of ours behind this process's descriptor `fd`; null when it is closed or not ours. */
  fileOf(fd: number): OpenFile | null;
  /** EBADF when closed, EINVAL when not an eventfd. */
  eventFd(fd: number): EventFd | Promise<EventFd>;
  /** Opens a new descriptor for `file` in the process (O_CLOEXEC as in `flags`). Rejects when the process is gone. */
  openFd(file: OpenFile, flags: number): number | Promise<number>;
  /** Takes back a descriptor that openFd gave, when the call that made it fails after all. */
  closeFd(fd: number): void | Promise<void>;
}

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
  /** Every mmap that is not offered throws what the kernel answers for this file. */
  mmap(caller: ClientProcess, length: bigint, protection: number, flags: number, offset: bigint): never;
  /** Present poll mask. */
  readonly pollMask: number;
  /** Set by the server; the file calls it whenever pollMask changes. */
  onPollChange: (() => void) | null;
  /** The last descriptor is gone. */
  release(): void;
}
