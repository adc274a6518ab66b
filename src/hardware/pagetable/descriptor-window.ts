/**
 * Where descriptors are read: arrays of RAM words, found by the number of their 2 MiB chunk. Going through the physical
 * memory map costs 28 ns per dependent read, nearly all of it pointers; a walk that keeps the array of its last read at
 * hand pays that only when it leaves the chunk. Updates are rare and go through the map.
 *
 * Only RAM that was written is kept here: such an array stays the same for life, so there is nothing to invalidate.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';

const WINDOWS = 256;

/** Stands for a chunk that must be read with `load`: not RAM, or RAM that nobody wrote yet. */
export const NO_WORDS: Int32Array = new Int32Array(0);

export class DescriptorWindow {
  /** Answer of `load`. */
  readonly loaded: Int32Array;
  private readonly memory: PhysicalMemory;
  private readonly chunks: Int32Array;
  private readonly words: Int32Array[];

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
    this.chunks = new Int32Array(WINDOWS).fill(-1);
    this.words = new Array(WINDOWS).fill(NO_WORDS);
    this.loaded = new Int32Array(2);
  }

  /** Words of a chunk (physical frame >> 9), or NO_WORDS. */
  wordsOf(chunk: number): Int32Array {
    const slot = chunk & (WINDOWS - 1);
    return this.chunks[slot] === chunk ? this.words[slot]! : NO_WORDS;
  }

  /** Reads the descriptor at `word` of a chunk through the memory map. False: external abort. */
  load(chunk: number, word: number): boolean {
    const frame = chunk * 512 + (word >>> 10);
    if (!this.memory.load64(frame, (word & 1023) << 2)) return false;
    this.loaded[0] = this.memory.lo;
    this.loaded[1] = this.memory.hi;
    // Something other than zero was read, so the chunk was written, and asking for its array allocates nothing.
    const words = this.memory.lo === 0 ? null : this.memory.ramWords(frame);
    if (words !== null) {
      this.chunks[chunk & (WINDOWS - 1)] = chunk;
      this.words[chunk & (WINDOWS - 1)] = new Int32Array(words.buffer);
    }
    return true;
  }

  /** Writes the descriptor at `word` of a chunk, in memory's order one 64-bit store. False: external abort. */
  store(chunk: number, word: number, lo: number, hi: number): boolean {
    return this.memory.store64(chunk * 512 + (word >>> 10), (word & 1023) << 2, lo, hi);
  }
}
