/** From the vEVENTQ of the host to the guest's event queue. */
import { IOMMU_VEVENTQ_FLAG_LOST_EVENTS, VeventHeader } from '../../abi/iommufd.ts';
import type { EventQueue } from '../../hardware/smmuv3/event-queue.ts';
import type { GlobalErrors } from '../../hardware/smmuv3/global-errors.ts';
import type { OutputQueue } from '../../hardware/smmuv3/output-queue.ts';
import { EVENT_BYTES } from '../../hardware/smmuv3/spec/events.ts';
import { EVENTQ_ABT_ERR } from '../../hardware/smmuv3/spec/registers.ts';
import type { Faults } from '../faults.ts';

const LAST_SEQUENCE = 2 ** 31 - 1;
const AT_ONCE = 16;

export class VirtualEvents {
  private readonly queue: EventQueue;
  private readonly ring: OutputQueue;
  private readonly errors: GlobalErrors;
  private readonly faults: Faults;
  /** Of the next event that the host has for us. */
  private sequence: number;

  constructor(queue: EventQueue, ring: OutputQueue, errors: GlobalErrors, faults: Faults) {
    this.queue = queue;
    this.ring = ring;
    this.errors = errors;
    this.faults = faults;
    this.sequence = 0;
  }

  /** Passes on all that waits. @param read of the vEVENTQ's descriptor */
  drain(read: (length: number) => Uint8Array): void {
    const most = AT_ONCE * (VeventHeader.size + EVENT_BYTES);
    for (let bytes = read(most); bytes.length > 0; bytes = read(most)) this.pass(bytes);
  }

  private pass(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const { flags, sequence } = new VeventHeader(bytes.subarray(at));
      at += VeventHeader.size;
      const told = (flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) !== 0;
      if (told || sequence !== this.sequence) this.lost();
      this.sequence = sequence === LAST_SEQUENCE ? 0 : sequence + 1;
      if (told) continue;
      this.queue.record.set(new Uint32Array(bytes.slice(at, at + EVENT_BYTES).buffer));
      this.queue.write();
      at += EVENT_BYTES;
    }
  }

  /** As though the guest's own queue had been full (7.4). */
  private lost(): void {
    if (this.faults.lostEventsAsAbort) this.errors.activate(EVENTQ_ABT_ERR);
    else this.ring.overflow();
  }
}
