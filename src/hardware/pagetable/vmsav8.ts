/**
 * The VMSAv8-64 table walk (DDI 0487, D8), stage 1 and stage 2. Descriptors are read from memory as two 32-bit words;
 * addresses are frame numbers outside and pairs of int32 (bits 51:32, 31:0) inside, which keeps doubles out of the loops.
 * Nothing is allocated: answers stand in the fields of the walker until the next walk.
 *
 * A stage reports in the order of IHI 0070, 7.3.22: for each level abort, translation, address size; for the leaf the
 * access flag. Permissions are returned, not judged: the same leaf answers reads and writes.
 *
 * Where the root says so, the walk sets access flags by itself. Dirty state is the caller's to ask for (markDirty1 and 2), once
 * both stages permit the write. An update of a stage 1 descriptor is a write to stage 2, which may refuse it.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { DescriptorWindow, NO_WORDS } from './descriptor-window.ts';
import {
  AF,
  addressHigh,
  DBM,
  frameOf,
  indexBits,
  leafHigh,
  leafLow,
  leafOutcome,
  leafSize,
  MAY_READ,
  MAY_WRITE,
  READ_ONLY,
  S2_WRITE,
  stage1Permissions,
  stage2Permissions,
  WALK_ABORT,
  WALK_ADDRESS_SIZE,
  WALK_OK,
  WALK_PERMISSION,
  WALK_TRANSLATION,
} from './leaf.ts';
import type { TableRoot } from './table-root.ts';

/** What stage 2 is walked for: a descriptor to be read (its page is all that counts) or written, or an output address. */
const TABLE_READ = 0;
const TABLE_WRITE = 1;
const OUTPUT = 2;

export class Vmsav8Walker {
  /** Stage 1: output (IPA, or PA without stage 2), size and attributes of the leaf. */
  s1Frame: number;
  s1Log2Frames: number;
  s1Permissions: number;
  s1Global: boolean;
  s1Level: number;
  /** The leaf is writable-clean: a write that `s1Permissions` allows has to be recorded first, by markDirty1(). */
  s1Clean: boolean;
  /** Stage 2 likewise. */
  s2Frame: number;
  s2Log2Frames: number;
  s2Permissions: number;
  s2Level: number;
  s2Clean: boolean;
  /** After a failed stage 1 or table access: did stage 2 refuse it, for which IPA, and as a write? */
  faultInStage2: boolean;
  faultFrame: number;
  faultWrite: boolean;
  /** After WALK_ABORT: physical address of the descriptor. */
  fetchFrame: number;
  fetchOffset: number;
  /** Address that stage 2 found, bits 51:32 and 31:0. */
  private s2High: number;
  private s2Low: number;
  /** Chunk of the last stage 2 descriptor, and its words. */
  private s2Chunk: number;
  private s2Words: Int32Array;
  /** `s1Frame` as address bits 51:32 and 31:0. */
  private s1High: number;
  private s1Low: number;
  /** Leaf of the last stage 1 walk: address as stage 1 has it, and content. */
  private s1AtHigh: number;
  private s1AtLow: number;
  private s1Lo: number;
  private s1Hi: number;
  /** The writable-clean leaf of the last stage 2 walk for an output address. */
  private s2AtHigh: number;
  private s2AtLow: number;
  private s2Lo: number;
  private s2Hi: number;
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
    this.s1Clean = false;
    this.s1High = 0;
    this.s1Low = 0;
    this.s1AtHigh = 0;
    this.s1AtLow = 0;
    this.s1Lo = 0;
    this.s1Hi = 0;
    this.s2Frame = 0;
    this.s2Log2Frames = 0;
    this.s2Permissions = 0;
    this.s2Level = 0;
    this.s2Clean = false;
    this.s2AtHigh = 0;
    this.s2AtLow = 0;
    this.s2Lo = 0;
    this.s2Hi = 0;
    this.faultInStage2 = false;
    this.faultFrame = 0;
    this.faultWrite = false;
    this.fetchFrame = 0;
    this.fetchOffset = 0;
  }

  /** Walks stage 2 for one frame of IPA. */
  stage2(root: TableRoot, frame: number): number {
    const high = Math.floor(frame * 2 ** -20);
    return this.walk2(root, high, (frame - high * 2 ** 20) << 12, OUTPUT);
  }

  /** The same for the output of the last stage 1 walk. */
  stage2OfOutput(root: TableRoot): number {
    return this.walk2(root, this.s1High, this.s1Low, OUTPUT);
  }

  /**
   * Walks stage 1 for one frame of VA, which must lie within the root's range (sign bits removed).
   * @param second translates the address of every table, when present
   */
  stage1(root: TableRoot, second: TableRoot | null, frame: number): number {
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
    this.s2Clean = false;
    for (;;) {
      let atHigh = tableHigh;
      let atLow = (tableLow + (index << 3)) | 0;
      if (second !== null) {
        const outcome = this.walk2(second, atHigh, atLow, TABLE_READ);
        if (outcome !== WALK_OK) return this.refused(outcome, atHigh, atLow, TABLE_READ);
        atHigh = this.s2High;
        atLow = this.s2Low;
      }
      const chunk = (atHigh << 11) | (atLow >>> 21);
      let word = (atLow >>> 2) & 0x7ffff;
      if (chunk !== current) {
        words = window.wordsOf(chunk);
        current = chunk;
        if (words === NO_WORDS) {
          if (!window.load(chunk, word)) return this.aborted(atHigh, atLow);
          words = window.loaded;
          word = 0;
          current = -1;
        }
      }
      const lo = words[word]!;
      const hi = words[word + 1]!;
      if ((lo & 1) === 0) return WALK_TRANSLATION;
      if ((lo & 2) === 0 || level === 3) {
        const outcome = leafOutcome(root, level, lo, hi);
        if (outcome !== WALK_OK) return outcome;
        this.s1Log2Frames = leafSize(root, level, high, low, lo, hi);
        const size = granule.entryLog2[level]!;
        this.s1High = leafHigh(root, size, high, lo, hi);
        this.s1Low = leafLow(size, low, lo);
        this.s1Frame = frameOf(this.s1High, this.s1Low);
        const attributes = root.hierarchical ? tableAttributes : 0;
        const clean = root.updatesDirty && (hi & DBM) !== 0 && (lo & READ_ONLY) !== 0;
        this.s1Permissions = stage1Permissions(root, clean ? lo & ~READ_ONLY : lo, hi, attributes);
        this.s1Global = (lo & 0x800) === 0;
        this.s1Level = level;
        this.s1Clean = clean;
        if (!root.updatesAccess) return WALK_OK;
        this.s1AtHigh = tableHigh;
        this.s1AtLow = (tableLow + (index << 3)) | 0;
        this.s1Lo = lo | AF;
        this.s1Hi = hi;
        return (lo & AF) !== 0 ? WALK_OK : this.store1(second);
      }
      if ((hi & root.highLimit) !== 0 || (lo & root.lowLimit) !== 0) return WALK_ADDRESS_SIZE;
      tableAttributes |= hi;
      tableHigh = addressHigh(root, lo, hi);
      tableLow = lo & (-1 << granule.log2Bytes);
      level++;
      index = indexBits(high, low, granule.entryLog2[level]!) & granule.indexMask;
    }
  }

  /**
   * Makes the writable-clean leaf of the last stage 1 walk dirty, for a write that both stages permit. Stage 2 may refuse
   * the update, so this comes before markDirty2(), for which it leaves everything as it is.
   */
  markDirty1(second: TableRoot | null): number {
    this.s1Lo &= ~READ_ONLY;
    return this.store1(second);
  }

  /** The same for the leaf of the last stage 2 walk. */
  markDirty2(): number {
    const { s2AtHigh, s2AtLow } = this;
    return this.store(s2AtHigh, s2AtLow, this.s2Lo | S2_WRITE, this.s2Hi) ? WALK_OK : this.aborted(s2AtHigh, s2AtLow);
  }

  /** Stage 2 of a CD's IPA: `s2Frame` is where it lies. */
  tableAccess(second: TableRoot, frame: number): number {
    const high = Math.floor(frame * 2 ** -20);
    const low = (frame - high * 2 ** 20) << 12;
    const outcome = this.walk2(second, high, low, TABLE_READ);
    if (outcome !== WALK_OK) return this.refused(outcome, high, low, TABLE_READ);
    this.s2Frame = frameOf(this.s2High, this.s2Low);
    return WALK_OK;
  }

  /** Stage 2 refuses an access to a table at this IPA. */
  private refused(outcome: number, high: number, low: number, purpose: number): number {
    this.faultInStage2 = true;
    this.faultFrame = frameOf(high, low);
    this.faultWrite = purpose === TABLE_WRITE;
    return outcome;
  }

  /** Writes the leaf of the last stage 1 walk back. */
  private store1(second: TableRoot | null): number {
    let high = this.s1AtHigh;
    let low = this.s1AtLow;
    if (second !== null) {
      const outcome = this.walk2(second, high, low, TABLE_WRITE);
      if (outcome !== WALK_OK) return this.refused(outcome, high, low, TABLE_WRITE);
      high = this.s2High;
      low = this.s2Low;
    }
    return this.store(high, low, this.s1Lo, this.s1Hi) ? WALK_OK : this.aborted(high, low);
  }

  private store(high: number, low: number, lo: number, hi: number): boolean {
    return this.window.store((high << 11) | (low >>> 21), (low >>> 2) & 0x7ffff, lo, hi);
  }

  /**
   * @param purpose table accesses do not need the size and level of the leaf
   *
   * The loop is the hot spot of a nested walk (20 of 24 reads): what it uses of `root` stands in locals.
   */
  private walk2(root: TableRoot, high: number, low: number, purpose: number): number {
    const window = this.window;
    const { highLimit, lowLimit, wideBits } = root;
    if (((high & root.inputHighLimit) | (low & root.inputLowLimit)) !== 0) return WALK_TRANSLATION;
    const { stride, indexMask, log2Bytes } = root.granule;
    const tableMask = -1 << log2Bytes;
    // Index bits of levels 0 and 1, and of levels 2 and 3.
    const upper = indexBits(high, low, log2Bytes + 2 * stride);
    const lower = indexBits(high, low, log2Bytes);
    let level = root.startLevel;
    let atHigh = root.high;
    let atLow = (root.low + (indexBits(high, low, root.startPosition) << 3)) | 0;
    let current = this.s2Chunk;
    let words = this.s2Words;
    for (;;) {
      const chunk = (atHigh << 11) | (atLow >>> 21);
      let word = (atLow >>> 2) & 0x7ffff;
      if (chunk !== current) {
        words = window.wordsOf(chunk);
        current = chunk;
        if (words === NO_WORDS) {
          if (!window.load(chunk, word)) return this.aborted(atHigh, atLow);
          words = window.loaded;
          word = 0;
          current = -1;
        }
      }
      const lo = words[word]!;
      const hi = words[word + 1]!;
      if ((lo & 1) === 0) return WALK_TRANSLATION;
      if ((lo & 2) === 0 || level === 3) {
        if (current !== this.s2Chunk) {
          this.s2Chunk = current;
          this.s2Words = words;
        }
        // Nearly every table lies in a readable page of Normal memory with AF = 1: that is all that counts of it.
        const plain = level === 3 && (lo & 0x443) === 0x443 && (lo & 0x30) !== 0;
        if (plain && purpose === TABLE_READ && wideBits === 0 && (hi & highLimit) === 0) {
          this.s2High = hi & 0xffff;
          this.s2Low = (lo & tableMask) | (low & ~tableMask);
          return WALK_OK;
        }
        return this.leaf2(root, level, high, low, lo, hi, atHigh, atLow, purpose);
      }
      if (((hi & highLimit) | (lo & lowLimit)) !== 0) return WALK_ADDRESS_SIZE;
      level++;
      const index = ((level < 2 ? upper : lower) >>> ((level & 1) === 0 ? stride : 0)) & indexMask;
      atHigh = (hi & 0xffff) | ((lo & wideBits) << 4);
      atLow = (lo & tableMask) | (index << 3);
    }
  }

  private leaf2(
    root: TableRoot,
    level: number,
    high: number,
    low: number,
    lo: number,
    hi: number,
    atHigh: number,
    atLow: number,
    purpose: number,
  ): number {
    const outcome = leafOutcome(root, level, lo, hi);
    if (outcome !== WALK_OK) return outcome;
    const clean = root.updatesDirty && (hi & DBM) !== 0 && (lo & S2_WRITE) === 0;
    const permissions = stage2Permissions(root, clean ? lo | S2_WRITE : lo, hi);
    if (purpose !== OUTPUT) {
      const need = purpose === TABLE_WRITE ? MAY_READ | MAY_WRITE : MAY_READ;
      if ((permissions & need) !== need || (root.protectsTables && (lo & 0x30) === 0)) return WALK_PERMISSION;
    }
    let updated = root.updatesAccess ? lo | AF : lo;
    if (clean && purpose === TABLE_WRITE) updated |= S2_WRITE;
    if (updated !== lo && !this.store(atHigh, atLow, updated, hi)) return this.aborted(atHigh, atLow);
    const size = root.granule.entryLog2[level]!;
    this.s2High = leafHigh(root, size, high, lo, hi);
    this.s2Low = leafLow(size, low, lo);
    if (purpose !== OUTPUT) return WALK_OK;
    this.s2Permissions = permissions;
    this.s2Frame = frameOf(this.s2High, this.s2Low);
    this.s2Log2Frames = leafSize(root, level, high, low, lo, hi);
    this.s2Level = level;
    this.s2Clean = clean;
    this.s2AtHigh = atHigh;
    this.s2AtLow = atLow;
    this.s2Lo = updated;
    this.s2Hi = hi;
    return WALK_OK;
  }

  private aborted(high: number, low: number): number {
    this.fetchFrame = frameOf(high, low);
    this.fetchOffset = low & 0xfff;
    return WALK_ABORT;
  }
}
