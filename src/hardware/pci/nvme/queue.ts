/** A ring of entries in the host's memory, physically contiguous (CAP.CQR): where it is, and where it is read or written. */
export class Queue {
  readonly id: number;
  /** Entries; 0 while the queue does not exist. */
  size: number;
  head: number;
  tail: number;
  private readonly entryLog2: number;
  private baseFrame: number;

  constructor(id: number, entryLog2: number) {
    this.id = id;
    this.entryLog2 = entryLog2;
    this.size = 0;
    this.head = 0;
    this.tail = 0;
    this.baseFrame = 0;
  }

  get exists(): boolean {
    return this.size !== 0;
  }

  get isEmpty(): boolean {
    return this.head === this.tail;
  }

  /** @param baseFrame IOVA frame where it begins */
  place(baseFrame: number, size: number): void {
    this.baseFrame = baseFrame;
    this.size = size;
    this.head = 0;
    this.tail = 0;
  }

  remove(): void {
    this.size = 0;
    this.head = 0;
    this.tail = 0;
  }

  /** IOVA frame of an entry, and its offset in there. */
  frameOf(index: number): number {
    return this.baseFrame + ((index << this.entryLog2) >>> 12);
  }

  offsetOf(index: number): number {
    return (index << this.entryLog2) & 0xfff;
  }

  after(index: number): number {
    return index + 1 === this.size ? 0 : index + 1;
  }

  /** How many entries lie from `from` to `to`. */
  distance(from: number, to: number): number {
    return to >= from ? to - from : to - from + this.size;
  }
}
