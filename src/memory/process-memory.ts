/**
 * Memory that can be pinned, and where it comes from. Addresses are bytes, always below 2^53, so plain numbers (callers
 * reject larger ones as EFAULT first); pages are address / 4096.
 */

/** One GiB of a memory object that can be read and written in place. */
export interface MemoryWindow {
  /** 2^28 words: what the object has is live, the rest is zeros. */
  readonly words: Uint32Array;
  /** The first `bytes` are to be the object's. @returns false when they cannot be */
  extend(bytes: number): boolean;
  /** Nobody looks at `words` any more. */
  close(): void;
}

/** Memory with an identity: everything that leads to the same byte of it leads to the same frame when it is pinned. */
export interface MemoryObject {
  /** In words, for traces: 'memory of process 12', the name of a file. */
  readonly name: string;
  /** Physical frame of its first page, when it has its place already and is never pinned; absent: a pin gives it one. */
  readonly firstFrame?: number;
  /** Fills `into` from `address`; false when any byte of it cannot be read. */
  read(address: number, into: Uint8Array): boolean;
  /** Writes `from` at `address`; false when any byte cannot be written (bytes before it may have been). */
  write(address: number, from: Uint8Array): boolean;
  /** It is to stay for one more user, whatever the processes do that have it; absent where nothing keeps it. */
  hold?(): void;
  /** Ends one hold(). */
  drop?(): void;
  /** Its GiB number `gigabyte`, the first `bytes` of which it has; null when it can only be read and written as above. */
  openWindow?(gigabyte: number, bytes: number): MemoryWindow | null;
}

/** `frames` pages of an object from `page` on. */
export interface MemoryRun {
  readonly object: MemoryObject;
  readonly page: number;
  readonly frames: number;
}

/** Something that has pages at addresses of its own: a process, a file (addresses are offsets), a dma-buf. */
export interface PageSource extends MemoryObject {
  /**
   * What lies behind [address, address + length), whole pages, in order; null when not all of it could be pinned:
   * present, readable, and writable if asked. Memory that nobody else can have is an object of its own: the source.
   */
  resolve(address: number, length: number, writable: boolean): readonly MemoryRun[] | null;
}

/** The memory of a client process, at its user virtual addresses. */
export type ProcessMemory = PageSource;

/** A file that is no memory: nothing of it can be pinned. */
export const notMemory = (name: string): PageSource => ({
  name,
  read: () => false,
  write: () => false,
  resolve: () => null,
});

/** The answer of a source that is one object and has all of these pages. */
export const ownPages = (object: MemoryObject, address: number, length: number): readonly MemoryRun[] => {
  const page = Math.floor(address / 4096);
  return [{ object, page, frames: Math.ceil((address + length) / 4096) - page }];
};
