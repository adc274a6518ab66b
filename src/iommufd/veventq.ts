/**
 * vEVENTQ: events with a header of flags and sequence number. When the queue is full, or there is no memory, an event is
 * lost: a header with LOST_EVENTS and no data then ends the queue, and disappears again when an event follows it, because
 * the gap in the sequence numbers tells as much.
 */
import { fail } from '../abi/errno.ts';
import { IOMMU_VEVENTQ_FLAG_LOST_EVENTS, VeventHeader, VeventqAlloc } from '../abi/iommufd.ts';
import type { Command } from './command.ts';
import { EventQueue, MOST_RECORDS } from './event-queue.ts';
import { Fifo } from './fifo.ts';
import type { ClientProcess } from './file.ts';
import { hex } from './format.ts';
import { writeUser } from './user-memory.ts';
import { Viommu } from './viommu.ts';

const TYPE_DEFAULT = 0;
const LAST_SEQUENCE = 2 ** 31 - 1;

interface Vevent {
  readonly sequence: number;
  readonly record: Uint8Array;
}

export class Veventq extends EventQueue {
  private readonly depth: number;
  private readonly events: Fifo<Vevent>;
  /** Sequence number of the LOST_EVENTS header at the end, or null. */
  private lost: number | null;
  private sequence: number;

  constructor(command: Command, viommu: Viommu, type: number, depth: number) {
    super(command, viommu, type);
    this.depth = depth;
    this.events = new Fifo();
    this.lost = null;
    this.sequence = 0;
  }

  get kind(): 'veventq' {
    return 'veventq';
  }

  get waiting(): boolean {
    return this.events.length > 0 || this.lost !== null;
  }

  protected enqueue(record: Uint8Array): void {
    const { sequence } = this;
    this.sequence = sequence === LAST_SEQUENCE ? 0 : sequence + 1;
    const full = this.events.length >= Math.min(this.depth, MOST_RECORDS);
    this.lost = full ? sequence : null;
    if (!full) this.events.push({ sequence, record });
    this.traceEvent(sequence, record, full);
  }

  read(caller: ClientProcess, address: bigint, count: number): number {
    if (this.context.dialect.behaviour.eventReadCountChecked) this.checkCount(count);
    let done = 0;
    try {
      for (let event = this.events.first; event; event = this.events.first) {
        if (VeventHeader.size + event.record.length > count - done) return done;
        writeUser(caller.memory, address + BigInt(done), header(0, event.sequence));
        // A kernel counts the header even when the data behind it cannot be written.
        done += VeventHeader.size;
        writeUser(caller.memory, address + BigInt(done), event.record);
        done += event.record.length;
        this.events.shift();
      }
      if (this.lost !== null && VeventHeader.size <= count - done) {
        writeUser(caller.memory, address + BigInt(done), header(IOMMU_VEVENTQ_FLAG_LOST_EVENTS, this.lost));
        done += VeventHeader.size;
        this.lost = null;
      }
    } catch (error) {
      if (done === 0) throw error;
    }
    return done;
  }

  /** EINVAL when not even what comes first fits. */
  private checkCount(count: number): void {
    const needed = VeventHeader.size + (this.events.first?.record.length ?? 0);
    if (count < needed) throw fail('EINVAL', `count ${count} is less than the ${needed} bytes of an event`);
  }
}

function header(flags: number, sequence: number): Uint8Array {
  const h = new VeventHeader();
  h.flags = flags;
  h.sequence = sequence;
  return h.bytes;
}

/** IOMMU_VEVENTQ_ALLOC */
export function veventqAlloc(command: Command): Promise<void> {
  const c = new VeventqAlloc(command.bytes);
  if (c.flags || c.reserved)
    throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} and __reserved ${hex(c.reserved)} must be 0`);
  if (c.type === TYPE_DEFAULT) throw fail('EOPNOTSUPP', 'type 0 (IOMMU_VEVENTQ_TYPE_DEFAULT) is no type of vEVENTQ');
  if (c.veventqDepth === 0) throw fail('EINVAL', 'veventq_depth is 0');
  const viommu = command.context.objects.get(c.viommuId, Viommu, 'viommu_id');
  const queue = command.create(new Veventq(command, viommu, c.type, c.veventqDepth));
  return queue.open(command, (fd) => {
    c.outVeventqId = queue.id;
    c.outVeventqFd = fd;
    command.respond();
  });
}
