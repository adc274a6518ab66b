/** RAM of one 1 GiB slot: chunks of 2 MiB, made when first written. Reads of what was never written see zeros. */

export const CHUNK_FRAMES = 512;
const CHUNKS_PER_SLOT = 512;
const CHUNK_WORDS = 2 ** 19;

/** Stands for every chunk that was never written; nobody writes to it. */
const ZEROS = new Uint32Array(CHUNK_WORDS);

export class RamSlot {
  /** Per chunk its words, ZEROS until written, or null where the slot has no RAM. */
  private readonly chunks: Array<Uint32Array | null>;
  /** It is memory of somebody else, and may go: nobody keeps its words. */
  readonly lent: boolean;

  /** @param lent 2^28 words that are its memory */
  constructor(lent?: Uint32Array) {
    this.lent = lent !== undefined;
    this.chunks = lent
      ? Array.from({ length: CHUNKS_PER_SLOT }, (_, i) => lent.subarray(i * CHUNK_WORDS, (i + 1) * CHUNK_WORDS))
      : new Array(CHUNKS_PER_SLOT).fill(null);
  }

  /** Makes chunks first..last (inclusive) RAM. */
  add(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) this.chunks[chunk] ??= ZEROS;
  }

  /** Words of the chunk around `frame` (of the slot: 0 .. 2^18-1), for reading only; null where there is no RAM. */
  words(frame: number): Uint32Array | null {
    return this.chunks[frame >>> 9]!;
  }

  /** The same for writing. */
  writableWords(frame: number): Uint32Array | null {
    const words = this.chunks[frame >>> 9]!;
    return words === ZEROS ? (this.chunks[frame >>> 9] = new Uint32Array(CHUNK_WORDS)) : words;
  }
}

/** Every slot that is RAM as a whole and was never written: one object, however large the machine. */
export const UNTOUCHED = new RamSlot();
UNTOUCHED.add(0, CHUNKS_PER_SLOT - 1);
