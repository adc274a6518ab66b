/**
 * Where descriptors are read: arrays of RAM words, found by the number of their 2 MiB chunk. Going through the physical
 * memory map costs 28 ns per dependent read, most of it pointers; an array at hand costs 6.
 *
 * Only RAM that was written is kept here: such an array stays the same for life, so there is nothing to invalidate.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';

const WINDOWS = 256;
const NOWHERE = new Uint32Array(0);

export class DescriptorWindow {
  /** By chunk & WINDOW_MASK: which chunk, and its words. */
  readonly chunks: Int32Array;
  readonly words: Uint32Array[];
  /** Answer of `load`. */
  lo: number;
  hi: number;
  private readonly memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
    this.chunks = new Int32Array(WINDOWS).fill(-1);
    this.words = new Array(WINDOWS).fill(NOWHERE);
    this.lo = 0;
    this.hi = 0;
  }

  /**
   * Reads a descriptor that is not in a window (a chunk not seen before, or memory that is not RAM), into `lo` and `hi`
   * as int32. False: external abort.
   * @param word index of the low word within the chunk
   */
  load(chunk: number, word: number): boolean {
    const frame = chunk * 512 + (word >>> 10);
    if (!this.memory.load64(frame, (word & 1023) << 2)) return false;
    this.lo = this.memory.lo | 0;
    this.hi = this.memory.hi | 0;
    // Something other than zero was read, so the chunk was written and asking for its array allocates nothing.
    const words = this.lo === 0 ? null : this.memory.ramWords(frame);
    if (words !== null) {
      this.chunks[chunk & WINDOW_MASK] = chunk;
      this.words[chunk & WINDOW_MASK] = words;
    }
    return true;
  }
}

export const WINDOW_MASK = WINDOWS - 1;
