/**
 * What the client needs of the operating system: that of the program itself (see koffi.ts), or of an engine in the same
 * process. Functions answer as system calls do: a result, or a negative errno.
 */

/** Memory of the program that the kernel can be told about. */
export interface UserMemory {
  readonly address: bigint;
  /** A view of it: what a call writes there is seen here. */
  readonly bytes: Uint8Array;
}

export interface System {
  open(path: string, flags: number): number;
  close(fd: number): number;
  ioctl(fd: number, command: number, argument: bigint): number | Promise<number>;
  read(fd: number, address: bigint, count: number): number;
  write(fd: number, address: bigint, count: number): number;
  pread(fd: number, address: bigint, count: number, position: bigint): number;
  pwrite(fd: number, address: bigint, count: number, position: bigint): number;
  /** Zeros that can be read and written, page-aligned. Their address stays theirs until release(). */
  allocate(length: number): UserMemory;
  /** Its bytes must not be touched any more. */
  release(memory: UserMemory): void;
}
