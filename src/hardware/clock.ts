/**
 * The machine's clock: asynchronous things (interrupts, command completion, page responses) are queued here and run in
 * order after the access that caused them, so that the same inputs give the same states.
 */

/** What has run is forgotten so many tasks at a time. */
const KEPT = 1024;

/** More tasks than an access of a well-behaved program leaves. */
const MANY = 64;

export class Clock {
  private readonly queue: Array<() => void> = [];
  private running = false;

  /** Runs `task` after everything already queued; never inside the caller. */
  defer(task: () => void): void {
    this.queue.push(task);
  }

  /**
   * Who can begin long work within an access that asks for it has to begin it by defer() now: the access is a device's, or
   * much is queued already. Otherwise work that queues more of its like would multiply.
   */
  get isBusy(): boolean {
    return this.running || this.queue.length > MANY;
  }

  /**
   * Runs until nothing is queued, or `most` tasks have run: devices that write into one another's registers may be at it
   * for ever. Called by whoever drives the machine, after each outside access.
   * @returns whether nothing is queued
   */
  settle(most = Number.POSITIVE_INFINITY): boolean {
    if (this.running) return false;
    this.running = true;
    try {
      for (let left = most; left > 0 && this.queue.length > 0; left -= KEPT) this.run(Math.min(left, KEPT));
    } finally {
      this.running = false;
    }
    return this.queue.length === 0;
  }

  /** A task that throws is over; those behind it stay. */
  private run(most: number): void {
    let done = 0;
    try {
      while (done < most && done < this.queue.length) this.queue[done++]!();
    } finally {
      this.queue.splice(0, done);
    }
  }
}
