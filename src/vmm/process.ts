/** The process of a VMM, inside this one: memory, descriptors, eventfds that call back. */
import { fail } from '../abi/errno.ts';
import {
  type ClientProcess,
  type EventFd,
  type MappedRegisters,
  type Mapping,
  mappedRegisters,
  type OpenFile,
  POLLIN,
} from '../iommufd/file.ts';
import { ProcessAccount } from '../iommufd/process-account.ts';
import { ProcessBuffer } from '../memory/process-buffer.ts';
import { notMemory, type PageSource } from '../memory/process-memory.ts';

/** Where registers are mapped; each mapping has a GiB to itself. */
const MAPPINGS = 0x7f00_0000_0000n;
const MAPPING_SHIFT = 30n;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** What poll(2) looks at. */
export interface Pollable {
  readonly readable: boolean;
}

/** An eventfd: readable from when it is signalled until it is read. */
class EventCounter implements Pollable {
  readonly signalled: () => void;
  private count: number;

  constructor(signalled: () => void) {
    this.signalled = signalled;
    this.count = 0;
  }

  get readable(): boolean {
    return this.count > 0;
  }

  signal(): void {
    this.count++;
    this.signalled();
  }

  read(): void {
    this.count = 0;
  }
}

export class VmmProcess implements ClientProcess {
  readonly pid: number;
  readonly memory: ProcessBuffer;
  readonly account: ProcessAccount;
  private readonly files: Map<number, OpenFile>;
  private readonly eventFds: Map<number, EventCounter>;
  private readonly mappings: (Mapping | null)[];

  constructor(pid: number, memoryBytes: number) {
    this.pid = pid;
    this.memory = new ProcessBuffer(0x7000_0000_0000, memoryBytes, `process ${pid}`);
    this.account = new ProcessAccount();
    this.files = new Map();
    this.eventFds = new Map();
    this.mappings = [];
  }

  /** Descriptors that are open, in the order in which they were opened. */
  get descriptors(): number[] {
    return [...this.files.keys()];
  }

  file(fd: number): OpenFile {
    const file = this.files.get(fd);
    if (!file) throw fail('EBADF', `descriptor ${fd} is not open`);
    return file;
  }

  fileOf(fd: number): OpenFile | null {
    return this.files.get(fd) ?? null;
  }

  memoryFile(fd: number): PageSource | null {
    const file = this.files.get(fd);
    return file ? notMemory(file.kind) : null;
  }

  openFd(file: OpenFile): number {
    const fd = this.freeDescriptor();
    this.files.set(fd, file);
    return fd;
  }

  closeFd(fd: number): void {
    const file = this.file(fd);
    this.files.delete(fd);
    file.release();
  }

  /** mmap(2) of registers. @returns their address */
  mapRegisters(fd: number, length: number, offset: bigint): bigint {
    this.mappings.push(this.file(fd).mmap(this, BigInt(length), PROT_READ_WRITE, MAP_SHARED, offset));
    return MAPPINGS + (BigInt(this.mappings.length - 1) << MAPPING_SHIFT);
  }

  /** munmap(2) of what mapRegisters() has mapped at `address`. */
  unmapRegisters(address: bigint): void {
    const index = Number((address - MAPPINGS) >> MAPPING_SHIFT);
    this.mappings[index]?.ended();
    this.mappings[index] = null;
  }

  registersAt(address: bigint, length: bigint): { registers: MappedRegisters; offset: number } | null {
    const mapping = this.mappings[Number((address - MAPPINGS) >> MAPPING_SHIFT)];
    const registers = mapping ? mappedRegisters(mapping) : null;
    const offset = Number((address - MAPPINGS) & ((1n << MAPPING_SHIFT) - 1n));
    return registers && offset + Number(length) <= registers.length ? { registers, offset } : null;
  }

  /** An eventfd that has `signalled` called each time. */
  makeEventFd(signalled: () => void = () => {}): number {
    const fd = this.freeDescriptor();
    this.eventFds.set(fd, new EventCounter(signalled));
    return fd;
  }

  eventFd(fd: number): EventFd {
    const counter = this.eventCounter(fd);
    return { signal: () => counter.signal(), watch: () => {}, release: () => {} };
  }

  /** write(2) of 1. */
  signalEventFd(fd: number): void {
    this.eventCounter(fd).signal();
  }

  /** read(2) of all that was counted. */
  readEventFd(fd: number): void {
    this.eventCounter(fd).read();
  }

  closeEventFd(fd: number): void {
    this.eventFds.delete(fd);
  }

  /** What stands behind the descriptor now; it goes on standing for that when the descriptor is closed. */
  pollable(fd: number): Pollable {
    const counter = this.eventFds.get(fd);
    if (counter) return counter;
    const file = this.file(fd);
    return {
      get readable() {
        return (file.pollMask & POLLIN) !== 0;
      },
    };
  }

  private eventCounter(fd: number): EventCounter {
    const counter = this.eventFds.get(fd);
    if (!counter) throw fail(this.files.has(fd) ? 'EINVAL' : 'EBADF', `descriptor ${fd} is not an eventfd`);
    return counter;
  }

  private freeDescriptor(): number {
    let fd = 3;
    while (this.files.has(fd) || this.eventFds.has(fd)) fd++;
    return fd;
  }
}
