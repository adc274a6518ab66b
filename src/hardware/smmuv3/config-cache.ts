/**
 * A cache of decoded configuration: STEs by StreamID, CDs by (StreamID, index in the CD table). An entry stays, however
 * memory changes, until an invalidation names it or another entry needs its place: as on silicon (IHI 0070, 4.3).
 *
 * Set-associative with up to four ways, replaced in turn. The decoded objects are made once and swapped in and out, so
 * that neither a hit nor a fill allocates.
 */
export class ConfigCache<T> {
  /** Changes whenever an entry goes: what was found before may be gone. */
  generation: number;
  private readonly streams: Int32Array;
  private readonly indexes: Int32Array;
  private readonly valid: Uint8Array;
  private readonly values: T[];
  private readonly next: Uint8Array;
  private readonly ways: number;
  private readonly setMask: number;

  /** @param entries capacity, a power of two */
  constructor(entries: number, make: () => T) {
    this.generation = 0;
    this.streams = new Int32Array(entries);
    this.indexes = new Int32Array(entries);
    this.valid = new Uint8Array(entries);
    this.values = Array.from({ length: entries }, make);
    this.ways = Math.min(entries, 4);
    this.setMask = entries / this.ways - 1;
    this.next = new Uint8Array(entries / this.ways);
  }

  find(stream: number, index: number): T | null {
    const first = this.setOf(stream, index) * this.ways;
    for (let at = first; at < first + this.ways; at++) {
      if (this.streams[at] === (stream | 0) && this.indexes[at] === index && this.valid[at] === 1)
        return this.values[at]!;
    }
    return null;
  }

  /** Puts `value` in and returns the object that it displaced, for the caller to decode into next time. */
  fill(stream: number, index: number, value: T): T {
    const set = this.setOf(stream, index);
    let at = set * this.ways;
    const end = at + this.ways;
    while (at < end && this.valid[at] === 1) at++;
    if (at === end) {
      at = set * this.ways + this.next[set]!;
      this.next[set] = (this.next[set]! + 1) % this.ways;
    }
    const displaced = this.values[at]!;
    this.generation++;
    this.streams[at] = stream;
    this.indexes[at] = index;
    this.valid[at] = 1;
    this.values[at] = value;
    return displaced;
  }

  /** Drops the entries of streams first..last (inclusive), one index or (-1) all. Returns how many. */
  invalidate(first: number, last: number, index: number): number {
    let dropped = 0;
    this.generation++;
    for (let at = 0; at < this.valid.length; at++) {
      const stream = this.streams[at]! >>> 0;
      if (this.valid[at] === 0 || stream < first || stream > last) continue;
      if (index >= 0 && this.indexes[at] !== index) continue;
      this.valid[at] = 0;
      dropped++;
    }
    return dropped;
  }

  clear(): void {
    this.generation++;
    this.valid.fill(0);
    this.next.fill(0);
  }

  private setOf(stream: number, index: number): number {
    return ((Math.imul(stream, 0x9e3779b1) ^ Math.imul(index, 0x85ebca6b)) >>> 12) & this.setMask;
  }
}
