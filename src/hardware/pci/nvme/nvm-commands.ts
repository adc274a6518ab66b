/** The NVM command set (NVMe 1.4, 6) on the namespaces of a controller. */
import { type Command, IN_PROGRESS, type Transfer } from './command.ts';
import { MOST_BYTES } from './limits.ts';
import type { Namespace } from './namespace.ts';
import {
  COMPARE_FAILURE,
  DSM_DEALLOCATE,
  DSM_RANGE_BLOCKS,
  DSM_RANGE_BYTES,
  DSM_RANGE_START,
  INVALID_FIELD,
  INVALID_NAMESPACE,
  INVALID_OPCODE,
  LBA_OUT_OF_RANGE,
  NSID_ALL,
  NVM_COMPARE,
  NVM_DATASET_MANAGEMENT,
  NVM_FLUSH,
  NVM_READ,
  NVM_WRITE,
  NVM_WRITE_ZEROES,
  SQE_CDW10,
  SQE_CDW11,
  SQE_CDW12,
  SUCCESS,
  UNRECOVERED_READ_ERROR,
  WRITE_FAULT,
} from './spec/commands.ts';
import type { Statistics } from './statistics.ts';

/** Bytes that are cleared at once: a file may have to be written for it. */
const MOST_CLEARED = 2 ** 20;

export class NvmCommands {
  private readonly namespaces: readonly Namespace[];
  private readonly statistics: Statistics;
  private readonly reads: Transfer;
  private readonly writes: Transfer;
  private readonly compares: Transfer;
  private readonly ranges: Transfer;
  /** What is compared with. */
  private readonly stored: Uint8Array;

  constructor(namespaces: readonly Namespace[], statistics: Statistics) {
    this.namespaces = namespaces;
    this.statistics = statistics;
    this.stored = new Uint8Array(4096);
    const end = (): number => SUCCESS;
    const store = (command: Command) => this.namespaceOf(command)!.store;
    this.reads = {
      toHost: true,
      piece: (command, at, bytes) =>
        store(command).read(command.position + at, bytes) ? SUCCESS : UNRECOVERED_READ_ERROR,
      end,
    };
    this.writes = {
      toHost: false,
      piece: (command, at, bytes) => (store(command).write(command.position + at, bytes) ? SUCCESS : WRITE_FAULT),
      end,
    };
    this.compares = { toHost: false, piece: (command, at, bytes) => this.compare(command, at, bytes), end };
    this.ranges = {
      toHost: false,
      piece(command, at, bytes) {
        command.payload.set(bytes, at);
        return SUCCESS;
      },
      end: (command) => this.deallocate(command),
    };
  }

  /** @returns a status, or IN_PROGRESS */
  execute(command: Command, pageBytes: number): number {
    const { opcode } = command;
    if (opcode === NVM_FLUSH && command.namespaceId === NSID_ALL) return this.flush(this.namespaces);
    const namespace = this.namespaceOf(command);
    switch (opcode) {
      case NVM_READ:
      case NVM_WRITE:
      case NVM_COMPARE:
        return namespace ? this.transfer(command, namespace, pageBytes) : INVALID_NAMESPACE;
      case NVM_WRITE_ZEROES:
        return namespace ? this.writeZeroes(command, namespace) : INVALID_NAMESPACE;
      case NVM_DATASET_MANAGEMENT:
        return namespace ? this.manage(command, pageBytes) : INVALID_NAMESPACE;
      case NVM_FLUSH:
        return namespace ? this.flush([namespace]) : INVALID_NAMESPACE;
      default:
        return INVALID_OPCODE;
    }
  }

  flush(namespaces: readonly Namespace[]): number {
    return namespaces.every(({ store }) => store.flush()) ? SUCCESS : WRITE_FAULT;
  }

  private namespaceOf(command: Command): Namespace | undefined {
    return this.namespaces[command.namespaceId - 1];
  }

  private transfer(command: Command, namespace: Namespace, pageBytes: number): number {
    const blocks = blocksOf(command);
    const bytes = blocks * namespace.blockBytes;
    if (bytes > MOST_BYTES) return INVALID_FIELD;
    if (!this.place(command, namespace, blocks)) return LBA_OUT_OF_RANGE;
    const { opcode } = command;
    if (opcode === NVM_WRITE) this.statistics.countWrite(bytes);
    else this.statistics.countRead(bytes);
    const work = opcode === NVM_READ ? this.reads : opcode === NVM_WRITE ? this.writes : this.compares;
    return command.transfer(work, bytes, pageBytes);
  }

  private place(command: Command, namespace: Namespace, blocks: number): boolean {
    const low = command.dword(SQE_CDW10);
    const high = command.dword(SQE_CDW11);
    command.position = namespace.position(low, high);
    return namespace.holds(low, high, blocks);
  }

  private compare(command: Command, at: number, bytes: Uint8Array): number {
    const stored = bytes.length === this.stored.length ? this.stored : this.stored.subarray(0, bytes.length);
    if (!this.namespaceOf(command)!.store.read(command.position + at, stored)) return UNRECOVERED_READ_ERROR;
    return bytes.every((byte, i) => byte === stored[i]) ? SUCCESS : COMPARE_FAILURE;
  }

  private writeZeroes(command: Command, namespace: Namespace): number {
    const blocks = blocksOf(command);
    if (!this.place(command, namespace, blocks)) return LBA_OUT_OF_RANGE;
    command.toClear = blocks * namespace.blockBytes;
    return this.clearMore(command);
  }

  /** Clears the next blocks of a Write Zeroes, which may name 256 MiB. @returns a status, or IN_PROGRESS */
  clearMore(command: Command): number {
    const bytes = Math.min(command.toClear, MOST_CLEARED);
    command.pages = bytes / 4096;
    if (!this.namespaceOf(command)!.store.zero(command.position, bytes)) return WRITE_FAULT;
    command.position += bytes;
    command.toClear -= bytes;
    if (command.toClear === 0) return SUCCESS;
    command.step = 'clearing';
    return IN_PROGRESS;
  }

  /** Dataset Management. Of its attributes only deallocation does anything, the others are hints about performance. */
  private manage(command: Command, pageBytes: number): number {
    if (!(command.dword(SQE_CDW11) & DSM_DEALLOCATE)) return SUCCESS;
    const bytes = ((command.dword(SQE_CDW10) & 0xff) + 1) * DSM_RANGE_BYTES;
    command.payload = new Uint8Array(bytes);
    return command.transfer(this.ranges, bytes, pageBytes);
  }

  private deallocate(command: Command): number {
    const namespace = this.namespaceOf(command)!;
    const view = new DataView(command.payload.buffer);
    for (let at = 0; at < view.byteLength; at += DSM_RANGE_BYTES) {
      const blocks = view.getUint32(at + DSM_RANGE_BLOCKS, true);
      const low = view.getUint32(at + DSM_RANGE_START, true);
      const high = view.getUint32(at + DSM_RANGE_START + 4, true);
      if (!namespace.holds(low, high, blocks)) return LBA_OUT_OF_RANGE;
      namespace.store.discard(namespace.position(low, high), blocks * namespace.blockBytes);
    }
    return SUCCESS;
  }
}

/** NLB is 0's based. */
const blocksOf = (command: Command): number => (command.dword(SQE_CDW12) & 0xffff) + 1;
