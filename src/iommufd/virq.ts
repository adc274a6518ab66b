/** VIRQ of the dialect viommu-v2: bare records, without a header, a depth or a word about lost ones. */
import { fail } from '../abi/errno.ts';
import { IOMMU_VIRQ_TYPE_NONE, VirqAlloc } from '../abi/iommufd-viommu-v2.ts';
import type { Command } from './command.ts';
import { EventQueue, MOST_RECORDS } from './event-queue.ts';
import { Fifo } from './fifo.ts';
import type { ClientProcess } from './file.ts';
import { hex } from './format.ts';
import { writeUser } from './user-memory.ts';
import { Viommu } from './viommu.ts';

export class Virq extends EventQueue {
  private readonly records: Fifo<Uint8Array>;
  /** Only for traces. */
  private sequence: number;

  constructor(command: Command, viommu: Viommu, type: number) {
    super(command, viommu, type);
    this.records = new Fifo();
    this.sequence = 0;
  }

  get kind(): 'virq' {
    return 'virq';
  }

  get waiting(): boolean {
    return this.records.length > 0;
  }

  protected enqueue(record: Uint8Array): void {
    const full = this.records.length >= MOST_RECORDS;
    if (!full) this.records.push(record);
    this.traceEvent(this.sequence++, record, full);
  }

  read(caller: ClientProcess, address: bigint, count: number): number {
    let done = 0;
    try {
      for (let record = this.records.first; record && record.length <= count - done; record = this.records.first) {
        writeUser(caller.memory, address + BigInt(done), record);
        done += record.length;
        this.records.shift();
      }
    } catch (error) {
      if (done === 0) throw error;
    }
    return done;
  }
}

/** IOMMU_VIRQ_ALLOC */
export function virqAlloc(command: Command): Promise<void> {
  const c = new VirqAlloc(command.bytes);
  if (c.flags) throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} must be 0`);
  if (c.type === IOMMU_VIRQ_TYPE_NONE) throw fail('EINVAL', 'type 0 (IOMMU_VIRQ_TYPE_NONE) is no type of VIRQ');
  const viommu = command.context.objects.get(c.viommuId, Viommu, 'viommu_id');
  const queue = command.create(new Virq(command, viommu, c.type));
  return queue.open(command, (fd) => {
    c.outVirqId = queue.id;
    c.outVirqFd = fd;
    command.respond();
  });
}
