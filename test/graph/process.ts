/** A process of the test: memory in which every page has its own contents, files, an account. */
import type { OpenFile } from '../../src/iommufd/file.ts';
import { ProcessAccount } from '../../src/iommufd/process-account.ts';
import { BufferMemory, FakeFile, TestProcess } from '../../src/iommufd/testing.ts';
import type { MemoryRun } from '../../src/memory/process-memory.ts';
import { GuestImage, IMAGE_PAGES } from './guest-image.ts';

const MIB = 2 ** 20;
const PAGE = 4096;
export const MEMORY_BYTES = 4 * MIB;
const SCRATCH_BYTES = 2 * PAGE;
const IMAGE_AT = MEMORY_BYTES + SCRATCH_BYTES;
const IMAGE_BYTES = IMAGE_PAGES * PAGE;

/** Every page of the test begins with a number of its own. */
let marks = 0;

function mark(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += PAGE) view.setBigUint64(at, BigInt(++marks), true);
}

class MarkedMemory extends BufferMemory {
  gone = false;
  readonly image: GuestImage;

  constructor(pid: number) {
    super(0x7000_0000_0000 + pid * 2 ** 32, IMAGE_AT + IMAGE_BYTES, `process ${pid}`);
    mark(this.bytes);
    this.image = new GuestImage(this.bytes.subarray(IMAGE_AT));
  }

  override read(address: number, into: Uint8Array): boolean {
    return !this.gone && super.read(address, into);
  }

  override write(address: number, from: Uint8Array): boolean {
    return !this.gone && super.write(address, from);
  }

  override resolve(address: number, length: number, writable: boolean): readonly MemoryRun[] | null {
    return this.gone ? null : super.resolve(address, length, writable);
  }
}

class LimitedAccount extends ProcessAccount {
  private readonly limit: number;

  constructor(limit: number, user: { lockedPages: number }) {
    super(user);
    this.limit = limit;
  }

  override capable(): boolean {
    return this.limit === Infinity;
  }

  override get limitPages(): number {
    return this.limit;
  }
}

export class GraphProcess extends TestProcess {
  declare readonly memory: MarkedMemory;
  readonly limit: number;

  /** @param limit of pinned pages; Infinity: it has every capability */
  constructor(pid: number, limit: number, user: { lockedPages: number }) {
    super(new MarkedMemory(pid), pid, new LimitedAccount(limit, user));
    this.limit = limit;
  }

  get base(): bigint {
    return BigInt(this.memory.base);
  }

  /** Where a guest of the process has its tables. */
  get imageBase(): number {
    return this.memory.base + IMAGE_AT;
  }

  /** Where the struct of a call is; its data comes PAGE bytes behind. */
  get scratch(): number {
    return this.memory.base + MEMORY_BYTES;
  }

  /** Puts the data of a call into memory. */
  put(bytes: Uint8Array): bigint {
    this.memory.write(this.scratch + PAGE, bytes);
    return BigInt(this.scratch + PAGE);
  }

  get(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.memory.read(this.scratch + PAGE, bytes);
    return bytes;
  }

  /** The descriptor of a file that was given to it just now. */
  fdOf(file: OpenFile): number {
    for (const [fd, open] of this.files) if (open === file) return fd;
    throw new Error(`${file.kind} is not open in process ${this.pid}`);
  }
}

/** A memfd of 16 pages, and how many hold it. */
export class MarkedFile extends FakeFile {
  constructor() {
    super();
    mark(this.bytes);
  }
}
