/** Linux errno values (asm-generic/errno-base.h, errno.h): what a program under us sees. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  ERANGE: 34,
  EDEADLK: 35,
  ENOSYS: 38,
  EBADE: 52,
  EOVERFLOW: 75,
  EBADFD: 77,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ETIMEDOUT: 110,
} as const;

export type ErrnoName = keyof typeof ERRNO;

/** The name of a positive errno. */
export const errnoName = (errno: number): ErrnoName => {
  const found = Object.entries(ERRNO).find(([, value]) => value === errno);
  if (found) return found[0] as ErrnoName;
  throw new RangeError(`errno ${errno} is none that the uAPI gives`);
};

/**
 * The only error that turns into a return code of an ioctl, read or write. `reason` is one sentence with the field and
 * both values; it reaches the trace and the log, never the program.
 */
export class Errno extends Error {
  readonly code: ErrnoName;
  readonly errno: number;
  readonly reason: string;

  constructor(code: ErrnoName, reason: string) {
    super(`${code}: ${reason}`);
    this.name = 'Errno';
    this.code = code;
    this.errno = ERRNO[code];
    this.reason = reason;
  }
}

/** Refuses a call of the program under us: `throw fail('EINVAL', ...)` reads as a sentence. */
export const fail = (code: ErrnoName, reason: string): Errno => new Errno(code, reason);
