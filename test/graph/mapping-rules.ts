/** The rules of an IOAS: what may be mapped where, what an unmap takes, what is pinned, and what that costs whom. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import { type Area, type Context, type Ioas, type Memory, PAGE, type Paging, type Span, U64_LAST } from './model.ts';
import { type GraphProcess, MarkedFile } from './process.ts';

/** A part of some memory, to be mapped. */
export interface Piece {
  readonly memory: Memory;
  readonly startByte: bigint;
  readonly length: bigint;
}

export const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
export const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);

export const overlap = (a: Span, b: Span): boolean => a.start <= b.last && b.start <= a.last;
export const lengthOf = ({ start, last }: Span): bigint => last - start + 1n;
export const pageOf = (byte: bigint): number => Number(byte / PAGE);

export function alignmentOf(context: Context, ioas: Ioas): bigint {
  let alignment = ioas.huge ? 1n : PAGE;
  for (const hwpt of context.hwptsOf(ioas)) alignment = max(alignment, hwpt.alignment);
  for (const access of context.accessesOf(ioas)) if (access.pins) alignment = max(alignment, PAGE);
  return alignment;
}

/** EADDRINUSE when what is mapped does not obey `alignment`. */
export function realign(ioas: Ioas, alignment: bigint): ErrnoName | '' {
  const bad = ioas.areas.some((area) => (area.start | lengthOf(area) | (area.startByte % PAGE)) % alignment !== 0n);
  return bad ? 'EADDRINUSE' : '';
}

/** EADDRINUSE when one of `spans` cannot be reserved. */
export function reservable(ioas: Ioas, spans: readonly Span[]): ErrnoName | '' {
  const taken = [...ioas.areas, ...ioas.allowed];
  return spans.some((span) => taken.some((other) => overlap(span, other))) ? 'EADDRINUSE' : '';
}

/** What a domain cannot translate. */
export const outside = ({ start, last }: Span): Span[] => [
  ...(start ? [{ start: 0n, last: start - 1n }] : []),
  ...(last < U64_LAST ? [{ start: last + 1n, last: U64_LAST }] : []),
];

/** The complement of what is reserved. */
export function usable(ioas: Ioas): Span[] {
  const spans: Span[] = [];
  let from = 0n;
  for (const { start, last } of [...ioas.reserved].sort((a, b) => (a.start < b.start ? -1 : 1))) {
    if (start > from) spans.push({ start: from, last: start - 1n });
    from = max(from, last + 1n);
  }
  return from > U64_LAST ? spans : [...spans, { start: from, last: U64_LAST }];
}

/** Where the pieces go: an IOVA, or the errno. The new areas pin nothing yet. */
export function place(
  context: Context,
  ioas: Ioas,
  pieces: readonly Piece[],
  fixed: bigint | null,
  address: bigint,
): bigint | ErrnoName {
  const alignment = alignmentOf(context, ioas);
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0n);
  if (length === 0n || length % alignment) return 'EINVAL';
  if (fixed === null) return choose(ioas, address, length, alignment);
  if (fixed % alignment) return 'EINVAL';
  const span = { start: fixed, last: fixed + length - 1n };
  if (span.last > U64_LAST) return 'EOVERFLOW';
  if (ioas.reserved.some((reserved) => overlap(span, reserved))) return 'EINVAL';
  return ioas.areas.some((area) => overlap(span, area)) ? 'EEXIST' : fixed;
}

/** Lowest free address in which the bits below the alignment of `address` can be kept, among all starts of holes. */
function choose(ioas: Ioas, address: bigint, length: bigint, needed: bigint): bigint | ErrnoName {
  let natural = 1n;
  while (natural < length) natural *= 2n;
  const alignment = min(address ? min(natural, address & -address) : natural, 2n ** 21n);
  if (alignment < needed) return 'EINVAL';
  const everywhere = { start: PAGE, last: U64_LAST - PAGE };
  const allowed = ioas.allowed.length ? ioas.allowed : [everywhere];
  const taken = [...ioas.reserved, ...ioas.areas];
  let best: bigint | null = null;
  for (const span of allowed) {
    const first = max(span.start, everywhere.start);
    const end = min(span.last, everywhere.last);
    for (const start of [first, ...taken.map(({ last }) => last + 1n)]) {
      if (start < first || start > end) continue;
      const at = ((start + alignment - 1n) & -alignment) | (address % PAGE);
      const wanted = { start: at, last: at + length - 1n };
      if (at >= end || wanted.last > end || taken.some((other) => overlap(other, { ...wanted, start }))) continue;
      if (best === null || at < best) best = at;
    }
  }
  return best ?? 'ENOSPC';
}

export function areasOf(pieces: readonly Piece[], iova: bigint, prot: number): Area[] {
  let start = iova;
  return pieces.map(({ memory, startByte, length }) => {
    const area = { start, last: start + length - 1n, memory, startByte, prot };
    start += length;
    return area;
  });
}

/** EPERM or EINVAL when one of the areas cannot be. */
export function acceptable(areas: readonly Area[], alignment: bigint): ErrnoName | '' {
  for (const { memory, prot, startByte } of areas) {
    if (prot & 2 && !memory.writable) return 'EPERM';
    if ((startByte % PAGE) % alignment) return 'EINVAL';
  }
  return '';
}

export const insert = (ioas: Ioas, areas: readonly Area[]): void => {
  ioas.areas = [...ioas.areas, ...areas].sort((a, b) => (a.start < b.start ? -1 : 1));
};

/** IOVAs of its pages. */
export function* pagesIn({ start, last }: Span): Generator<bigint> {
  for (let at = start - (start % PAGE); at <= last; at += PAGE) yield at;
}

/** A domain translates new areas. Hardware that records writes begins with all that can be written as written. */
export function filled(hwpt: Paging, areas: readonly Area[], isMock: boolean): void {
  if (isMock || !hwpt.dirty) return;
  for (const area of areas) if (area.prot & 2) for (const page of pagesIn(area)) hwpt.dirtied.add(page);
}

/** What unmapping [start, last] takes, lowest first, and the errno that ends it. */
export function unmapped(context: Context, ioas: Ioas, { start, last }: Span): { gone: Area[]; errno: ErrnoName | '' } {
  const gone: Area[] = [];
  const locks = context.accessesOf(ioas).filter(({ internal }) => internal);
  for (const area of ioas.areas.filter((each) => overlap(each, { start, last }))) {
    if (locks.some(({ items }) => items.some((item) => overlap(item, area)))) return { gone, errno: 'EBUSY' };
    if (area.start < start || area.last > last) return { gone, errno: 'ENOENT' };
    gone.push(area);
  }
  return { gone, errno: '' };
}

/** Areas go, and with them the pins of accesses that touch them. */
export function take(context: Context, ioas: Ioas, gone: readonly Area[]): void {
  ioas.areas = ioas.areas.filter((area) => !gone.includes(area));
  for (const access of context.accessesOf(ioas)) {
    access.items = access.items.filter((item) => !gone.some((area) => overlap(area, item)));
  }
  forgetWritten(context, ioas, gone);
}

/** Domains translate these no more. */
export function forgetWritten(context: Context, ioas: Ioas, gone: readonly Area[]): void {
  for (const { dirtied, unsure } of context.hwptsOf(ioas)) {
    if (dirtied.size + unsure.size === 0) continue;
    for (const area of gone) {
      for (const page of pagesIn(area)) for (const pages of [dirtied, unsure]) pages.delete(page);
    }
  }
}

/** The parts of the areas of [start, last], which must be mapped without a gap: ENOENT. */
export function parts(ioas: Ioas, { start, last }: Span): { area: Area; start: bigint; last: bigint }[] | 'ENOENT' {
  const found = [];
  let at = start;
  for (const area of ioas.areas) {
    if (area.last < at || at > last) continue;
    if (area.start > at) break;
    const end = min(area.last, last);
    found.push({ area, start: at, last: end });
    at = end + 1n;
  }
  return at > last ? found : 'ENOENT';
}

/** Byte of its memory that `iova` of the area is. */
export const byteOf = (area: Area, iova: bigint): bigint => area.startByte + (iova - area.start);

interface Pages {
  readonly memory: Memory;
  readonly first: number;
  readonly last: number;
}

export const pagesOf = (area: Area, { start, last }: Span = area): Pages => ({
  memory: area.memory,
  first: pageOf(byteOf(area, start)),
  last: pageOf(byteOf(area, last)),
});

/** Which pages are pinned: those of areas in a domain, and what accesses have asked for. Each once for each memory. */
export class Pins {
  private readonly ranges: Map<Memory, { first: number; last: number }[]>;

  constructor(contexts: readonly Context[]) {
    this.ranges = new Map();
    for (const context of contexts) {
      for (const ioas of context.all('ioas')) {
        if (context.hwptsOf(ioas).length) for (const area of ioas.areas) this.add(pagesOf(area));
      }
      for (const { ioas, items } of context.all('access')) {
        for (const item of items) {
          const found = parts(ioas, item);
          if (found !== 'ENOENT') for (const part of found) this.add(pagesOf(part.area, part));
        }
      }
    }
  }

  /** Those whose pages have frames only while they are pinned. */
  get memories(): Memory[] {
    return [...this.ranges.keys()].filter(({ bar }) => !bar);
  }

  has(memory: Memory, page: number): boolean {
    return this.ranges.get(memory)?.some(({ first, last }) => page >= first && page <= last) ?? false;
  }

  count(memory: Memory): number {
    let [count, next] = [0, 0];
    for (const { first, last } of this.ranges.get(memory) ?? []) {
      count += Math.max(0, last - Math.max(first, next) + 1);
      next = Math.max(next, last + 1);
    }
    return count;
  }

  get frames(): number {
    let frames = 0;
    for (const memory of this.memories) frames += this.count(memory);
    return frames;
  }

  /** Pinned for `process` (null: the user of all processes), in this mode; any, when absent. */
  paidBy(process: GraphProcess | null, mode?: string): number {
    let pages = 0;
    for (const memory of this.ranges.keys()) {
      const { payer } = memory;
      if (!payer || (process && payer.process !== process) || (mode && payer.mode !== mode)) continue;
      pages += this.count(memory);
    }
    return pages;
  }

  add({ memory, first, last }: Pages): void {
    const ranges = this.ranges.get(memory) ?? [];
    this.ranges.set(
      memory,
      [...ranges, { first, last }].sort((a, b) => a.first - b.first),
    );
  }

  /** Pins these as well, and tells the errno when that cannot be. */
  tryAll(wanted: readonly Pages[]): ErrnoName | '' {
    for (const pages of wanted) {
      for (const run of this.missing(pages)) {
        const errno = absent(pages.memory, run.last) || this.unaffordable(pages.memory, run.last - run.first + 1);
        if (errno) return errno;
        this.add({ memory: pages.memory, ...run });
      }
    }
    return '';
  }

  private missing({ memory, first, last }: Pages): { first: number; last: number }[] {
    const runs = [];
    let at = first;
    for (const range of this.ranges.get(memory) ?? []) {
      if (range.last < at || range.first > last) continue;
      if (range.first > at) runs.push({ first: at, last: range.first - 1 });
      at = range.last + 1;
    }
    return at <= last ? [...runs, { first: at, last }] : runs;
  }

  private unaffordable({ payer }: Memory, pages: number): ErrnoName | '' {
    if (!payer || payer.mode === 'none') return '';
    const locked = this.paidBy(payer.mode === 'user' ? null : payer.process, payer.mode);
    return locked + pages > payer.process.limit ? 'ENOMEM' : '';
  }
}

function absent(memory: Memory, lastPage: number): ErrnoName | '' {
  const { object, kind, base } = memory;
  if (object instanceof MarkedFile && base + (lastPage + 1) * 4096 > object.bytes.length) return 'EINVAL';
  if (kind !== 'user') return '';
  return (object as GraphProcess['memory']).gone ? 'EFAULT' : '';
}
