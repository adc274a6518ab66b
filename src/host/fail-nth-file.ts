/**
 * /proc/self/task/TID/fail-nth: write N, and the N-th allocation from then on fails; read how many are left up to it,
 * 0 when it has failed. Documentation/fault-injection/fault-injection.rst. The thread is the one that opened the file.
 */
import { fail } from '../abi/errno.ts';
import type { FailurePoints } from '../drivers/failure-points.ts';
import { type ClientProcess, type OpenFile, POLLIN, POLLOUT } from '../iommufd/file.ts';
import { readUser, writeUser } from '../iommufd/user-memory.ts';

/** A number that is written is no longer. */
const LONGEST = 12;
const U32_MAX = 0xffff_ffff;

export class FailNthFile implements OpenFile {
  readonly device: null;
  readonly pollMask: number;
  onPollChange: (() => void) | null;
  private readonly failures: FailurePoints;
  /** Where read(2) goes on. */
  private position: number;

  constructor(failures: FailurePoints) {
    this.device = null;
    this.pollMask = POLLIN | POLLOUT;
    this.onPollChange = null;
    this.failures = failures;
    this.position = 0;
  }

  get kind(): 'fail-nth' {
    return 'fail-nth';
  }

  read({ memory }: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const text = new TextEncoder().encode(`${this.failures.remaining}\n`);
    const from = position === null ? this.position : Number(position);
    const bytes = text.subarray(from, from + count);
    writeUser(memory, address, bytes);
    if (position === null) this.position += bytes.length;
    return bytes.length;
  }

  /** EINVAL unless it is a number of 32 bits, decimal or after 0x. */
  write({ memory }: ClientProcess, address: bigint, count: number): number {
    const bytes = new Uint8Array(Math.min(count, LONGEST));
    readUser(memory, address, bytes);
    const text = new TextDecoder().decode(bytes);
    const n = /^(\d+|0x[0-9a-f]+)\n?$/i.test(text) ? Number(text) : Number.NaN;
    if (!(n <= U32_MAX)) throw fail('EINVAL', `${JSON.stringify(text)} is no number of allocations`);
    this.failures.failNth(n);
    return count;
  }

  ioctl(): never {
    throw fail('ENOTTY', 'fail-nth has no ioctls');
  }

  mmap(): never {
    throw fail('EIO', 'fail-nth cannot be mapped');
  }

  release(): void {}
}
