/**
 * Interrupts of the completion queues (NVMe 1.4, 7.5): a message per vector with new entries, or, while there are none, the
 * pin, asserted as long as a queue with interrupts has entries that the host has not taken, and INTMS does not mask it.
 */
import type { FunctionPorts } from '../function-model.ts';
import type { CompletionQueue } from './completion-queue.ts';

export class Interrupts {
  /** INTMS: a bit per vector. */
  mask: number;
  private readonly ports: FunctionPorts;
  private readonly queues: readonly CompletionQueue[];
  /** Vectors with entries since the last turn of the clock. */
  private readonly raised: number[];
  private readonly deliver: () => void;
  private asserted: boolean;

  constructor(ports: FunctionPorts, queues: readonly CompletionQueue[]) {
    this.mask = 0;
    this.ports = ports;
    this.queues = queues;
    this.raised = [];
    this.deliver = () => this.send();
    this.asserted = false;
  }

  /** There is a new entry in `queue`. Entries of one turn share an interrupt. */
  posted({ vector }: CompletionQueue): void {
    if (vector < 0 || this.raised.includes(vector)) return;
    if (this.raised.length === 0) this.ports.clock.defer(this.deliver);
    this.raised.push(vector);
  }

  /** Something changed that the pin depends on. */
  refreshPin(): void {
    const asserted = !this.ports.enabledVectors && this.queues.some((queue) => this.asserts(queue));
    if (asserted === this.asserted) return;
    this.asserted = asserted;
    this.ports.setPin(asserted);
  }

  /** No queue exists any more. */
  reset(): void {
    this.mask = 0;
    this.raised.length = 0;
    this.refreshPin();
  }

  private send(): void {
    if (this.ports.enabledVectors) for (const vector of this.raised) this.ports.sendMessage(vector);
    this.raised.length = 0;
    this.refreshPin();
  }

  private asserts({ vector, isEmpty }: CompletionQueue): boolean {
    return vector >= 0 && !isEmpty && !((this.mask >>> vector) & 1);
  }
}
