/** What tests need around an iommufd: a process with some memory, and a program that makes ioctls from it. */
import { DEFAULT_DIALECT, dialect } from '../abi/dialects.ts';
import { ERRNO, Errno, type ErrnoName, fail } from '../abi/errno.ts';
import { HwptAlloc, IOMMU_HWPT_ALLOC, IOMMU_IOAS_ALLOC, IOMMU_IOAS_MAP, IoasAlloc, IoasMap } from '../abi/iommufd.ts';
import { withTestCommand } from '../abi/mock-dialect.ts';
import type { AnyStruct } from '../abi/struct.ts';
import type { MockIommu } from '../drivers/mock/mock-iommu.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { PinnedMemory } from '../memory/pinned-memory.ts';
import { ProcessBuffer } from '../memory/process-buffer.ts';
import { type MemoryRun, notMemory, ownPages, type PageSource } from '../memory/process-memory.ts';
import { SILENT, type TraceEvent, type Tracer } from '../trace/events.ts';
import { IommufdContext, type IommufdHost } from './context.ts';
import type { ClientProcess, EventFd, OpenFile } from './file.ts';
import { ProcessAccount } from './process-account.ts';
import { testCommand } from './test-command/test-command.ts';

/** Memory of a process in one buffer: readable and writable, but for what protect() has taken. */
export class BufferMemory extends ProcessBuffer {
  private readOnly: [number, number];

  constructor(base = 0x20_0000_0000, size = 2 ** 20, name = 'test process') {
    super(base, size, name);
    this.readOnly = [0, 0];
  }

  /** Makes [address, address + length) read-only, and nothing else. */
  protect(address: number, length: number): void {
    this.readOnly = [address, address + length];
  }

  override write(address: number, from: Uint8Array): boolean {
    return !this.isReadOnly(address, from.length) && super.write(address, from);
  }

  override resolve(address: number, length: number, writable: boolean): readonly MemoryRun[] | null {
    return writable && this.isReadOnly(address, length) ? null : super.resolve(address, length, writable);
  }

  private isReadOnly(address: number, length: number): boolean {
    return address < this.readOnly[1] && address + length > this.readOnly[0];
  }
}

/** A file of 16 pages that counts its holders. */
export class FakeFile implements PageSource {
  readonly name = 'a memfd';
  readonly bytes = new Uint8Array(16 * 4096);
  holders = 0;

  read(offset: number, into: Uint8Array): boolean {
    into.set(this.bytes.subarray(offset, offset + into.length));
    return true;
  }

  write(offset: number, from: Uint8Array): boolean {
    this.bytes.set(from, offset);
    return true;
  }

  resolve(offset: number, length: number): readonly MemoryRun[] | null {
    return offset + length <= this.bytes.length ? ownPages(this, offset, length) : null;
  }

  hold(): void {
    this.holders++;
  }

  drop(): void {
    this.holders--;
  }
}

/** Its lowest 16 pages are the file, mapped shared. */
export class SharingMemory extends BufferMemory {
  readonly file: FakeFile;

  constructor(file: FakeFile) {
    super();
    this.file = file;
  }

  override resolve(address: number, length: number, writable: boolean): readonly MemoryRun[] | null {
    const offset = address - this.base;
    return this.file.resolve(offset, length) ?? super.resolve(address, length, writable);
  }
}

/** Of a process without capabilities. */
export class LimitedAccount extends ProcessAccount {
  private readonly limit: number;

  constructor(limitPages: number, user = { lockedPages: 0 }) {
    super(user);
    this.limit = limitPages;
  }

  override get limitPages(): number {
    return this.limit;
  }

  override capable(): boolean {
    return false;
  }
}

/** A process inside this one. */
export class TestProcess implements ClientProcess {
  readonly pid: number;
  readonly memory: BufferMemory;
  account: ProcessAccount;
  readonly files: Map<number, OpenFile>;
  /** Descriptors of files that are not ours. */
  readonly memoryFiles: Map<number, PageSource>;
  /** Replaces openFd(): for processes that die, or have no descriptor left. */
  onOpen: ((file: OpenFile) => number | Promise<number>) | null;

  constructor(memory = new BufferMemory(), pid = 42, account = new ProcessAccount()) {
    this.pid = pid;
    this.memory = memory;
    this.account = account;
    this.files = new Map();
    this.memoryFiles = new Map();
    this.onOpen = null;
  }

  fileOf(fd: number): OpenFile | null {
    return this.files.get(fd) ?? null;
  }

  memoryFile(fd: number): PageSource | null {
    const ours = this.files.get(fd);
    return ours ? notMemory(ours.kind) : (this.memoryFiles.get(fd) ?? null);
  }

  eventFd(fd: number): EventFd {
    throw fail('EBADF', `descriptor ${fd} is not an eventfd`);
  }

  openFd(file: OpenFile): number | Promise<number> {
    if (this.onOpen) return this.onOpen(file);
    let fd = 3;
    while (this.files.has(fd)) fd++;
    this.files.set(fd, file);
    return fd;
  }

  /** close(2): every file here has one descriptor. */
  closeFd(fd: number): void {
    const file = this.files.get(fd);
    this.files.delete(fd);
    file?.release();
  }
}

/** Keeps every event. */
export class RecordingTracer implements Tracer {
  readonly on = true;
  readonly events: TraceEvent[] = [];

  emit(event: TraceEvent): void {
    this.events.push(event);
  }
}

type Values = Record<string, number | bigint>;

export interface ProgramOptions {
  readonly abi?: string;
  readonly tracer?: Tracer;
  readonly oneViommuPerPiommu?: boolean;
  readonly fragmentSeed?: number;
  readonly slots?: number;
  readonly memory?: BufferMemory;
  /** With the mock driver. */
  readonly mock?: MockIommu;
}

/** A program that has opened /dev/iommu. Structs are at the end of its memory. */
export class Program {
  readonly process: TestProcess;
  readonly pinned: PinnedMemory;
  readonly context: IommufdContext;
  /** Where the struct of the next call is. */
  readonly scratch: number;

  constructor(options: ProgramOptions = {}) {
    this.process = new TestProcess(options.memory);
    const { fragmentSeed } = options;
    const window = {
      firstSlot: 8,
      slots: options.slots ?? 64,
      ...(fragmentSeed === undefined ? {} : { fragmentSeed }),
    };
    this.pinned = new PinnedMemory(new PhysicalMemory(), window);
    const host: IommufdHost = {
      pinned: this.pinned,
      tracer: options.tracer ?? SILENT,
      oneViommuPerPiommu: options.oneViommuPerPiommu ?? false,
    };
    const spoken = dialect(options.abi ?? DEFAULT_DIALECT);
    const { mock } = options;
    this.context = mock
      ? new IommufdContext({ dialect: withTestCommand(spoken), host: { ...host, testCommand: testCommand(mock) } })
      : new IommufdContext({ dialect: spoken, host });
    const { base, bytes } = this.process.memory;
    this.scratch = base + bytes.length - 4096;
  }

  /** First address of its memory: page-aligned, and free up to the last page. */
  get base(): bigint {
    return BigInt(this.process.memory.base);
  }

  /** Puts bytes into memory, and gives their address. */
  put(bytes: Uint8Array, offset = 0x800): bigint {
    this.process.memory.write(this.scratch + offset, bytes);
    return BigInt(this.scratch + offset);
  }

  /** Makes an ioctl with the struct's own size (or `values.size`) and gives the struct as it is afterwards. */
  ioctl<S extends AnyStruct>(command: number, layout: S, values: Values): { result: number; s: InstanceType<S> } {
    const s = new layout();
    Object.assign(s, { size: layout.size, ...values });
    this.process.memory.write(this.scratch, s.bytes);
    const result = errnoOf(() => this.context.ioctl(this.process, command, BigInt(this.scratch)) as number);
    this.process.memory.read(this.scratch, s.bytes);
    return { result, s: s as InstanceType<S> };
  }

  /** The ioctl must succeed. */
  ok<S extends AnyStruct>(command: number, layout: S, values: Values = {}): InstanceType<S> {
    const { result, s } = this.ioctl(command, layout, values);
    if (result < 0) throw new Error(`${layout.structName} is refused: ${errnoName(result)}`);
    return s;
  }

  /** The name of the errno with which the ioctl is refused; '' when it is not. */
  err<S extends AnyStruct>(command: number, layout: S, values: Values = {}): ErrnoName | '' {
    return errnoName(this.ioctl(command, layout, values).result);
  }

  /** For ioctls that open a descriptor. */
  async okAsync<S extends AnyStruct>(command: number, layout: S, values: Values): Promise<InstanceType<S>> {
    const s = new layout();
    Object.assign(s, { size: layout.size, ...values });
    this.process.memory.write(this.scratch, s.bytes);
    await this.context.ioctl(this.process, command, BigInt(this.scratch));
    this.process.memory.read(this.scratch, s.bytes);
    return s as InstanceType<S>;
  }

  ioas(): number {
    return this.ok(IOMMU_IOAS_ALLOC, IoasAlloc).outIoasId;
  }

  /** Maps at a fixed IOVA, readable and writable; `offset` into the program's memory. */
  map(ioasId: number, iova: bigint, length: bigint, offset = 0n): void {
    this.ok(IOMMU_IOAS_MAP, IoasMap, { flags: 7, ioasId, userVa: this.base + offset, length, iova });
  }

  hwpt(devId: number, ptId: number, flags = 0): number {
    return this.ok(IOMMU_HWPT_ALLOC, HwptAlloc, { devId, ptId, flags }).outHwptId;
  }

  close(): void {
    this.context.release();
  }
}

/** What the call returns, or the negative errno. */
export function errnoOf(call: () => number): number {
  try {
    return call();
  } catch (error) {
    if (error instanceof Errno) return -error.errno;
    throw error;
  }
}

export function errnoName(result: number): ErrnoName | '' {
  const entry = Object.entries(ERRNO).find(([, value]) => value === -result);
  return entry ? (entry[0] as ErrnoName) : '';
}
