/** A queue without moving its items: what was taken is dropped from the front in halves. */
export class Fifo<T> {
  private items: T[];
  private head: number;

  constructor() {
    this.items = [];
    this.head = 0;
  }

  get length(): number {
    return this.items.length - this.head;
  }

  /** The oldest, or undefined. */
  get first(): T | undefined {
    return this.items[this.head];
  }

  push(item: T): void {
    this.items.push(item);
  }

  /** Drops the oldest. */
  shift(): void {
    this.head++;
    if (this.head * 2 < this.items.length) return;
    this.items = this.items.slice(this.head);
    this.head = 0;
  }
}
