/**
 * Takes commands from the submission queues in turn, and takes them to their completion queues. It works on the clock, a
 * bounded number of commands at a time, so that nobody waits for the end of a long queue. A command whose access waits is
 * left where it is, and goes on when that access is over.
 */
import type { Clock } from '../../clock.ts';
import type { DmaPort } from '../dma.ts';
import { DMA_DONE, DMA_REFUSED, DMA_WAITING } from '../dma-channel.ts';
import { Command, IN_PROGRESS, overWith, statusOf } from './command.ts';
import { CompletionQueue } from './completion-queue.ts';
import { ADMIN_COMMANDS, COMMANDS, IO_QUEUES } from './limits.ts';
import {
  ABORTED_SQ_DELETION,
  DATA_TRANSFER_ERROR,
  RETRYABLE,
  STATUS_DO_NOT_RETRY,
  STATUS_MORE,
  SUCCESS,
} from './spec/commands.ts';
import { SubmissionQueue } from './submission-queue.ts';

/** Work between two turns of the clock, in accesses of a page; a command alone counts for some. */
const TURN = 512;
const PER_COMMAND = 16;

export interface EngineOwner {
  /** @returns a status, or IN_PROGRESS when the command has begun a transfer, is clearing, or is held */
  execute(command: Command): number;
  /** Goes on with a command that is clearing. @returns a status, or IN_PROGRESS */
  clearMore(command: Command): number;
  /** A command ends with an error. */
  failed(command: Command, status: number): void;
  /** There is a new entry in `queue`. */
  posted(queue: CompletionQueue): void;
  /** An entry of a queue cannot be read or written: no completion can tell that. */
  fatal(): void;
}

export class Engine {
  /** By queue identifier; 0 is the admin queue. */
  readonly submissions: readonly SubmissionQueue[];
  readonly completions: readonly CompletionQueue[];
  /** Entries are taken. */
  running: boolean;
  private readonly owner: EngineOwner;
  private readonly clock: Clock;
  private readonly commands: readonly Command[];
  private readonly free: Command[];
  private readonly clearing: Set<Command>;
  private readonly turn: () => void;
  private scheduled: boolean;
  /** Of the present turn. */
  private left: number;
  /** The queue that was served last. */
  private last: number;

  constructor(port: DmaPort, clock: Clock, owner: EngineOwner) {
    const ids = Array.from({ length: IO_QUEUES + 1 }, (_, id) => id);
    this.submissions = ids.map((id) => new SubmissionQueue(id));
    this.completions = ids.map((id) => new CompletionQueue(id));
    this.running = false;
    this.owner = owner;
    this.clock = clock;
    const resume = (command: Command, outcome: number): void => this.resume(command, outcome);
    this.commands = Array.from({ length: COMMANDS }, () => new Command(port, resume));
    this.free = [...this.commands];
    this.clearing = new Set();
    this.turn = () => this.takeTurn();
    this.scheduled = false;
    this.left = 0;
    this.last = 0;
  }

  /** There is something to do, perhaps. */
  schedule(): void {
    if (this.scheduled || !this.running) return;
    this.scheduled = true;
    this.clock.defer(this.turn);
  }

  /** Drops every command and every queue, as a controller reset does. */
  stop(): void {
    this.running = false;
    for (const command of this.commands) if (command.step !== 'free') this.release(command);
    for (const queue of this.submissions) queue.remove();
    for (const queue of this.completions) queue.remove();
  }

  /** The host has taken entries away: those in line may move up. */
  makeRoom(queue: CompletionQueue): void {
    this.postLine(queue);
    this.schedule();
  }

  /** Ends what is at work for a submission queue, and the queue. */
  removeSubmissions(queue: SubmissionQueue): void {
    for (const command of this.commands) {
      if (command.queue !== queue) continue;
      if (command.step === 'fetch') this.release(command);
      else if (isAtWork(command)) this.abort(command, ABORTED_SQ_DELETION);
    }
    queue.remove();
  }

  removeCompletions(queue: CompletionQueue): void {
    for (const command of queue.line) this.release(command);
    queue.remove();
  }

  /** The command that `queue` knows by `id`, if it is not over. */
  find(queue: number, id: number): Command | undefined {
    return this.commands.find((command) => command.queue?.id === queue && command.id === id && isAtWork(command));
  }

  abort(command: Command, status: number): void {
    command.dma.cancel();
    this.complete(command, status);
  }

  complete(command: Command, status: number): void {
    this.clearing.delete(command);
    if (status === SUCCESS) command.conclude(0);
    else {
      this.owner.failed(command, status);
      command.conclude((status << 1) | STATUS_MORE | (RETRYABLE.has(status) ? 0 : STATUS_DO_NOT_RETRY));
    }
    const { completions } = command;
    completions!.line.push(command);
    this.postLine(completions!);
  }

  private takeTurn(): void {
    this.scheduled = false;
    this.left = TURN;
    this.clear();
    while (this.left > 0) {
      const queue = this.nextQueue();
      if (!queue) break;
      this.left -= PER_COMMAND;
      this.serve(queue);
    }
    if (this.left <= 0 || this.clearing.size > 0) this.schedule();
  }

  /** One part of one of the commands that are clearing, in turn. */
  private clear(): void {
    const [command] = this.clearing;
    if (!command) return;
    this.clearing.delete(command);
    const status = this.owner.clearMore(command);
    this.left -= command.pages;
    if (status === IN_PROGRESS) this.clearing.add(command);
    else this.complete(command, status);
  }

  private serve(queue: SubmissionQueue): void {
    const command = this.free.pop()!;
    queue.fetching = true;
    const outcome = command.fetch(queue);
    if (outcome !== DMA_WAITING) this.fetched(command, outcome);
  }

  /** Round robin, one command each (4.13.1). */
  private nextQueue(): SubmissionQueue | null {
    const { submissions } = this;
    if (!this.running || this.free.length === 0) return null;
    for (let i = 0; i < submissions.length; i++) {
      this.last = (this.last + 1) % submissions.length;
      const queue = submissions[this.last]!;
      if (queue.isReady && (queue.id === 0 || this.free.length > ADMIN_COMMANDS)) return queue;
    }
    return null;
  }

  /** An access of the command waited, and is over. */
  private resume(command: Command, outcome: number): void {
    if (command.step === 'fetch') this.fetched(command, outcome);
    else if (command.step === 'completion') {
      const { completions } = command;
      this.posted(command, completions!, outcome);
      this.postLine(completions!);
    } else this.moved(command, outcome);
    this.schedule();
  }

  private fetched(command: Command, outcome: number): void {
    const queue = command.queue!;
    if (outcome !== DMA_DONE) {
      this.owner.fatal();
      return;
    }
    queue.fetching = false;
    queue.head = queue.after(queue.head);
    const status = this.owner.execute(command);
    this.left -= command.pages;
    if (status !== IN_PROGRESS) this.complete(command, status);
    else if (command.step === 'clearing') this.clearing.add(command);
    else if (command.step !== 'held') this.moved(command, command.move());
  }

  private moved(command: Command, first: number): void {
    let outcome = first;
    while (outcome === DMA_DONE) {
      this.left--;
      const status = command.arrived();
      outcome = status === SUCCESS ? command.move() : overWith(status);
    }
    if (outcome === DMA_REFUSED) this.complete(command, DATA_TRANSFER_ERROR);
    else if (outcome !== DMA_WAITING) this.complete(command, statusOf(outcome));
  }

  private postLine(queue: CompletionQueue): void {
    while (queue.line.length !== 0 && queue.line[0]!.step === 'queued' && !queue.isFull) {
      const command = queue.line[0]!;
      const outcome = command.post(queue);
      if (outcome === DMA_WAITING) return;
      this.posted(command, queue, outcome);
    }
  }

  private posted(command: Command, queue: CompletionQueue, outcome: number): void {
    if (outcome !== DMA_DONE) {
      this.owner.fatal();
      return;
    }
    queue.line.shift();
    queue.advance();
    this.release(command);
    this.owner.posted(queue);
  }

  private release(command: Command): void {
    this.clearing.delete(command);
    command.release();
    this.free.push(command);
  }
}

/** It is between its fetch and its end. */
const isAtWork = ({ step }: Command): boolean =>
  step === 'list' || step === 'data' || step === 'clearing' || step === 'held';
