/** The addon shim/keeper/: what Node cannot do with descriptors. Every function returns at once a number, or -errno. */
import { createRequire } from 'node:module';
import { constants } from 'node:os';

/** Holds our ends of the handles that connect to one abstract name. */
export interface Keeper {
  /** Takes the handle that has arrived under `token`. @returns the descriptor of our end; -ENOENT when it has not */
  adopt(token: Uint8Array, index: number): number;
  /** Takes the descriptor that a client has sent as `token`. @returns an event fd; -EINVAL when it is none, -ENOENT */
  receive(token: Uint8Array): number;
  /** Fills `indexes` (of adopt) with handles whose last copy is closed, and returns how many. Close those before asking again. */
  hungUp(indexes: Uint32Array): number;
  /** Drops what has arrived from clients that have gone. */
  prune(): void;
  close(): void;
}

/** Event fds that programs signal. */
export interface Watches {
  watch(fd: number): number;
  unwatch(fd: number): number;
  /** Fills `fds` with those that have been signalled since, takes their counts, and returns how many there are. */
  take(fds: Int32Array): number;
  /** The end of a pipe in which a byte arrives when there is something to take; the caller's. */
  told(): number;
  close(): void;
}

export interface KeeperAddon {
  /** @param name abstract name to listen at @param handles what the names of handles start with */
  createKeeper(name: string, handles: string): Keeper | number;
  /** Makes the other end of a handle readable by one byte more. */
  wake(fd: number): number;
  /** 0 when everything that wake() sent has been read. */
  unread(fd: number): number;
  /** Adds 1 to an event fd, without ever waiting. */
  signal(fd: number): number;
  createWatches(): Watches | number;
  /** Makes what stands for a device node. */
  makeNode(path: string, mode: number): number;
  /** Memory that programs can map: its descriptor. */
  createRegion(size: number): number;
  mapRegion(fd: number, size: number): ArrayBuffer | number;
  /** 1 while another process has a region open or mapped. */
  isShared(fd: number): number;
  /** Where a file is mapped as a whole, shared; -errno. */
  mapFile(fd: number, size: number, writable: number): number;
  unmapFile(at: number, size: number): number;
  /** 1 GiB of zeros. */
  createWindow(): ArrayBuffer | number;
  /**
   * Shows a file from `offset` on in the first `bytes` (whole pages, which the file has) of a window. Where the file is cut
   * short afterwards, zeros take its place.
   */
  showFile(window: ArrayBuffer, fd: number, offset: number, bytes: number): number;
  /** The first `bytes` are to be the file's. */
  showMore(window: ArrayBuffer, bytes: number): number;
  /** Zeros again. */
  clearWindow(window: ArrayBuffer): number;
  /** 1 when all of `into` was read. @param mem descriptor of /proc/PID/mem */
  readMemory(mem: number, pid: number, address: number, into: Uint8Array): number;
  writeMemory(mem: number, pid: number, address: number, from: Uint8Array): number;
  /** 0 when the memory behind a descriptor of /proc/PID/mem is gone (exec, death). */
  isAlive(mem: number): number;
  /**
   * The mapping at `address`, or else the next one: start, end, access (1 read, 2 write, 8 shared), offset, major, minor,
   * inode, and the size of its name, with a zero at the end, where that may tell it from memory.
   * @param maps descriptor of /proc/PID/maps @returns 1; -ENOENT when there is none, -ENOTTY before Linux 6.11
   */
  findMapping(maps: number, address: number, into: Float64Array, name: Uint8Array): number;
}

export function loadKeeper(path: string): KeeperAddon {
  return createRequire(import.meta.url)(path) as KeeperAddon;
}

/** 'EMFILE' of -24, for messages. */
export function errnoName(result: number): string {
  return Object.entries(constants.errno).find(([, value]) => value === -result)?.[0] ?? `errno ${-result}`;
}
