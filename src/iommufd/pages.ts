/**
 * A linear piece of memory that areas of one or more IOASes map: of a process, of a file, of a device. Copies of an area
 * share it, so a page that several of them use is pinned once. Pages are pinned while at least one area over them is in a
 * domain, and stay what they were when they were pinned, whatever the process does at their addresses.
 *
 * It ends when whoever made it and every area has dropped it: a file is held that long.
 */
import { type Errno, fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { PinnedMemory } from '../memory/pinned-memory.ts';
import type { MemoryObject, PageSource } from '../memory/process-memory.ts';
import { allOrNothing } from './all-or-nothing.ts';
import type { Area } from './area.ts';
import { Coverage, type PageRun } from './coverage.ts';
import { hex } from './format.ts';
import { PinnedRuns } from './pinned-runs.ts';
import type { Charge } from './process-account.ts';
import { U64_MAX } from './u64.ts';
import { readUser, writeUser } from './user-memory.ts';

export const PAGE_BYTES = 4096n;
const PAGE = 4096;

/** A part of such memory, to be mapped. */
export interface Piece {
  readonly pages: Pages;
  readonly startByte: bigint;
  readonly length: bigint;
}

export interface PagesOptions {
  readonly pinned: PinnedMemory;
  readonly kind: 'user' | 'file' | 'dma-buf';
  readonly source: PageSource;
  /** Page-aligned address, in `source`, of page 0. */
  readonly base: bigint;
  readonly writable: boolean;
  /** How pins are accounted for; absent: not at all. */
  readonly charge?: Charge;
  /** Called when everybody has dropped them. */
  readonly ended?: (pages: Pages) => void;
}

export class Pages {
  readonly kind: 'user' | 'file' | 'dma-buf';
  readonly base: bigint;
  readonly writable: boolean;
  readonly charge: Charge | null;
  revoked: boolean;
  /** Of foreign pages, the areas that are in some domain. */
  readonly mappedAreas: Set<Area>;
  private readonly source: PageSource;
  private readonly ended: ((pages: Pages) => void) | null;
  private readonly pinned: PinnedMemory;
  private readonly covered: Coverage;
  private readonly runs: PinnedRuns;
  private holders: number;

  /** Ends with drop(). */
  constructor({ pinned, kind, source, base, writable, charge, ended }: PagesOptions) {
    mayFail('the pages of a mapping');
    this.pinned = pinned;
    this.kind = kind;
    this.source = source;
    this.base = base;
    this.writable = writable;
    this.charge = charge ?? null;
    this.ended = ended ?? null;
    this.revoked = false;
    this.mappedAreas = new Set();
    this.covered = new Coverage();
    this.runs = new PinnedRuns();
    this.holders = 1;
    source.hold?.();
  }

  /** A device's memory, which may be taken back: no access can use it, and no area of it be cut. */
  get foreign(): boolean {
    return this.kind === 'dma-buf';
  }

  hold(): void {
    this.holders++;
  }

  drop(): void {
    if (--this.holders > 0) return;
    this.source.drop?.();
    this.ended?.(this);
  }

  /** Takes foreign pages out of every domain, for good. */
  revoke(): void {
    this.revoked = true;
    for (const area of this.mappedAreas) area.withdraw();
    this.mappedAreas.clear();
  }

  /**
   * Pins pages first..last (inclusive, counted from `base`) for one more user. EFAULT when the process, EINVAL when the
   * file has no such memory, ENOMEM when there are no frames for it or the process may not pin as much; nothing is pinned
   * then.
   */
  pin(first: number, last: number): void {
    allOrNothing(
      this.covered.missing(first, last),
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
    const run = this.runs.from(index);
    if (!run || run.first > index) throw new Error(`page ${index} of ${this.source.name} is not pinned`);
    return this.pinned.frameOf(run.object, run.page + (index - run.first));
  }

  /** How many of `count` pinned pages from `index` lie behind one another physically. */
  contiguous(index: number, count: number): number {
    const run = this.runs.from(index)!;
    return this.pinned.contiguous(run.object, run.page + (index - run.first), Math.min(count, run.last - index + 1));
  }

  /** Is page `page` of `object` pinned by somebody who maps these pages? */
  isPinned(object: MemoryObject, page: number): boolean {
    return this.runs.has(object, page);
  }

  /** Copies memory from (or, with `write`, to) byte `start`. Where it is not pinned, it may be refused as by pin(). */
  copy(start: bigint, bytes: Uint8Array, write: boolean): void {
    const from = Number(start);
    for (let done = 0; done < bytes.length; ) {
      const at = from + done;
      const page = Math.floor(at / PAGE);
      const run = this.runs.from(page);
      const isPinned = run !== undefined && run.first <= page;
      const end = run ? (isPinned ? run.last + 1 : run.first) * PAGE : Infinity;
      const piece = bytes.subarray(done, done + Math.min(bytes.length - done, end - at));
      if (isPinned) {
        const address = (run.page - run.first) * PAGE + at;
        if (write) this.pinned.write(run.object, address, piece);
        else this.pinned.read(run.object, address, piece);
      } else {
        this.copyUnpinned(this.base + BigInt(at), piece, write);
      }
      done += piece.length;
    }
  }

  private copyUnpinned(address: bigint, bytes: Uint8Array, write: boolean): void {
    if (this.kind === 'file') this.resolve(address & -PAGE_BYTES, (address % PAGE_BYTES) + BigInt(bytes.length));
    if (write) writeUser(this.source, address, bytes);
    else readUser(this.source, address, bytes);
  }

  private pinRun({ first, last }: PageRun): void {
    mayFail('a batch of pages');
    const address = this.base + BigInt(first) * PAGE_BYTES;
    const bytes = BigInt(last - first + 1) * PAGE_BYTES;
    const runs = this.resolve(address, bytes);
    this.charge?.add(last - first + 1);
    let at = first;
    for (const { object, page, frames } of runs) {
      if (!this.pinned.pin(object, page, frames)) {
        this.unpinRun({ first, last: at - 1 });
        this.charge?.remove(last - at + 1);
        throw fail(
          'ENOMEM',
          `no physical frames are left for ${hex(bytes)} bytes of ${object.name} at ${hex(address)}`,
        );
      }
      this.runs.add({ first: at, last: at + frames - 1, object, page });
      at += frames;
    }
  }

  private unpinRun({ first, last }: PageRun): void {
    for (const run of this.runs.take(first, last)) {
      this.pinned.unpin(run.object, run.page, run.last - run.first + 1);
    }
    this.charge?.remove(last - first + 1);
  }

  private resolve(address: bigint, length: bigint) {
    const reachable = address + length <= BigInt(Number.MAX_SAFE_INTEGER);
    const runs = reachable ? this.source.resolve(Number(address), Number(length), this.writable) : null;
    if (!runs) throw this.absent(address, length);
    return runs;
  }

  private absent(address: bigint, length: bigint): Errno {
    const where = `${hex(address)} + ${hex(length)}`;
    if (this.kind === 'file') {
      return fail(
        'EINVAL',
        `${where} of ${this.source.name} is beyond its end, or it is no memfd, tmpfs or hugetlb file`,
      );
    }
    return fail('EFAULT', `user memory at ${where} is not all mapped and ${this.writable ? 'writable' : 'readable'}`);
  }
}

/**
 * [address, address + length) of a process's memory, whose first byte may be anywhere in its page: EINVAL when that is
 * nothing, or more than there can be.
 */
export function pieceOf(options: Omit<PagesOptions, 'base'>, address: bigint, length: bigint): Piece {
  if (length === 0n || length > U64_MAX - PAGE_BYTES) throw fail('EINVAL', `length ${hex(length)} is out of range`);
  const startByte = address % PAGE_BYTES;
  return { pages: new Pages({ ...options, base: address - startByte }), startByte, length };
}
