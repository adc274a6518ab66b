/** What vEVENTQ and VIRQ have in common: events of one type of a vIOMMU, read through a descriptor. */
import { fail } from '../abi/errno.ts';
import type { Command } from './command.ts';
import { openDescriptor } from './descriptor.ts';
import { EventFile, type EventSource } from './event-file.ts';
import type { ClientProcess } from './file.ts';
import { hex } from './format.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import type { Viommu } from './viommu.ts';

/** Records beyond this are lost, whatever depth was asked for: memory is not without end. */
export const MOST_RECORDS = 2 ** 20;

export abstract class EventQueue extends IommufdObject implements EventSource {
  abstract override readonly kind: 'veventq' | 'virq';
  readonly viommu: Viommu;
  readonly type: number;
  protected readonly context: Command['context'];
  private readonly file: EventFile;

  /** EEXIST when the vIOMMU has a queue of this type. */
  constructor(command: Command, viommu: Viommu, type: number) {
    super();
    const other = viommu.eventQueues.get(type);
    if (other)
      throw fail('EEXIST', `vIOMMU ${viommu.id} has the ${other.kind} ${other.id} of type ${hex(type)} already`);
    this.viommu = use(viommu);
    this.type = type;
    this.context = command.context;
    this.file = new EventFile(this);
    viommu.eventQueues.set(type, this);
  }

  abstract readonly waiting: boolean;
  abstract read(caller: ClientProcess, address: bigint, count: number): number;
  /** Takes an event from the driver. */
  protected abstract enqueue(record: Uint8Array): void;

  push(record: Uint8Array): void {
    this.enqueue(record);
    // For every record, not only the first: who waits for an edge (EPOLLET) and has not read yet hears of the next, too.
    if (this.waiting) this.file.onPollChange?.();
  }

  /**
   * Opens the descriptor in the calling process. While it is open the queue is in use and the iommufd stays.
   * Without `answered` (it writes the descriptor's number to the caller) there is no descriptor.
   */
  open(command: Command, answered: (fd: number) => void): Promise<void> {
    use(this);
    this.context.hold();
    return openDescriptor(command.caller, this.file, answered);
  }

  closed(): void {
    unuse(this);
    this.context.drop();
  }

  destroy(): void {
    this.viommu.eventQueues.delete(this.type);
    unuse(this.viommu);
  }

  protected traceEvent(sequence: number, record: Uint8Array, lost: boolean): void {
    const { tracer } = this.context.host;
    if (!tracer.on) return;
    const words = [...new Uint32Array(record.slice().buffer)];
    tracer.emit({ type: 'vevent', viommu: this.viommu.id, queue: this.id, sequence, words, lost });
  }
}
