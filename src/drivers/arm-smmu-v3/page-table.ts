/**
 * Writer of VMSAv8-64 tables in host RAM. What it knows of its tables is in their bytes; beside them it keeps only how
 * many descriptors of each table are in use, to give back a table when its last one goes.
 *
 * unmap() leaves the tables that it emptied allocated (`retired`): the caller invalidates the IOTLBs first, then calls
 * reclaim(), because hardware may hold pointers to them until then.
 *
 * Addresses are 4 KiB frame numbers. Progress of a map or unmap lives in fields, so that nothing is allocated per table.
 */
import { fail } from '../../abi/errno.ts';
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { FrameAllocator } from '../frame-allocator.ts';
import { AP_READ_ONLY, DIRTY_BIT_MODIFIER, leafType, type TableFormat, tableDescriptorType } from './table-format.ts';

const VALID = 1;
const WORDS_PER_FRAME = 1024;

export class PageTable {
  readonly format: TableFormat;
  /** First frame of the root; concatenated roots follow each other. */
  readonly rootFrame: number;
  /** Of the last unmap or clear: levels of the leaves that went or changed, 4 and -1 when there were none. */
  lowestLevel: number;
  highestLevel: number;
  /** Of the last clear: where the leaves that changed begin and end; 0 when there were none. */
  clearedFirst: number;
  clearedEnd: number;
  /** First frames of the tables that unmaps emptied, until reclaim(). */
  readonly retired: number[];

  private readonly memory: PhysicalMemory;
  private readonly frames: FrameAllocator;
  private readonly live: Map<number, number>;
  private readonly tableFramesLog2: number;
  /** By level: frames that a descriptor covers, and descriptors of a table (of all roots, at the start level). */
  private readonly sizes: readonly number[];
  private readonly entries: readonly number[];

  private frame: number;
  private left: number;
  private output: number;
  private attributes: number;
  private highAttributes: number;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, format: TableFormat) {
    this.format = format;
    this.memory = memory;
    this.frames = frames;
    this.tableFramesLog2 = format.granuleLog2 - 12;
    this.sizes = format.frameShifts.map((shift) => 2 ** shift);
    this.entries = format.frameShifts.map((_, level) => {
      return 2 ** (format.granuleLog2 - 3) * (level === format.startLevel ? format.rootTables : 1);
    });
    this.live = new Map();
    this.retired = [];
    this.frame = 0;
    this.left = 0;
    this.output = 0;
    this.attributes = 0;
    this.highAttributes = 0;
    this.lowestLevel = 4;
    this.highestLevel = -1;
    this.clearedFirst = 0;
    this.clearedEnd = 0;
    this.rootFrame = frames.allocate(this.tableFramesLog2 + Math.log2(format.rootTables));
    this.live.set(this.rootFrame, 0);
  }

  /** Frames that the tables take. */
  get tableFrames(): number {
    return (this.live.size - 1 + this.format.rootTables + this.retired.length) * 2 ** this.tableFramesLog2;
  }

  /**
   * Maps frames [frame, frame + count) to [output, output + count), all multiples of the granule, with the largest
   * leaves that alignment allows. EEXIST when one of them is mapped, ENOMEM: nothing more is mapped, and the tables that
   * were made for it are retired.
   */
  map(frame: number, output: number, count: number, prot: number): void {
    this.frame = frame;
    this.left = count;
    this.output = output;
    this.attributes = this.format.attributes[prot]!;
    this.highAttributes = this.format.highAttributes[prot]!;
    try {
      this.mapIn(this.rootFrame, this.format.startLevel);
    } catch (error) {
      const stopped = this.frame;
      this.unmap(frame, stopped - frame);
      this.prune(stopped, this.rootFrame, this.format.startLevel);
      throw error;
    }
  }

  /** Unmaps frames [frame, frame + count), which must be whole leaves. */
  unmap(frame: number, count: number): void {
    this.frame = frame;
    this.left = count;
    this.lowestLevel = 4;
    this.highestLevel = -1;
    this.unmapIn(this.rootFrame, this.format.startLevel);
  }

  /** Frees what unmaps emptied; the IOTLBs must be clean of it. */
  reclaim(): void {
    for (const table of this.retired) this.frames.free(table);
    this.retired.length = 0;
  }

  /**
   * Reports what of frames [frame, frame + count) was written: runs of dirty leaves, in order, cut to the range. With
   * `clear` the leaves become clean, as a whole.
   * @returns false where a frame is not mapped: nothing behind it is looked at
   */
  readDirty(frame: number, count: number, clear: boolean, report: (frame: number, count: number) => void): boolean {
    this.frame = frame;
    this.left = count;
    this.lowestLevel = 4;
    this.highestLevel = -1;
    this.clearedEnd = 0;
    return this.readDirtyIn(this.rootFrame, this.format.startLevel, clear, report);
  }

  /** Output frame behind `frame`, or -1. */
  lookup(frame: number): number {
    let table = this.rootFrame;
    for (let level = this.format.startLevel; ; level++) {
      const at = this.indexOf(frame, level);
      const words = this.wordsOf(table);
      const word = wordIn(table, at);
      if (!(words[word]! & VALID)) return -1;
      const next = outputOf(words[word]!, words[word + 1]!, this.tableFramesLog2);
      if (level === 3 || (words[word]! & 3) !== tableDescriptorType) {
        return next + (frame & (this.sizes[level]! - 1));
      }
      table = next;
    }
  }

  /** Frees everything, mapped or not. The IOTLBs must be clean of it. */
  free(): void {
    this.reclaim();
    for (const table of this.live.keys()) this.frames.free(table);
    this.live.clear();
  }

  private mapIn(table: number, level: number): void {
    const size = this.sizes[level]!;
    const entries = this.entries[level]!;
    for (let at = this.indexOf(this.frame, level); at < entries && this.left > 0; ) {
      const leaves = level < this.format.firstLeafLevel ? 0 : this.leavesHere(size, entries - at);
      if (leaves > 0) {
        this.writeLeaves(table, at, leaves, level);
        at += leaves;
      } else {
        if (level === 3) throw new Error(`mapping of frame ${this.frame} is not a multiple of the granule`);
        this.mapIn(this.tableAt(table, at, level), level + 1);
        at++;
      }
    }
  }

  /** How many leaves of `size` frames can be written from here on in a table with `room` entries left. */
  private leavesHere(size: number, room: number): number {
    if ((this.frame | this.output) & (size - 1)) return 0;
    return Math.min(room, Math.floor(this.left / size));
  }

  private writeLeaves(table: number, at: number, leaves: number, level: number): void {
    const words = this.wordsOf(table);
    const size = this.sizes[level]!;
    const attributes = this.attributes | leafType(level);
    const first = wordIn(table, at);
    const end = first + leaves * 2;
    // The output's low 20 bits of frame are in the low word, the rest in the high word: both stay small integers.
    let high = (this.output / 0x100000) | 0;
    let low = (this.output - high * 0x100000) | 0;
    for (let word = first; word < end; word += 2) {
      if (words[word]! & VALID) throw fail('EEXIST', `a frame at ${this.frame} is mapped already`);
      words[word] = (low << 12) | attributes | topBits(high);
      words[word + 1] = (high & 0xffff) | this.highAttributes;
      low += size;
      if (low >= 0x100000) {
        high += low >>> 20;
        low &= 0xfffff;
      }
    }
    this.count(table, leaves);
    this.frame += leaves * size;
    this.output += leaves * size;
    this.left -= leaves * size;
  }

  private unmapIn(table: number, level: number): void {
    const size = this.sizes[level]!;
    const entries = this.entries[level]!;
    for (let at = this.indexOf(this.frame, level); at < entries && this.left > 0; ) {
      const words = this.wordsOf(table);
      const word = wordIn(table, at);
      const low = words[word]!;
      if (!(low & VALID)) throw new Error(`frame ${this.frame} is not mapped`);
      if (level < 3 && (low & 3) === tableDescriptorType) {
        const next = outputOf(low, words[word + 1]!, this.tableFramesLog2);
        this.unmapIn(next, level + 1);
        if (this.live.get(next) === 0) this.retire(table, at, next);
        at++;
      } else {
        at += this.clearLeaves(table, at, Math.min(entries - at, Math.floor(this.left / size)), level);
      }
    }
  }

  /** Clears up to `most` leaves from entry `at` on; stops at what is not a leaf. @returns how many */
  private clearLeaves(table: number, at: number, most: number, level: number): number {
    const size = this.sizes[level]!;
    if (most === 0 || this.frame & (size - 1)) throw new Error(`unmapping of frame ${this.frame} would split a leaf`);
    const words = this.wordsOf(table);
    const type = leafType(level);
    const first = wordIn(table, at);
    const end = first + most * 2;
    let word = first;
    for (; word < end && (words[word]! & 3) === type; word += 2) {
      words[word] = 0;
      words[word + 1] = 0;
    }
    const leaves = (word - first) / 2;
    this.count(table, -leaves);
    this.lowestLevel = Math.min(this.lowestLevel, level);
    this.highestLevel = Math.max(this.highestLevel, level);
    this.frame += leaves * size;
    this.left -= leaves * size;
    return leaves;
  }

  private readDirtyIn(
    table: number,
    level: number,
    clear: boolean,
    report: (frame: number, count: number) => void,
  ): boolean {
    const size = this.sizes[level]!;
    const entries = this.entries[level]!;
    const words = this.wordsOf(table);
    let run = this.frame;
    for (let at = this.indexOf(this.frame, level); at < entries && this.left > 0; at++) {
      const word = wordIn(table, at);
      const low = words[word]!;
      if (level < 3 && (low & 3) === tableDescriptorType) {
        if (run < this.frame) report(run, this.frame - run);
        const next = outputOf(low, words[word + 1]!, this.tableFramesLog2);
        if (!this.readDirtyIn(next, level + 1, clear, report)) return false;
        run = this.frame;
        continue;
      }
      if (!(low & VALID)) {
        if (run < this.frame) report(run, this.frame - run);
        return false;
      }
      const inside = this.frame & (size - 1);
      const dirty = !(low & AP_READ_ONLY) && (words[word + 1]! & DIRTY_BIT_MODIFIER) !== 0;
      if (dirty && clear) {
        words[word] = low | AP_READ_ONLY;
        if (this.clearedEnd === 0) this.clearedFirst = this.frame - inside;
        this.clearedEnd = this.frame - inside + size;
        this.lowestLevel = Math.min(this.lowestLevel, level);
        this.highestLevel = Math.max(this.highestLevel, level);
      }
      if (!dirty && run < this.frame) report(run, this.frame - run);
      // The first leaf may begin before the range, and the last one may end behind it.
      const covered = Math.min(size - inside, this.left);
      this.frame += covered;
      this.left -= covered;
      if (!dirty) run = this.frame;
    }
    if (run < this.frame) report(run, this.frame - run);
    return true;
  }

  /** The table that entry `at` points to, made when there is none. */
  private tableAt(table: number, at: number, level: number): number {
    const words = this.wordsOf(table);
    const word = wordIn(table, at);
    const low = words[word]!;
    if (low & VALID) {
      if ((low & 3) !== tableDescriptorType) throw fail('EEXIST', `a level ${level} block covers frame ${this.frame}`);
      return outputOf(low, words[word + 1]!, this.tableFramesLog2);
    }
    const next = this.frames.allocate(this.tableFramesLog2);
    const high = Math.floor(next / 2 ** 20);
    words[word + 1] = high & 0xffff;
    words[word] = (next << 12) | topBits(high) | tableDescriptorType;
    this.live.set(next, 0);
    this.count(table, 1);
    return next;
  }

  /** Retires tables on the way to `frame` that have nothing in them. */
  private prune(frame: number, table: number, level: number): void {
    const at = this.indexOf(frame, level);
    const words = this.wordsOf(table);
    const word = wordIn(table, at);
    if (level === 3 || (words[word]! & 3) !== tableDescriptorType) return;
    const next = outputOf(words[word]!, words[word + 1]!, this.tableFramesLog2);
    this.prune(frame, next, level + 1);
    if (this.live.get(next) === 0) this.retire(table, at, next);
  }

  private retire(parent: number, at: number, table: number): void {
    const words = this.wordsOf(parent);
    const word = wordIn(parent, at);
    words[word] = 0;
    words[word + 1] = 0;
    this.count(parent, -1);
    this.live.delete(table);
    this.retired.push(table);
  }

  private count(table: number, change: number): void {
    this.live.set(table, this.live.get(table)! + change);
  }

  private indexOf(frame: number, level: number): number {
    return Math.floor(frame / this.sizes[level]!) & (this.entries[level]! - 1);
  }

  private wordsOf(table: number): Uint32Array {
    const words = this.memory.ramWords(table);
    if (words === null) throw new Error(`table at frame ${table} is not in RAM`);
    return words;
  }
}

/** Index of descriptor `at` of `table` in the words of the 2 MiB around it; a table never crosses 2 MiB. */
const wordIn = (table: number, at: number): number => (table & 0x1ff) * WORDS_PER_FRAME + at * 2;

/** Bits [51:48] of an output stand in [15:12], which are free with the only granule that has them (64 KiB). */
const topBits = (high: number): number => (high >>> 16) << 12;

/** Frame in a descriptor; bits [15:12] are bits [51:48] with the 64 KiB granule. */
function outputOf(low: number, high: number, granuleFramesLog2: number): number {
  const frame = (high & 0xffff) * 2 ** 20 + (low >>> 12);
  if (granuleFramesLog2 !== 4) return frame;
  const top = frame % 16;
  return frame - top + top * 2 ** 36;
}
