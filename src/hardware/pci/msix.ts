/** MSI-X table and pending bits (PCI 3.0, 6.8.2), at the start of a block of registers each. */
import type { MessageTable } from './messages.ts';
import { MSIX_ENTRY_BYTES, MSIX_ENTRY_MASKED } from './spec/config-space.ts';

const WORDS_PER_ENTRY = MSIX_ENTRY_BYTES / 4;
const [ADDRESS_LOW, ADDRESS_HIGH, DATA, VECTOR_CONTROL] = [0, 1, 2, 3];
const WORD_ALIGNED = 0xffff_fffc;

export class MsixTable implements MessageTable {
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
    const field = word % WORDS_PER_ENTRY;
    if (field === VECTOR_CONTROL) value &= MSIX_ENTRY_MASKED;
    else if (field === ADDRESS_LOW) value &= WORD_ALIGNED;
    this.words[word] = value;
  }

  /** What the vector's message is: `data` written to `address`, a multiple of 4. */
  setMessage(vector: number, address: bigint, data: number): void {
    const entry = vector * WORDS_PER_ENTRY;
    this.words[entry + ADDRESS_LOW] = Number(address & 0xffff_ffffn);
    this.words[entry + ADDRESS_HIGH] = Number(address >> 32n);
    this.words[entry + DATA] = data;
  }

  frameOf(vector: number): number {
    const entry = vector * WORDS_PER_ENTRY;
    return this.words[entry + ADDRESS_HIGH]! * 2 ** 20 + (this.words[entry + ADDRESS_LOW]! >>> 12);
  }

  offsetOf(vector: number): number {
    return this.words[vector * WORDS_PER_ENTRY + ADDRESS_LOW]! & 0xfff;
  }

  dataOf(vector: number): number {
    return this.words[vector * WORDS_PER_ENTRY + DATA]!;
  }

  /** A copy of the whole table, for restore(). */
  save(): Uint32Array {
    return this.words.slice();
  }

  restore(saved: Uint32Array): void {
    this.words.set(saved);
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

  takePending(vector: number): boolean {
    const bit = 1 << (vector & 31);
    const was = (this.pending[vector >>> 5]! & bit) !== 0;
    this.pending[vector >>> 5]! &= ~bit;
    return was;
  }
}
