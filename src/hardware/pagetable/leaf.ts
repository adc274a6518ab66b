/**
 * What a VMSAv8-64 descriptor says (DDI 0487, D8.3), as two int32 words: of a leaf its address, size and permissions; and
 * the outcomes of a walk.
 */
import type { TableRoot } from './table-root.ts';

export const WALK_OK = 0;
export const WALK_TRANSLATION = 1;
export const WALK_ADDRESS_SIZE = 2;
export const WALK_ACCESS = 3;
export const WALK_PERMISSION = 4;
/** External abort on a descriptor. */
export const WALK_ABORT = 5;

/** Permission bits of a leaf. There are two sets: that of privileged accesses is shifted by PRIVILEGED_SHIFT. */
export const MAY_READ = 1;
export const MAY_WRITE = 2;
export const MAY_EXECUTE = 4;
export const PRIVILEGED_SHIFT = 3;
/** Writes in both sets. */
export const MAY_WRITE_ALL: number = MAY_WRITE | (MAY_WRITE << PRIVILEGED_SHIFT);

/** Flags of a leaf: in the low word the access flag, AP[2] and S2AP[1], in the high word DBM. */
export const AF = 0x400;
export const READ_ONLY = 0x80;
export const S2_WRITE = 0x80;
export const DBM = 0x80000;

export const frameOf = (high: number, low: number): number => high * 2 ** 20 + (low >>> 12);

/** Address bits from `position` upwards, 32 of them at most. */
export function indexBits(high: number, low: number, position: number): number {
  return position >= 32 ? high >> (position - 32) : (high << (32 - position)) | (low >>> position);
}

/** Is a leaf allowed here, does its address fit, is its access flag set? */
export function leafOutcome(root: TableRoot, level: number, lo: number, hi: number): number {
  if (level === 3 ? (lo & 2) === 0 : ((root.blockLevels >>> level) & 1) === 0) return WALK_TRANSLATION;
  if ((hi & root.highLimit) !== 0 || (lo & root.lowLimit) !== 0) return WALK_ADDRESS_SIZE;
  return (lo & AF) === 0 && root.accessFlagFaults ? WALK_ACCESS : WALK_OK;
}

/** Output address of a leaf of 2^size bytes, bits 51:32: its own above the size, the input's below. */
export function leafHigh(root: TableRoot, size: number, high: number, lo: number, hi: number): number {
  const out = addressHigh(root, lo, hi);
  if (size <= 32) return out;
  const inside = (1 << (size - 32)) - 1;
  return (out & ~inside) | (high & inside);
}

/** The same for bits 31:0, as int32. */
export function leafLow(size: number, low: number, lo: number): number {
  const inside = size >= 32 ? -1 : (1 << size) - 1;
  return (lo & ~inside) | (low & inside);
}

/** Bits 51:32 of the address in a descriptor. */
export function addressHigh(root: TableRoot, lo: number, hi: number): number {
  return (hi & 0xffff) | ((lo & root.wideBits) << 4);
}

/**
 * log2 frames of a leaf. The contiguous hint counts only where the group is programmed as one, and a group never reaches
 * beyond the input range (D8.6.1).
 */
export function leafSize(root: TableRoot, level: number, high: number, low: number, lo: number, hi: number): number {
  const log2Frames = root.granule.log2Frames[level]!;
  if ((hi & 0x100000) === 0) return log2Frames;
  const group = 2 ** root.granule.contiguous[level]! - 1;
  const size = root.granule.entryLog2[level]!;
  const outHigh = addressHigh(root, lo, hi);
  const aligned = ((indexBits(outHigh, lo, size) ^ indexBits(high, low, size)) & group) === 0;
  return aligned ? Math.min(log2Frames + root.granule.contiguous[level]!, root.inputLog2Frames) : log2Frames;
}

/** S2AP and XN. With XNX, XN[0] takes execution from the privileged (0b01) or gives it back to them alone (0b11). */
export function stage2Permissions(root: TableRoot, lo: number, hi: number): number {
  return STAGE2[((lo >>> 6) & 3) | ((hi >>> 20) & 4) | ((hi >>> 18) & root.xnxBit)]!;
}

/** AP, UXN, PXN with the tables' APTable, UXNTable, PXNTable (D8.4). `table` is the union of the tables' high words. */
export function stage1Permissions(root: TableRoot, lo: number, hi: number, table: number): number {
  const readOnly = ((lo >>> 7) | (table >>> 30)) & 1;
  const user = (lo >>> 5) & ~(table >>> 28) & 2;
  const never = ((hi >>> 19) | (table >>> 25)) & 12;
  return STAGE1[readOnly | user | never | root.wxnAndPan]!;
}

/** Bits of `wxnAndPan` of a root: WXN, PAN. */
export const WXN = 16;
export const PAN = 32;
/** `xnxBit` of a root whose XN[0] counts. */
export const XNX = 8;

/** What takes execution and access away, worked out once for every combination: 40 ns less per nested walk. */
const STAGE2 = Uint8Array.from({ length: 16 }, (_, bits) => {
  const access = bits & 3;
  const never = (bits & 4) !== 0;
  const opposite = (bits & XNX) !== 0;
  const user = access | (never ? 0 : MAY_EXECUTE);
  const privileged = access | (never !== opposite ? 0 : MAY_EXECUTE);
  return user | (privileged << PRIVILEGED_SHIFT);
});

const STAGE1 = Uint8Array.from({ length: 64 }, (_, bits) => {
  const readOnly = (bits & 1) !== 0;
  const user = (bits & 2) !== 0;
  const privilegedNever = (bits & 4) !== 0;
  const userNever = (bits & 8) !== 0;
  const wxn = (bits & WXN) !== 0;
  const pan = (bits & PAN) !== 0;
  const userWrite = user && !readOnly;
  let permissions = 0;
  if (user) permissions |= MAY_READ;
  if (userWrite) permissions |= MAY_WRITE;
  if (!userNever && !(wxn && userWrite)) permissions |= MAY_EXECUTE;
  if (!(pan && user)) permissions |= (readOnly ? MAY_READ : MAY_READ | MAY_WRITE) << PRIVILEGED_SHIFT;
  if (!privilegedNever && !userWrite && !(wxn && !readOnly)) permissions |= MAY_EXECUTE << PRIVILEGED_SHIFT;
  return permissions;
});
