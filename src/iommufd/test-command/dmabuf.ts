/** DMABUF_GET and DMABUF_REVOKE: dma-bufs of nobody's device. */
import { fail } from '../../abi/errno.ts';
import { TestDmabufGet, TestDmabufRevoke } from '../../abi/iommufd-test.ts';
import { mayFail } from '../../drivers/failure-points.ts';
import { ownPages, type PageSource } from '../../memory/process-memory.ts';
import { DmaBuf, DmaBufFile } from '../dma-buf.ts';
import type { Operation } from './test-command.ts';

const PAGE = 4096;
const MOST_PAGES = 512;

/** Memory of the kernel's. */
export class KernelMemory implements PageSource {
  readonly name: string;
  private readonly bytes: Uint8Array;

  constructor(length: number) {
    this.name = 'dma-buf';
    this.bytes = new Uint8Array(length);
  }

  read(address: number, into: Uint8Array): boolean {
    if (!this.has(address, into.length)) return false;
    into.set(this.bytes.subarray(address, address + into.length));
    return true;
  }

  write(address: number, from: Uint8Array): boolean {
    if (!this.has(address, from.length)) return false;
    this.bytes.set(from, address);
    return true;
  }

  resolve(address: number, length: number) {
    return this.has(address, length) ? ownPages(this, address, length) : null;
  }

  private has(address: number, length: number): boolean {
    return address + length <= this.bytes.length;
  }
}

/** The descriptor is what the ioctl returns. */
export const dmabufGet: Operation = async (command, _cmd, payload) => {
  const { length, openFlags } = new TestDmabufGet(payload);
  const pages = Math.ceil(length / PAGE);
  if (pages === 0 || pages > MOST_PAGES)
    throw fail('EINVAL', `length ${length} is not between 1 and ${MOST_PAGES * PAGE}`);
  mayFail('a dma-buf');
  const buffer = new DmaBuf({ length: pages * PAGE, memory: new KernelMemory(pages * PAGE) });
  command.result = await command.caller.openFd(new DmaBufFile(buffer), openFlags);
};

export const dmabufRevoke: Operation = ({ caller }, _cmd, payload) => {
  const { dmabufFd, revoked } = new TestDmabufRevoke(payload);
  const file = caller.fileOf(dmabufFd);
  if (!file) throw fail('EBADF', `descriptor ${dmabufFd} is not open`);
  if (!(file instanceof DmaBufFile)) throw fail('EINVAL', `descriptor ${dmabufFd} is a ${file.kind}`);
  file.buffer.setRevoked(revoked !== 0);
};
