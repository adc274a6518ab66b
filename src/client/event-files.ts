/** The descriptors of event queues: records are read from them. */
import { HwptPageResponse, HwptPgfault, VeventHeader } from '../abi/iommufd.ts';
import { OpenedFile } from './command-file.ts';

const MOST_BYTES = 4096;

export type PageRequest = InstanceType<typeof HwptPgfault>;

/** Of IOMMU_FAULT_QUEUE_ALLOC. */
export class FaultQueueFile extends OpenedFile {
  /** What waits, whole groups, as much as fits. */
  async requests(): Promise<PageRequest[]> {
    const { size } = HwptPgfault;
    const bytes = await this.read(MOST_BYTES - (MOST_BYTES % size));
    return Array.from({ length: bytes.length / size }, (_, n) => new HwptPgfault(bytes.subarray(n * size)));
  }

  /** Answers a group. @param code IOMMUFD_PAGE_RESP_* */
  async respond(cookie: number, code: number): Promise<void> {
    await this.write(Object.assign(new HwptPageResponse(), { cookie, code }).bytes);
  }
}

export interface Vevent {
  /** IOMMU_VEVENTQ_FLAG_* */
  readonly flags: number;
  readonly sequence: number;
  /** Empty with LOST_EVENTS. */
  readonly data: Uint8Array;
}

/** Of IOMMU_VEVENTQ_ALLOC. */
export class VeventqFile extends OpenedFile {
  /** What waits, as much as fits. @param dataBytes of a record of the queue's type */
  async events(dataBytes: number): Promise<Vevent[]> {
    const bytes = await this.read(MOST_BYTES);
    const events: Vevent[] = [];
    for (let at = 0; at < bytes.length; ) {
      const { flags, sequence } = new VeventHeader(bytes.subarray(at));
      const end = at + VeventHeader.size + (flags ? 0 : dataBytes);
      events.push({ flags, sequence, data: bytes.subarray(at + VeventHeader.size, end) });
      at = end;
    }
    return events;
  }
}
