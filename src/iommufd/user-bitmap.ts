/**
 * A bitmap in a program's memory, in which bits are set and none cleared. Bit n is bit n % 8 of byte n / 8. It is read
 * and written in chunks; as in a kernel a chunk that cannot be written is left out without a word.
 */
import type { ProcessMemory } from '../memory/process-memory.ts';

const CHUNK = 4096;

export class UserBitmap {
  private readonly memory: ProcessMemory;
  private readonly address: number;
  private readonly chunk: Uint8Array;
  /** Which chunk is in `chunk`, or -1. */
  private present: number;
  /** The bytes of the chunk that hold set bits, [first, end). */
  private first: number;
  private end: number;
  /** All of its bits are set: what the program has there does not matter. */
  private full: boolean;

  constructor(memory: ProcessMemory, address: bigint) {
    this.memory = memory;
    this.address = Number(address);
    this.chunk = new Uint8Array(CHUNK);
    this.present = -1;
    this.first = CHUNK;
    this.end = 0;
    this.full = false;
  }

  /** Sets bits first..last, inclusive. */
  set(first: number, last: number): void {
    for (let bit = first; bit <= last; ) {
      const byte = Math.floor(bit / 8);
      this.load(Math.floor(byte / CHUNK));
      const end = Math.min(last + 1, (this.present + 1) * CHUNK * 8);
      this.first = Math.min(this.first, byte % CHUNK);
      this.end = Math.max(this.end, Math.ceil(end / 8) - this.present * CHUNK);
      for (; bit < end && (bit % 8 || end - bit < 8); bit++) this.chunk[Math.floor(bit / 8) % CHUNK]! |= 1 << (bit % 8);
      const whole = Math.floor((end - bit) / 8);
      const at = Math.floor(bit / 8) % CHUNK;
      this.chunk.fill(0xff, at, at + whole);
      if (whole === CHUNK) this.full = true;
      bit += whole * 8;
    }
  }

  /** Writes what is still held here. */
  flush(): void {
    if (this.present < 0) return;
    const bytes = this.chunk.subarray(this.first, this.end);
    const base = this.address + this.present * CHUNK + this.first;
    if (!this.full) this.keepSetBits(base, bytes);
    this.memory.write(base, bytes);
    this.present = -1;
  }

  private load(number: number): void {
    if (number === this.present) return;
    this.flush();
    this.present = number;
    this.chunk.fill(0);
    this.first = CHUNK;
    this.end = 0;
    this.full = false;
  }

  /** Adds the bits that the program has there. */
  private keepSetBits(base: number, bytes: Uint8Array): void {
    const old = new Uint8Array(bytes.length);
    this.memory.read(base, old);
    for (let i = 0; i < bytes.length; i++) bytes[i]! |= old[i]!;
  }
}
