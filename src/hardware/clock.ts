/**
 * The machine's clock: asynchronous things (interrupts, command completion, page responses) are queued here and run in
 * order after the access that caused them, so that the same inputs give the same states.
 */
export class Clock {
  private readonly queue: Array<() => void> = [];
  private running = false;

  /** Runs `task` after everything already queued; never inside the caller. */
  defer(task: () => void): void {
    this.queue.push(task);
  }

  /** Runs until nothing is queued. Called by whoever drives the machine, after each outside access. */
  settle(): void {
    if (this.running) return;
    this.running = true;
    try {
      for (let i = 0; i < this.queue.length; i++) this.queue[i]!();
    } finally {
      this.queue.length = 0;
      this.running = false;
    }
  }
}
