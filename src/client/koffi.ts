/**
 * The system calls of this program, through the package koffi, which whoever wants them installs and hands over:
 * `koffiSystem((await import('koffi')).default)`. They go through the C library, and so through a preloaded shim.
 */
import type { System, UserMemory } from './system.ts';

// biome-ignore lint/suspicious/noExplicitAny: what a foreign function takes and gives is only known at run time
type ForeignFunction = (...args: any[]) => any;

/** The part of koffi that is used. */
export interface Koffi {
  load(path: string | null): { func(prototype: string): ForeignFunction };
  errno(): number;
  view(pointer: unknown, length: number): ArrayBuffer;
}

const PAGE = 4096;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;

export function koffiSystem(koffi: Koffi): System {
  const library = koffi.load(null);
  const declare = (prototype: string): ForeignFunction => {
    const foreign = library.func(prototype);
    return (...args) => {
      const result = Number(foreign(...args));
      return result === -1 ? -koffi.errno() : result;
    };
  };
  const open = declare('int open(const char *path, int flags, ...)');
  const ioctl = declare('int ioctl(int fd, unsigned long command, ...)');
  const mmap = library.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)');
  const munmap = declare('int munmap(uint64_t address, size_t length)');
  return {
    open: (path, flags) => open(path, flags, 'int', 0),
    close: declare('int close(int fd)'),
    ioctl: (fd, command, argument) => ioctl(fd, command, 'uint64_t', argument),
    read: declare('int64_t read(int fd, uint64_t address, size_t count)'),
    write: declare('int64_t write(int fd, uint64_t address, size_t count)'),
    pread: declare('int64_t pread(int fd, uint64_t address, size_t count, int64_t position)'),
    pwrite: declare('int64_t pwrite(int fd, uint64_t address, size_t count, int64_t position)'),
    allocate(wanted): UserMemory {
      const length = Math.ceil(wanted / PAGE) * PAGE;
      const pointer = mmap(null, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
      if (BigInt.asIntN(64, BigInt(pointer)) === -1n)
        throw new Error(`mmap of ${length} bytes: errno ${koffi.errno()}`);
      return { address: BigInt(pointer), bytes: new Uint8Array(koffi.view(pointer, length), 0, wanted) };
    },
    release({ address, bytes }) {
      munmap(address, bytes.buffer.byteLength);
    },
  };
}
