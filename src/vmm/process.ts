/** The process of a VMM, inside this one: memory, descriptors, eventfds that call back. */
import { fail } from '../abi/errno.ts';
import type { ClientProcess, EventFd, OpenFile } from '../iommufd/file.ts';
import { ProcessAccount } from '../iommufd/process-account.ts';
import { ProcessBuffer } from '../memory/process-buffer.ts';
import { notMemory, type PageSource } from '../memory/process-memory.ts';

export class VmmProcess implements ClientProcess {
  readonly pid: number;
  readonly memory: ProcessBuffer;
  readonly account: ProcessAccount;
  private readonly files: Map<number, OpenFile>;
  private readonly eventFds: Map<number, () => void>;

  constructor(pid: number, memoryBytes: number) {
    this.pid = pid;
    this.memory = new ProcessBuffer(0x7000_0000_0000, memoryBytes, `process ${pid}`);
    this.account = new ProcessAccount();
    this.files = new Map();
    this.eventFds = new Map();
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

  /** An eventfd that has `signalled` called each time. */
  makeEventFd(signalled: () => void): number {
    const fd = this.freeDescriptor();
    this.eventFds.set(fd, signalled);
    return fd;
  }

  eventFd(fd: number): EventFd {
    const signal = this.eventFds.get(fd);
    if (!signal) throw fail(this.files.has(fd) ? 'EINVAL' : 'EBADF', `descriptor ${fd} is not an eventfd`);
    return { signal, watch: () => {}, release: () => {} };
  }

  private freeDescriptor(): number {
    let fd = 3;
    while (this.files.has(fd) || this.eventFds.has(fd)) fd++;
    return fd;
  }
}
