/** The error log (NVMe 1.4, 5.14.1.1): what went wrong last, newest first. */
import { ERROR_LOG_ENTRIES } from './limits.ts';
import {
  ERROR_CID,
  ERROR_COUNT,
  ERROR_ENTRY_BYTES,
  ERROR_LBA,
  ERROR_LOCATION,
  ERROR_NONE,
  ERROR_NSID,
  ERROR_SQID,
  ERROR_STATUS,
} from './spec/log-pages.ts';

export interface ErrorEntry {
  readonly queue: number;
  readonly command: number;
  /** Status code with its type. */
  readonly status: number;
  readonly namespace: number;
  readonly lba: readonly [low: number, high: number];
}

/** An error that is not about a command. */
export const NO_COMMAND: Omit<ErrorEntry, 'status'> = {
  queue: ERROR_NONE,
  command: ERROR_NONE,
  namespace: 0,
  lba: [0, 0],
};

export class ErrorLog {
  /** Errors from power-on. */
  count: number;
  private entries: Uint8Array[];

  constructor() {
    this.count = 0;
    this.entries = [];
  }

  add({ queue, command, status, namespace, lba }: ErrorEntry): void {
    this.count++;
    const view = new DataView(new ArrayBuffer(ERROR_ENTRY_BYTES));
    view.setBigUint64(ERROR_COUNT, BigInt(this.count), true);
    view.setUint16(ERROR_SQID, queue, true);
    view.setUint16(ERROR_CID, command, true);
    view.setUint16(ERROR_STATUS, status << 1, true);
    view.setUint16(ERROR_LOCATION, ERROR_NONE, true);
    view.setUint32(ERROR_LBA, lba[0], true);
    view.setUint32(ERROR_LBA + 4, lba[1], true);
    view.setUint32(ERROR_NSID, namespace, true);
    this.entries = [new Uint8Array(view.buffer), ...this.entries].slice(0, ERROR_LOG_ENTRIES);
  }

  /** As the host reads it. Entries that are not used are zero. */
  page(): Uint8Array {
    const page = new Uint8Array(ERROR_LOG_ENTRIES * ERROR_ENTRY_BYTES);
    for (const [i, entry] of this.entries.entries()) page.set(entry, i * ERROR_ENTRY_BYTES);
    return page;
  }
}
