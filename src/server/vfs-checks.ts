/** What Linux checks before it asks a file: how the file was opened, and what mmap(2) takes at all. */
import { fail } from '../abi/errno.ts';
import { O_RDONLY, O_RDWR, O_WRONLY } from './protocol.ts';

const PAGE = 4096n;
const PROT_WRITE = 2;
/** Kinds of mapping (asm-generic/mman-common.h). */
const MAP_TYPE = 0x0f;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_SHARED_VALIDATE = 3;

const isReadable = (access: number): boolean => access === O_RDONLY || access === O_RDWR;
const isWritable = (access: number): boolean => access === O_WRONLY || access === O_RDWR;

/** @param access the O_ACCMODE of open(2) */
export function mayRead(access: number): void {
  if (!isReadable(access)) throw fail('EBADF', `a file opened with access mode ${access} cannot be read`);
}

export function mayWrite(access: number): void {
  if (!isWritable(access)) throw fail('EBADF', `a file opened with access mode ${access} cannot be written`);
}

export function mayMap(access: number, length: bigint, protection: number, flags: number, offset: bigint): void {
  if (offset % PAGE !== 0n) throw fail('EINVAL', `offset ${offset} is not a multiple of ${PAGE}`);
  if (length === 0n) throw fail('EINVAL', 'a mapping of length 0 is nothing');
  const type = flags & MAP_TYPE;
  if (type !== MAP_SHARED && type !== MAP_PRIVATE && type !== MAP_SHARED_VALIDATE) {
    throw fail('EINVAL', `flags 0x${flags.toString(16)} ask for neither a shared nor a private mapping`);
  }
  if (type !== MAP_PRIVATE && protection & PROT_WRITE && !isWritable(access)) {
    throw fail('EACCES', `a file opened with access mode ${access} cannot be mapped shared and writable`);
  }
  if (!isReadable(access)) throw fail('EACCES', `a file opened with access mode ${access} cannot be mapped`);
}
