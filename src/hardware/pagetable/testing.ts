/**
 * Tables of every granule and their walk, for tests: from DDI 0487 D8 and in bigint, by bit slices of whole addresses, with
 * no tables of constants. They share nothing with the walker.
 */
import { WALK_ABORT, WALK_ACCESS, WALK_ADDRESS_SIZE, WALK_OK, WALK_TRANSLATION } from './leaf.ts';

/** Where a table is walked from; sizes are log2 bytes. */
export interface Shape {
  readonly granule: bigint;
  readonly input: bigint;
  readonly start: bigint;
  /** Address of the first table; concatenated ones follow it. */
  readonly root: bigint;
  readonly output: bigint;
  /** Descriptors have address bits 51:48 in bits 15:12: 64 KiB with 52-bit addresses. */
  readonly wide: boolean;
  /** AF = 0 is no fault. */
  readonly affd: boolean;
}

export interface Answer {
  outcome: number;
  address?: bigint;
  /** Bytes of the leaf, or of its contiguous group. */
  size?: bigint;
  level?: bigint;
  /** Address of the descriptor that could not be had. */
  at?: bigint;
}

/** Lowest address bit that a level resolves. */
export const lowBit = (granule: bigint, level: bigint): bigint => granule + (3n - level) * (granule - 3n);

/** First level without concatenation. */
export const naturalStart = (granule: bigint, input: bigint): bigint => {
  let level = 3n;
  while (lowBit(granule, level) + granule - 3n < input) level--;
  return level;
};

const blockAllowed = ({ granule, wide }: Shape, level: bigint): boolean =>
  level === 2n || (level === 1n && (granule === 12n || wide));

/** Address of the descriptor for `address` in the table at `table`. */
function entry({ granule, input, start }: Shape, table: bigint, level: bigint, address: bigint): bigint {
  const low = lowBit(granule, level);
  const top = level === start ? input : low + granule - 3n;
  return table + ((address & ((1n << top) - 1n)) >> low) * 8n;
}

const encode = ({ wide }: Shape, address: bigint): bigint =>
  wide ? (address & 0xffff_ffff_0000n) | ((address >> 36n) & 0xf000n) : address;

const decode = ({ wide }: Shape, descriptor: bigint): bigint => {
  const address = descriptor & 0xffff_ffff_f000n;
  return wide ? (address & ~0xf000n) | ((descriptor & 0xf000n) << 36n) : address;
};

/** @param read descriptor at an address of this stage's tables, or an Answer in its place when there is none */
export function walk(read: (address: bigint) => bigint | Answer, shape: Shape, address: bigint): Answer {
  if (address >> shape.input) return { outcome: WALK_TRANSLATION };
  let table = shape.root;
  for (let level = shape.start; ; level++) {
    const descriptor = read(entry(shape, table, level, address));
    if (typeof descriptor !== 'bigint') return descriptor;
    const kind = descriptor & 3n;
    if (kind === 0n || kind === 2n || (kind === 1n && !blockAllowed(shape, level)))
      return { outcome: WALK_TRANSLATION };
    const next = decode(shape, descriptor);
    if (next >> shape.output) return { outcome: WALK_ADDRESS_SIZE };
    if (kind === 3n && level < 3n) {
      table = (next >> shape.granule) << shape.granule;
      continue;
    }
    if ((descriptor & 0x400n) === 0n && !shape.affd) return { outcome: WALK_ACCESS };
    let size = 1n << lowBit(shape.granule, level);
    const out = (next & ~(size - 1n)) | (address & (size - 1n));
    if (descriptor & (1n << 52n)) {
      const group = groupOf(shape, level);
      if ((out / size) % group === (address / size) % group) size *= group;
      // D8.6.1: a group is never larger than the input range.
      if (size > 1n << shape.input) size = 1n << shape.input;
    }
    return { outcome: WALK_OK, address: out, size, level };
  }
}

/** Entries of a contiguous group. */
function groupOf({ granule }: Shape, level: bigint): bigint {
  if (granule === 12n) return 16n;
  if (level === 1n) return 1n;
  return granule === 14n && level === 3n ? 128n : 32n;
}

/** What tables are written through. */
export interface Tables {
  /** A descriptor, or 0. */
  read(address: bigint): bigint;
  write(address: bigint, descriptor: bigint): void;
  /** A zeroed table, aligned to its size. */
  allocate(bytes: bigint): bigint;
}

/**
 * Maps `address` by a leaf to `out` (cut to the leaf), at `level` or, where there is a table already, further down. What is
 * mapped stays.
 * @param attributes bits of the leaf besides type and address
 */
export function mapLeaf(
  tables: Tables,
  shape: Shape,
  address: bigint,
  level: bigint,
  out: bigint,
  attributes: bigint,
): void {
  let table = shape.root;
  for (let at = shape.start; ; at++) {
    const place = entry(shape, table, at, address);
    const descriptor = tables.read(place);
    if (descriptor & 1n && (at === 3n || (descriptor & 2n) === 0n)) return;
    if (at === 3n || (at >= level && descriptor === 0n && blockAllowed(shape, at))) {
      const size = 1n << lowBit(shape.granule, at);
      tables.write(place, encode(shape, out & ~(size - 1n)) | attributes | (at === 3n ? 3n : 1n));
      return;
    }
    if (descriptor === 0n) tables.write(place, encode(shape, tables.allocate(1n << shape.granule)) | 3n);
    table = decode(shape, tables.read(place)) & ~((1n << shape.granule) - 1n);
  }
}

/** An answer for memory that is not there. */
export const unreadable = (at: bigint): Answer => ({ outcome: WALK_ABORT, at });
