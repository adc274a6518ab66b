/** The descriptor of a vEVENTQ, VIRQ or fault queue: records are read from it, and it is readable while any wait. */
import { fail } from '../abi/errno.ts';
import { type ClientProcess, type OpenFile, POLLIN, POLLOUT } from './file.ts';

/** What such a descriptor stands for. */
export interface EventSource {
  readonly kind: 'veventq' | 'virq' | 'fault-queue';
  readonly waiting: boolean;
  /** @returns bytes read: whole records only, 0 when none waits or fits */
  read(caller: ClientProcess, address: bigint, count: number): number;
  /** Takes answers, if there are any to give. @returns bytes taken */
  write?(caller: ClientProcess, address: bigint, count: number): number;
  /** The descriptor is gone. */
  closed(): void;
}

export class EventFile implements OpenFile {
  readonly device: null;
  onPollChange: (() => void) | null;
  private readonly source: EventSource;
  private open: boolean;

  constructor(source: EventSource) {
    this.device = null;
    this.onPollChange = null;
    this.source = source;
    this.open = true;
  }

  get kind(): EventSource['kind'] {
    return this.source.kind;
  }

  get pollMask(): number {
    return (this.source.waiting ? POLLIN : 0) | (this.source.write ? POLLOUT : 0);
  }

  read(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    if (position !== null) throw fail('ESPIPE', `a ${this.kind} has no positions to read from`);
    const waited = this.source.waiting;
    try {
      return this.source.read(caller, address, count);
    } finally {
      if (this.source.waiting !== waited) this.onPollChange?.();
    }
  }

  write(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    const { source } = this;
    if (position !== null) throw fail('ESPIPE', `a ${this.kind} has no positions to write to`);
    if (!source.write) throw fail('EINVAL', `a ${this.kind} cannot be written`);
    return source.write(caller, address, count);
  }

  ioctl(_caller: ClientProcess, command: number): never {
    throw fail('ENOTTY', `a ${this.kind} has no ioctl 0x${command.toString(16)}`);
  }

  mmap(): never {
    throw fail('ENODEV', `a ${this.kind} cannot be mapped`);
  }

  release(): void {
    if (!this.open) return;
    this.open = false;
    this.source.closed();
  }
}
