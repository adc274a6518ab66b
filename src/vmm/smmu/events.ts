/** From the events of the host to the guest's event queue. */
import type { EventQueue } from '../../hardware/smmuv3/event-queue.ts';
import type { GlobalErrors } from '../../hardware/smmuv3/global-errors.ts';
import type { OutputQueue } from '../../hardware/smmuv3/output-queue.ts';
import { EVENTQ_ABT_ERR } from '../../hardware/smmuv3/spec/registers.ts';
import type { Faults } from '../faults.ts';
import type { EventSink } from '../host-events.ts';

export class VirtualEvents implements EventSink {
  private readonly queue: EventQueue;
  private readonly ring: OutputQueue;
  private readonly errors: GlobalErrors;
  private readonly faults: Faults;

  constructor(queue: EventQueue, ring: OutputQueue, errors: GlobalErrors, faults: Faults) {
    this.queue = queue;
    this.ring = ring;
    this.errors = errors;
    this.faults = faults;
  }

  record(bytes: Uint8Array): void {
    this.queue.record.set(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4));
    this.queue.write();
  }

  /** As though the guest's own queue had been full (7.4). */
  lost(): void {
    if (this.faults.lostEventsAsAbort) this.errors.activate(EVENTQ_ABT_ERR);
    else this.ring.overflow();
  }
}
