/** MSI-X table and pending bits (PCI 3.0, 6.8.2), at the start of a block of registers each. */
import { MSIX_ENTRY_BYTES, MSIX_ENTRY_MASKED } from './spec/config-space.ts';

const WORDS_PER_ENTRY = MSIX_ENTRY_BYTES / 4;
const VECTOR_CONTROL = 3;

export class MsixTable {
  readonly vectors: number;
  private readonly words: Uint32Array;
  private readonly pending: Uint32Array;

  constructor(vectors: number) {
    this.vectors = vectors;
    this.words = new Uint32Array(vectors * WORDS_PER_ENTRY);
    this.pending = new Uint32Array(Math.ceil(vectors / 64) * 2);
    this.reset();
  }

  get tableBytes(): number {
    return this.words.byteLength;
  }

  get pendingBytes(): number {
    return this.pending.byteLength;
  }

  reset(): void {
    this.pending.fill(0);
    this.words.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) this.mask(vector, true);
  }

  /** @param word index of a 32-bit word of the table; the table takes only whole words (6.8.2) */
  readTable(word: number): number {
    return this.words[word]!;
  }

  writeTable(word: number, value: number): void {
    this.words[word] = word % WORDS_PER_ENTRY === VECTOR_CONTROL ? value & MSIX_ENTRY_MASKED : value;
  }

  readPending(word: number): number {
    return this.pending[word]!;
  }

  isMasked(vector: number): boolean {
    return (this.words[vector * WORDS_PER_ENTRY + VECTOR_CONTROL]! & MSIX_ENTRY_MASKED) !== 0;
  }

  mask(vector: number, masked: boolean): void {
    this.words[vector * WORDS_PER_ENTRY + VECTOR_CONTROL] = masked ? MSIX_ENTRY_MASKED : 0;
  }

  setPending(vector: number): void {
    this.pending[vector >>> 5]! |= 1 << (vector & 31);
  }

  /** Clears and tells the pending bit. */
  takePending(vector: number): boolean {
    const bit = 1 << (vector & 31);
    const was = (this.pending[vector >>> 5]! & bit) !== 0;
    this.pending[vector >>> 5]! &= ~bit;
    return was;
  }
}
