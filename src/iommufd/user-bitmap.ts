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

  constructor(memory: ProcessMemory, address: bigint) {
    this.memory = memory;
    this.address = Number(address);
    this.chunk = new Uint8Array(CHUNK);
    this.present = -1;
  }

  /** Sets bits first..last, inclusive. */
  set(first: number, last: number): void {
    for (let bit = first; bit <= last; ) {
      const byte = Math.floor(bit / 8);
      this.load(Math.floor(byte / CHUNK));
      const end = Math.min(last + 1, (this.present + 1) * CHUNK * 8);
      for (; bit < end && (bit % 8 || end - bit < 8); bit++) this.chunk[Math.floor(bit / 8) % CHUNK]! |= 1 << (bit % 8);
      const whole = Math.floor((end - bit) / 8);
      const at = Math.floor(bit / 8) % CHUNK;
      this.chunk.fill(0xff, at, at + whole);
      bit += whole * 8;
    }
  }

  /** Writes what is still held here. */
  flush(): void {
    if (this.present < 0) return;
    const { base, bytes } = this.touched();
    this.memory.write(base, bytes);
    this.present = -1;
  }

  private load(number: number): void {
    if (number === this.present) return;
    this.flush();
    this.present = number;
    this.chunk.fill(0);
  }

  /** The bytes of the chunk that hold set bits, with the bits that the program has there. */
  private touched(): { base: number; bytes: Uint8Array } {
    const first = this.chunk.findIndex((byte) => byte !== 0);
    const last = this.chunk.findLastIndex((byte) => byte !== 0);
    const bytes = this.chunk.subarray(first, last + 1);
    const base = this.address + this.present * CHUNK + first;
    const old = new Uint8Array(bytes.length);
    this.memory.read(base, old);
    for (const [i, byte] of old.entries()) bytes[i]! |= byte;
    return { base, bytes };
  }
}
