/** A completion queue: the controller moves the tail, the host the head. */
import type { Command } from './command.ts';
import { Queue } from './queue.ts';
import { CQE_LOG2 } from './spec/commands.ts';

export class CompletionQueue extends Queue {
  /** Interrupt vector; -1 without interrupts. */
  vector: number;
  /** Phase tag of the entries of this round: 0 or 1. */
  phase: number;
  /** Commands that are over and wait for a place, the first one perhaps under way. */
  readonly line: Command[];

  constructor(id: number) {
    super(id, CQE_LOG2);
    this.vector = -1;
    this.phase = 1;
    this.line = [];
  }

  open(baseFrame: number, size: number, vector: number): void {
    this.place(baseFrame, size);
    this.vector = vector;
    this.phase = 1;
  }

  override remove(): void {
    super.remove();
    this.vector = -1;
    this.line.length = 0;
  }

  get isFull(): boolean {
    return this.after(this.tail) === this.head;
  }

  /** The entry at the tail is there. */
  advance(): void {
    this.tail = this.after(this.tail);
    if (this.tail === 0) this.phase ^= 1;
  }

  /** The host's write of the head. @returns false for a value that it cannot have */
  ring(head: number): boolean {
    if (head >= this.size || head === this.head) return false;
    if (this.distance(this.head, head) > this.distance(this.head, this.tail)) return false;
    this.head = head;
    return true;
  }
}
