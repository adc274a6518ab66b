/**
 * Asynchronous events (NVMe 1.4, 5.2): requests that the host leaves here, completed as something happens. After an event
 * of one type there is no other of that type until the host has read the log page that belongs to it. Reading it clears
 * an event that still waits for a request, too: never does more than one of a type.
 */
import { type Command, IN_PROGRESS } from './command.ts';
import { ASYNC_EVENT_REQUESTS } from './limits.ts';
import { ASYNC_EVENT_LIMIT_EXCEEDED, SUCCESS } from './spec/commands.ts';
import { EVENT_ERROR, EVENT_SMART, LOG_ERRORS, LOG_SMART } from './spec/log-pages.ts';

const LOG_OF: Readonly<Record<number, number>> = { [EVENT_ERROR]: LOG_ERRORS, [EVENT_SMART]: LOG_SMART };

export class AsyncEvents {
  private readonly complete: (command: Command, status: number) => void;
  private held: Command[];
  /** Results of events for which no request was there. */
  private waiting: number[];
  /** Types that are silent until their log page is read. */
  private readonly silent: Set<number>;

  constructor(complete: (command: Command, status: number) => void) {
    this.complete = complete;
    this.held = [];
    this.waiting = [];
    this.silent = new Set();
  }

  reset(): void {
    this.held = [];
    this.waiting = [];
    this.silent.clear();
  }

  /** Asynchronous Event Request. */
  request(command: Command): number {
    if (this.held.length === ASYNC_EVENT_REQUESTS) return ASYNC_EVENT_LIMIT_EXCEEDED;
    const event = this.waiting.shift();
    if (event !== undefined) {
      command.result = event;
      return SUCCESS;
    }
    command.step = 'held';
    this.held.push(command);
    return IN_PROGRESS;
  }

  /** The host takes a request back. */
  forget(command: Command): void {
    this.held = this.held.filter((other) => other !== command);
  }

  raise(type: number, information: number): void {
    if (this.silent.has(type)) return;
    this.silent.add(type);
    const event = type | (information << 8) | (LOG_OF[type]! << 16);
    const command = this.held.shift();
    if (!command) this.waiting.push(event);
    else {
      command.result = event;
      this.complete(command, SUCCESS);
    }
  }

  logRead(page: number): void {
    for (const type of this.silent) if (LOG_OF[type] === page) this.silent.delete(type);
    this.waiting = this.waiting.filter((event) => event >>> 16 !== page);
  }
}
