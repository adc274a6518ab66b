/** A submission queue: the host moves the tail, the controller the head. */
import type { CompletionQueue } from './completion-queue.ts';
import { Queue } from './queue.ts';
import { SQE_LOG2 } from './spec/commands.ts';

export class SubmissionQueue extends Queue {
  /** Where its commands are completed. */
  completions: CompletionQueue | null;
  /** An entry is being read: the next one waits for it. */
  fetching: boolean;

  constructor(id: number) {
    super(id, SQE_LOG2);
    this.completions = null;
    this.fetching = false;
  }

  open(baseFrame: number, size: number, completions: CompletionQueue): void {
    this.place(baseFrame, size);
    this.completions = completions;
    this.fetching = false;
  }

  /** There is an entry to read. None is, as long as completions before it have no place to go. */
  get isReady(): boolean {
    return !this.isEmpty && !this.fetching && this.completions!.line.length === 0;
  }

  /** The host's write of the tail. @returns false for a value that it cannot have */
  ring(tail: number): boolean {
    if (tail >= this.size || tail === this.tail) return false;
    if (this.distance(this.head, tail) < this.distance(this.head, this.tail)) return false;
    this.tail = tail;
    return true;
  }
}
