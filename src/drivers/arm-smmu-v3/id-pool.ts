/** IDs of one kind on one SMMU (VMIDs, ASIDs): the lowest free one first, 0 never given. */
export class IdPool {
  private readonly last: number;
  private readonly taken: Set<number>;
  /** No free ID lies below it. */
  private floor: number;

  /** Hands out 1 .. 2^bits - 1. */
  constructor(bits: number) {
    this.last = 2 ** bits - 1;
    this.taken = new Set();
    this.floor = 1;
  }

  get used(): number {
    return this.taken.size;
  }

  /** @returns -1 when all are taken */
  take(): number {
    while (this.taken.has(this.floor)) this.floor++;
    if (this.floor > this.last) return -1;
    this.taken.add(this.floor);
    return this.floor++;
  }

  give(id: number): void {
    if (!this.taken.delete(id)) throw new Error(`ID ${id} was not taken`);
    this.floor = Math.min(this.floor, id);
  }
}
