/** Events of a vIOMMU as the host gives them: what read(2) of a vEVENTQ, or of a VIRQ, returns. */
import { IOMMU_VEVENTQ_FLAG_LOST_EVENTS, VeventHeader } from '../abi/iommufd.ts';
import type { Client } from './client.ts';

const LAST_SEQUENCE = 2 ** 31 - 1;
const AT_ONCE = 16;

export interface EventSink {
  record(bytes: Uint8Array): void;
  /** Some were lost before the next one. */
  lost(): void;
}

/** Where events are read from, until close(). */
export abstract class HostEvents {
  readonly id: number;
  readonly fd: number;
  protected readonly recordBytes: number;
  private readonly client: Client;

  constructor(client: Client, id: number, fd: number, recordBytes: number) {
    this.client = client;
    this.id = id;
    this.fd = fd;
    this.recordBytes = recordBytes;
  }

  protected abstract readonly headerBytes: number;
  protected abstract pass(bytes: Uint8Array, sink: EventSink): void;

  /** Passes on all that waits. */
  drain(sink: EventSink): void {
    const most = AT_ONCE * (this.headerBytes + this.recordBytes);
    const read = () => this.client.read(this.fd, most);
    for (let bytes = read(); bytes.length > 0; bytes = read()) this.pass(bytes, sink);
  }
}

/** Records with a header each, which tells of lost ones. */
export class VeventqEvents extends HostEvents {
  /** Of the next event that the host has for us. */
  private sequence = 0;

  protected get headerBytes(): number {
    return VeventHeader.size;
  }

  protected pass(bytes: Uint8Array, sink: EventSink): void {
    for (let at = 0; at < bytes.length; ) {
      const { flags, sequence } = new VeventHeader(bytes.subarray(at));
      at += VeventHeader.size;
      const told = (flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) !== 0;
      if (told || sequence !== this.sequence) sink.lost();
      this.sequence = sequence === LAST_SEQUENCE ? 0 : sequence + 1;
      if (told) continue;
      sink.record(bytes.slice(at, at + this.recordBytes));
      at += this.recordBytes;
    }
  }
}

/** Bare records: nobody is told of lost ones. */
export class VirqEvents extends HostEvents {
  protected get headerBytes(): number {
    return 0;
  }

  protected pass(bytes: Uint8Array, sink: EventSink): void {
    for (let at = 0; at < bytes.length; at += this.recordBytes) sink.record(bytes.slice(at, at + this.recordBytes));
  }
}
