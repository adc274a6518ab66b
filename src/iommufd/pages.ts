/**
 * A linear piece of a process's memory that areas of one or more IOASes map. Copies of an area share it, so a page that
 * several of them use is pinned once. Pages are pinned while at least one area over them is in a domain.
 */
import { fail } from '../abi/errno.ts';
import type { PinnedMemory } from '../memory/pinned-memory.ts';
import type { ProcessMemory } from '../memory/process-memory.ts';
import { allOrNothing } from './all-or-nothing.ts';
import type { Area } from './area.ts';
import { Coverage, type PageRun } from './coverage.ts';
import { hex } from './format.ts';
import { U64_MAX } from './u64.ts';
import { readUser, writeUser } from './user-memory.ts';

export const PAGE_BYTES = 4096n;
const PAGE_SHIFT = 12n;

/** A part of such memory, to be mapped. */
export interface Piece {
  readonly pages: Pages;
  readonly startByte: bigint;
  readonly length: bigint;
}

export class Pages {
  readonly process: ProcessMemory;
  /** User address of the first page. */
  readonly base: bigint;
  readonly writable: boolean;
  /** A device's memory, which may be taken back: no access can use it, and no area of it be cut. */
  readonly foreign: boolean;
  revoked: boolean;
  /** Of foreign pages, the areas that are in some domain. */
  readonly mappedAreas: Set<Area>;
  private readonly pinned: PinnedMemory;
  private readonly covered: Coverage;

  /** @param address page-aligned user address of page 0 */
  constructor(pinned: PinnedMemory, process: ProcessMemory, address: bigint, writable: boolean, foreign = false) {
    this.pinned = pinned;
    this.process = process;
    this.base = address;
    this.writable = writable;
    this.foreign = foreign;
    this.revoked = false;
    this.mappedAreas = new Set();
    this.covered = new Coverage();
  }

  /** Takes foreign pages out of every domain, for good. */
  revoke(): void {
    this.revoked = true;
    for (const area of this.mappedAreas) area.withdraw();
    this.mappedAreas.clear();
  }

  /**
   * Pins pages first..last (inclusive, counted from `base`) for one more user. EFAULT when the process has no such
   * memory, ENOMEM when there are no frames for it; nothing is pinned then.
   */
  pin(first: number, last: number): void {
    const missing = this.covered.missing(first, last);
    allOrNothing(
      missing,
      (run) => this.pinRun(run),
      (run) => this.unpinRun(run),
    );
    this.covered.add(first, last);
  }

  /** Takes back one pin() of exactly these pages. */
  unpin(first: number, last: number): void {
    this.covered.remove(first, last);
    for (const run of this.covered.missing(first, last)) this.unpinRun(run);
  }

  /** Physical frame of a pinned page. */
  frame(index: number): number {
    return this.pinned.frameOf(this.process, this.pageNumber(index));
  }

  /** How many of `count` pinned pages from `index` lie behind one another physically. */
  contiguous(index: number, count: number): number {
    return this.pinned.contiguous(this.process, this.pageNumber(index), count);
  }

  /** Is the page at this user address pinned by somebody who maps these pages? */
  isPinned(address: bigint): boolean {
    const page = Number((address - this.base) >> PAGE_SHIFT);
    return address >= this.base && this.covered.missing(page, page).length === 0;
  }

  /** Copies memory from (or, with `write`, to) byte `start`, pinned or not: EFAULT when the process has none there. */
  copy(start: bigint, bytes: Uint8Array, write: boolean): void {
    const address = this.base + start;
    if (write) writeUser(this.process, address, bytes);
    else readUser(this.process, address, bytes);
  }

  private pinRun({ first, last }: PageRun): void {
    const address = this.base + BigInt(first) * PAGE_BYTES;
    const bytes = BigInt(last - first + 1) * PAGE_BYTES;
    const reachable = address + bytes <= BigInt(Number.MAX_SAFE_INTEGER);
    if (!reachable || !this.process.pinnable(Number(address), Number(bytes), this.writable)) {
      const kind = this.writable ? 'writable' : 'readable';
      throw fail('EFAULT', `user memory at ${hex(address)} + ${hex(bytes)} is not all mapped and ${kind}`);
    }
    if (!this.pinned.pin(this.process, this.pageNumber(first), last - first + 1)) {
      throw fail('ENOMEM', `no physical frames are left for ${hex(bytes)} bytes of user memory at ${hex(address)}`);
    }
  }

  private unpinRun({ first, last }: PageRun): void {
    this.pinned.unpin(this.process, this.pageNumber(first), last - first + 1);
  }

  /** Page number in the process's address space. */
  private pageNumber(index: number): number {
    return Number(this.base >> PAGE_SHIFT) + index;
  }
}

/**
 * [address, address + length) of a process's memory, whose first byte may be anywhere in its page: EINVAL when that is
 * nothing, or more than there can be.
 */
export function userPiece(
  pinned: PinnedMemory,
  process: ProcessMemory,
  address: bigint,
  length: bigint,
  writable: boolean,
): Piece {
  if (length === 0n || length > U64_MAX - PAGE_BYTES) throw fail('EINVAL', `length ${hex(length)} is out of range`);
  const startByte = address % PAGE_BYTES;
  return { pages: new Pages(pinned, process, address - startByte, writable), startByte, length };
}
