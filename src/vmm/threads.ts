/**
 * Threads of a VMM, one at a time and each as far as it gets. A thread is a generator that yields what it waits for, as
 * poll(2) does. No time passes while anything can go on: a time-out is for whoever has to wait for a thread.
 */
import type { Pollable, VmmProcess } from './process.ts';

/** poll(2): descriptors to be readable, and for how many milliseconds at most; null: for ever. */
export interface Wait {
  readonly fds: readonly number[];
  readonly timeout: number | null;
}

/** Goes on with whether a descriptor is readable; if not, the time is over. */
export type Body = Generator<Wait, void, boolean>;

/** Somebody waits for a thread that nothing wakes any more. */
export class Deadlock extends Error {
  constructor(thread: string) {
    super(`${thread} is waited for, and nothing is left that would wake it`);
    this.name = 'Deadlock';
  }
}

interface Thread {
  readonly name: string;
  readonly body: Body;
  /** What the descriptors stood for when it began to wait: closing one wakes nobody. Null: it has ended. */
  awaited: readonly Pollable[] | null;
  /** When it goes on all the same; infinity: never. */
  deadline: number;
}

export class Threads {
  /** The VMM's CPUs are busy with other things. */
  paused: boolean;
  private readonly process: VmmProcess;
  private readonly threads: Thread[];
  /** In milliseconds. */
  private now: number;
  private running: boolean;

  constructor(process: VmmProcess) {
    this.paused = false;
    this.process = process;
    this.threads = [];
    this.now = 0;
    this.running = false;
  }

  /** @returns what join() takes */
  start(name: string, body: Body): Thread {
    const thread: Thread = { name, body, awaited: [], deadline: 0 };
    this.threads.push(thread);
    this.resume(thread, false);
    return thread;
  }

  /** Until every thread waits for something that is not there. */
  run(): void {
    if (this.running || this.paused) return;
    this.running = true;
    try {
      for (let thread = this.ready(); thread; thread = this.ready()) this.resume(thread, true);
    } finally {
      this.running = false;
    }
  }

  /** Waits for the end of a thread. */
  join(thread: Thread): void {
    for (this.run(); thread.awaited; this.run()) {
      const next = this.threads.reduce((first, each) => (each.deadline < first.deadline ? each : first));
      if (next.deadline === Number.POSITIVE_INFINITY) throw new Deadlock(thread.name);
      this.now = next.deadline;
      this.resume(next, false);
    }
  }

  private ready(): Thread | undefined {
    return this.threads.find(({ awaited }) => awaited!.some(({ readable }) => readable));
  }

  private resume(thread: Thread, readable: boolean): void {
    const { done, value } = thread.body.next(readable);
    if (done) this.threads.splice(this.threads.indexOf(thread), 1);
    thread.awaited = done ? null : value.fds.map((fd) => this.process.pollable(fd));
    thread.deadline = done ? 0 : this.now + (value.timeout ?? Number.POSITIVE_INFINITY);
  }
}
