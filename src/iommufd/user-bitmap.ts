/**
 * A bitmap in a program's memory, in which bits are set and none cleared. Bit n is bit n % 8 of byte n / 8. It is read
 * and written page by page; as in a kernel a page that cannot be written is left out without a word.
 */
import type { ProcessMemory } from '../memory/process-memory.ts';

const PAGE = 4096;

export class UserBitmap {
  private readonly memory: ProcessMemory;
  /** The page where the bitmap begins, and how many bits of it are before bit 0. */
  private readonly start: number;
  private readonly skip: number;
  private readonly page: Uint8Array;
  /** Which page, counted from `start`, is in `page`, or -1. */
  private present: number;
  /** The bytes of the page that hold set bits, [first, end). */
  private first: number;
  private end: number;
  /** All of its bits are set: what the program has there does not matter. */
  private full: boolean;

  constructor(memory: ProcessMemory, address: bigint) {
    this.memory = memory;
    const offset = Number(address % BigInt(PAGE));
    this.start = Number(address) - offset;
    this.skip = offset * 8;
    this.page = new Uint8Array(PAGE);
    this.present = -1;
    this.first = PAGE;
    this.end = 0;
    this.full = false;
  }

  /** Sets bits first..last, inclusive. */
  set(first: number, last: number): void {
    for (let bit = first + this.skip; bit <= last + this.skip; ) {
      const byte = Math.floor(bit / 8);
      this.load(Math.floor(byte / PAGE));
      const end = Math.min(last + this.skip + 1, (this.present + 1) * PAGE * 8);
      this.first = Math.min(this.first, byte % PAGE);
      this.end = Math.max(this.end, Math.ceil(end / 8) - this.present * PAGE);
      for (; bit < end && (bit % 8 || end - bit < 8); bit++) this.page[Math.floor(bit / 8) % PAGE]! |= 1 << (bit % 8);
      const whole = Math.floor((end - bit) / 8);
      const at = Math.floor(bit / 8) % PAGE;
      this.page.fill(0xff, at, at + whole);
      if (whole === PAGE) this.full = true;
      bit += whole * 8;
    }
  }

  /** Writes what is still held here. */
  flush(): void {
    if (this.present < 0) return;
    const bytes = this.page.subarray(this.first, this.end);
    const base = this.start + this.present * PAGE + this.first;
    if (!this.full) this.keepSetBits(base, bytes);
    this.memory.write(base, bytes);
    this.present = -1;
  }

  private load(number: number): void {
    if (number === this.present) return;
    this.flush();
    this.present = number;
    this.page.fill(0);
    this.first = PAGE;
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
