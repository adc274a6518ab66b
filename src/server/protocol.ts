/** The frames of shim/protocol.h: what each holds is said there. Little-endian, of fixed size, offsets in bytes. */

export const PROTOCOL_VERSION = 1;

export const OP_HELLO = 1;
export const OP_PROVE = 2;
export const OP_OPEN = 3;
export const OP_IOCTL = 4;
export const OP_READ = 5;
export const OP_WRITE = 6;
export const OP_MMAP = 7;
export const OP_DONE = 8;
export const OP_LOAD = 9;
export const OP_STORE = 10;
export const OP_SEEK = 11;

export const RESULT = 1;
export const NONCE = 2;
export const ASK_MAKE = 3;
export const ASK_CLOSE = 4;
export const ASK_SEND = 5;
export const ASK_DRAIN = 6;
export const ASK_MAP = 7;

/** Index u32, 1 + node and access mode (its upper two bits) u32, 16 random bytes. */
export const TOKEN_BYTES = 24;
export const TOKEN_RANDOM = 8;
export const TOKEN_ACCESS_SHIFT = 30;

export const REQUEST_BYTES = 64;
export const REQUEST = { op: 0, word: 4, token: 8, a: 32, b: 40, c: 48 } as const;

/** Bytes of one OP_LOAD or OP_STORE at most. */
export const MOST_LOADED = 16;

export const REPLY_BYTES = 48;
export const REPLY = { kind: 0, error: 4, value: 8, drain: 16, flags: 20, token: 24 } as const;

/** Open flags that a file or its descriptor keeps (asm-generic/fcntl.h). */
export const O_ACCMODE = 3;
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CLOEXEC = 0o2000000;
export const O_NONBLOCK = 0o4000;
