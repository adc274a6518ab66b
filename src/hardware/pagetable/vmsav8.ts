/**
 * The VMSAv8-64 table walk (DDI 0487, D8), stage 1 and stage 2. Descriptors are read from memory as two 32-bit words;
 * addresses are frame numbers outside and pairs of int32 (bits 51:32, 31:0) inside, which keeps doubles out of the loops.
 * Nothing is allocated: answers stand in the fields of the walker until the next walk.
 *
 * A stage reports in the order of IHI 0070, 7.3.22: for each level abort, translation, address size; for the leaf the
 * access flag. Permissions are returned, not judged: the same leaf answers reads and writes.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { DescriptorWindow, NO_WORDS } from './descriptor-window.ts';
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

export class Vmsav8Walker {
  /** Stage 1: output (IPA, or PA without stage 2), size and attributes of the leaf. */
  s1Frame: number;
  s1Log2Frames: number;
  s1Permissions: number;
  s1Global: boolean;
  s1Level: number;
  /** Stage 2 likewise. */
  s2Frame: number;
  s2Log2Frames: number;
  s2Permissions: number;
  s2Level: number;
  s2Device: boolean;
  /** After a failed stage 1 or table access: did stage 2 refuse it, and for which IPA? */
  faultInStage2: boolean;
  faultFrame: number;
  /** After WALK_ABORT: physical address of the descriptor. */
  fetchFrame: number;
  fetchOffset: number;
  /** Page that stage 2 found for a table, as address bits 51:32 and 31:0. */
  private s2High: number;
  private s2Low: number;
  /** Chunk of the last stage 2 descriptor, and its words. */
  private s2Chunk: number;
  private s2Words: Int32Array;
  private readonly window: DescriptorWindow;

  constructor(memory: PhysicalMemory) {
    this.window = new DescriptorWindow(memory);
    this.s2High = 0;
    this.s2Low = 0;
    this.s2Chunk = -1;
    this.s2Words = NO_WORDS;
    this.s1Frame = 0;
    this.s1Log2Frames = 0;
    this.s1Permissions = 0;
    this.s1Global = false;
    this.s1Level = 0;
    this.s2Frame = 0;
    this.s2Log2Frames = 0;
    this.s2Permissions = 0;
    this.s2Level = 0;
    this.s2Device = false;
    this.faultInStage2 = false;
    this.faultFrame = 0;
    this.fetchFrame = 0;
    this.fetchOffset = 0;
  }

  /** Walks stage 2 for one frame of IPA. */
  stage2(root: TableRoot, frame: number): number {
    if (frame >= root.inputFrames) return WALK_TRANSLATION;
    const high = Math.floor(frame * 2 ** -20);
    return this.walk2(root, high, (frame - high * 2 ** 20) << 12, true);
  }

  /**
   * Walks stage 1 for one frame of VA, which must lie within the root's range (sign bits removed).
   * @param second translates the address of every table, when present
   * @param protectedWalk STE.S2PTW: tables may not lie in memory that stage 2 maps as Device
   */
  stage1(root: TableRoot, second: TableRoot | null, protectedWalk: boolean, frame: number): number {
    const window = this.window;
    const granule = root.granule;
    const high = Math.floor(frame * 2 ** -20);
    const low = (frame - high * 2 ** 20) << 12;
    let level = root.startLevel;
    let tableHigh = root.high;
    let tableLow = root.low;
    let index = indexBits(high, low, granule.entryLog2[level]!);
    let tableAttributes = 0;
    let current = -1;
    let words = NO_WORDS;
    this.faultInStage2 = false;
    for (;;) {
      let atHigh = tableHigh;
      let atLow = (tableLow + (index << 3)) | 0;
      if (second !== null) {
        const outcome = this.tableWalk(second, protectedWalk, atHigh, atLow);
        if (outcome !== WALK_OK) return outcome;
        atHigh = this.s2High;
        atLow = this.s2Low | (atLow & 0xfff);
      }
      const chunk = (atHigh << 11) | (atLow >>> 21);
      const word = (atLow >>> 2) & 0x7ffff;
      let lo: number;
      let hi: number;
      if (chunk !== current) {
        words = window.wordsOf(chunk);
        current = chunk;
      }
      if (words !== NO_WORDS) {
        lo = words[word]!;
        hi = words[word + 1]!;
      } else {
        if (!window.load(chunk, word)) return this.aborted(atHigh, atLow);
        lo = window.lo;
        hi = window.hi;
        current = -1;
      }
      if ((lo & 1) === 0) return WALK_TRANSLATION;
      if ((lo & 2) === 0 || level === 3) {
        const outcome = leafOutcome(root, level, lo, hi);
        if (outcome !== WALK_OK) return outcome;
        this.s1Log2Frames = leafSize(root, level, high, low, lo, hi);
        const size = granule.entryLog2[level]!;
        this.s1Frame = frameOf(leafHigh(root, size, high, lo, hi), leafLow(size, low, lo));
        this.s1Permissions = stage1Permissions(root, lo, hi, root.hierarchical ? tableAttributes : 0);
        this.s1Global = (lo & 0x800) === 0;
        this.s1Level = level;
        return WALK_OK;
      }
      if ((hi & root.highLimit) !== 0 || (lo & root.lowLimit) !== 0) return WALK_ADDRESS_SIZE;
      tableAttributes |= hi;
      tableHigh = addressHigh(root, lo, hi);
      tableLow = lo & (-1 << granule.log2Bytes);
      level++;
      index = indexBits(high, low, granule.entryLog2[level]!) & granule.indexMask;
    }
  }

  /** Stage 2 of a CD's IPA: `s2Frame` is where it lies. */
  tableAccess(second: TableRoot, protectedWalk: boolean, frame: number, offset: number): number {
    const high = Math.floor(frame * 2 ** -20);
    const outcome = this.tableWalk(second, protectedWalk, high, ((frame - high * 2 ** 20) << 12) | offset);
    this.s2Frame = frameOf(this.s2High, this.s2Low);
    return outcome;
  }

  /** Stage 2 of the IPA of a descriptor or CD: `s2High` and `s2Low` are the page where it lies. */
  private tableWalk(second: TableRoot, protectedWalk: boolean, high: number, low: number): number {
    let outcome = WALK_TRANSLATION;
    if (second.inputFrames > 2 ** 39 || frameOf(high, low) < second.inputFrames) {
      outcome = this.walk2(second, high, low & ~0xfff, false);
    }
    if (outcome === WALK_OK) {
      if ((this.s2Permissions & MAY_READ) !== 0 && !(protectedWalk && this.s2Device)) return WALK_OK;
      outcome = WALK_PERMISSION;
    }
    this.faultInStage2 = true;
    this.faultFrame = frameOf(high, low);
    return outcome;
  }

  /**
   * @param whole also the size and level of the leaf, which table accesses do not need
   *
   * The loop is the hot spot of a nested walk (20 of 24 reads): what it uses of `root` stands in locals.
   */
  private walk2(root: TableRoot, high: number, low: number, whole: boolean): number {
    const window = this.window;
    const { highLimit, lowLimit, wide } = root;
    const { stride, indexMask, log2Bytes } = root.granule;
    const tableMask = -1 << log2Bytes;
    let level = root.startLevel;
    let position = log2Bytes + stride * (3 - level);
    let atHigh = root.high;
    let atLow = (root.low + (indexBits(high, low, position) << 3)) | 0;
    let current = this.s2Chunk;
    let words = this.s2Words;
    for (;;) {
      const chunk = (atHigh << 11) | (atLow >>> 21);
      const word = (atLow >>> 2) & 0x7ffff;
      let lo: number;
      let hi: number;
      if (chunk !== current) {
        words = window.wordsOf(chunk);
        current = chunk;
      }
      if (words !== NO_WORDS) {
        lo = words[word]!;
        hi = words[word + 1]!;
      } else {
        if (!window.load(chunk, word)) return this.aborted(atHigh, atLow);
        lo = window.lo;
        hi = window.hi;
        current = -1;
      }
      if ((lo & 1) === 0) return WALK_TRANSLATION;
      if ((lo & 2) === 0 || level === 3) {
        this.s2Chunk = current;
        this.s2Words = words;
        // Nearly every table lies in a readable page with AF = 1: all that a table access wants to know of it.
        if (!whole && level === 3 && !wide && (lo & 0x443) === 0x443 && (hi & highLimit) === 0) {
          this.s2High = hi & 0xffff;
          this.s2Low = (lo & tableMask) | (low & ~tableMask);
          this.s2Permissions = MAY_READ;
          this.s2Device = (lo & 0x30) === 0;
          return WALK_OK;
        }
        return this.leaf2(root, level, high, low, lo, hi, whole);
      }
      if ((hi & highLimit) !== 0 || (lo & lowLimit) !== 0) return WALK_ADDRESS_SIZE;
      level++;
      position -= stride;
      atHigh = wide ? (hi & 0xffff) | ((lo & 0xf000) << 4) : hi & 0xffff;
      atLow = (lo & tableMask) | ((indexBits(high, low, position) & indexMask) << 3);
    }
  }

  private leaf2(
    root: TableRoot,
    level: number,
    high: number,
    low: number,
    lo: number,
    hi: number,
    whole: boolean,
  ): number {
    const outcome = leafOutcome(root, level, lo, hi);
    if (outcome !== WALK_OK) return outcome;
    this.s2Permissions = stage2Permissions(root, lo, hi);
    this.s2Device = (lo & 0x30) === 0;
    const size = root.granule.entryLog2[level]!;
    this.s2High = leafHigh(root, size, high, lo, hi);
    this.s2Low = leafLow(size, low, lo);
    if (!whole) return WALK_OK;
    this.s2Frame = frameOf(this.s2High, this.s2Low);
    this.s2Log2Frames = leafSize(root, level, high, low, lo, hi);
    this.s2Level = level;
    return WALK_OK;
  }

  private aborted(high: number, low: number): number {
    this.fetchFrame = frameOf(high, low);
    this.fetchOffset = low & 0xfff;
    return WALK_ABORT;
  }
}

const frameOf = (high: number, low: number): number => high * 2 ** 20 + (low >>> 12);

/** Address bits from `position` upwards, 32 of them at most. */
function indexBits(high: number, low: number, position: number): number {
  return position >= 32 ? high >> (position - 32) : (high << (32 - position)) | (low >>> position);
}

/** Is a leaf allowed here, does its address fit, is its access flag set? */
function leafOutcome(root: TableRoot, level: number, lo: number, hi: number): number {
  if (level === 3 ? (lo & 2) === 0 : ((root.blockLevels >>> level) & 1) === 0) return WALK_TRANSLATION;
  if ((hi & root.highLimit) !== 0 || (lo & root.lowLimit) !== 0) return WALK_ADDRESS_SIZE;
  return (lo & 0x400) === 0 && root.accessFlagFaults ? WALK_ACCESS : WALK_OK;
}

/** Output address of a leaf of 2^size bytes, bits 51:32: its own above the size, the input's below. */
function leafHigh(root: TableRoot, size: number, high: number, lo: number, hi: number): number {
  const out = addressHigh(root, lo, hi);
  if (size <= 32) return out;
  const inside = (1 << (size - 32)) - 1;
  return (out & ~inside) | (high & inside);
}

/** The same for bits 31:0, as int32. */
function leafLow(size: number, low: number, lo: number): number {
  const inside = size >= 32 ? -1 : (1 << size) - 1;
  return (lo & ~inside) | (low & inside);
}

/** Bits 51:32 of the address in a descriptor. */
function addressHigh(root: TableRoot, lo: number, hi: number): number {
  return root.wide ? (hi & 0xffff) | ((lo & 0xf000) << 4) : hi & 0xffff;
}

/**
 * log2 frames of a leaf. The contiguous hint counts only where the group is programmed as one, and a group never reaches
 * beyond the input range (D8.6.1).
 */
function leafSize(root: TableRoot, level: number, high: number, low: number, lo: number, hi: number): number {
  const log2Frames = root.granule.log2Frames[level]!;
  if ((hi & 0x100000) === 0) return log2Frames;
  const group = 2 ** root.granule.contiguous[level]! - 1;
  const size = root.granule.entryLog2[level]!;
  const outHigh = addressHigh(root, lo, hi);
  const aligned = ((indexBits(outHigh, lo, size) ^ indexBits(high, low, size)) & group) === 0;
  return aligned ? Math.min(log2Frames + root.granule.contiguous[level]!, root.inputLog2Frames) : log2Frames;
}

/** S2AP and XN. With XNX, XN[0] takes execution from the privileged (0b01) or gives it back to them alone (0b11). */
function stage2Permissions(root: TableRoot, lo: number, hi: number): number {
  const access = (lo >>> 6) & 3;
  const never = (hi & 0x400000) !== 0;
  const opposite = root.xnx && (hi & 0x200000) !== 0;
  const user = access | (never ? 0 : MAY_EXECUTE);
  const privileged = access | (never !== opposite ? 0 : MAY_EXECUTE);
  return user | (privileged << PRIVILEGED_SHIFT);
}

/** AP, UXN, PXN with the tables' APTable, UXNTable, PXNTable (D8.4). `table` is the union of the tables' high words. */
function stage1Permissions(root: TableRoot, lo: number, hi: number, table: number): number {
  const readOnly = (lo & 0x80) !== 0 || (table & 0x40000000) !== 0;
  const user = (lo & 0x40) !== 0 && (table & 0x20000000) === 0;
  const userWrite = user && !readOnly;
  let permissions = 0;
  if (user) permissions |= MAY_READ;
  if (userWrite) permissions |= MAY_WRITE;
  if (((hi & 0x400000) | (table & 0x10000000)) === 0 && !(root.wxn && userWrite)) permissions |= MAY_EXECUTE;
  if (!(root.pan && user)) permissions |= (readOnly ? MAY_READ : MAY_READ | MAY_WRITE) << PRIVILEGED_SHIFT;
  const privilegedExecute = ((hi & 0x200000) | (table & 0x08000000)) === 0 && !userWrite && !(root.wxn && !readOnly);
  if (privilegedExecute) permissions |= MAY_EXECUTE << PRIVILEGED_SHIFT;
  return permissions;
}
