/** DMABUF_GET and DMABUF_REVOKE: dma-bufs of nobody's device. */
import { fail } from '../../abi/errno.ts';
import { TestDmabufGet, TestDmabufRevoke } from '../../abi/iommufd-test.ts';
import { mayFail } from '../../drivers/failure-points.ts';
import { DmaBuf, DmaBufFile } from '../dma-buf.ts';
import type { Operation } from './test-command.ts';

const PAGE = 4096;
const MOST_PAGES = 512;

/** The descriptor is what the ioctl returns. */
export const dmabufGet: Operation = async (command, _cmd, payload) => {
  const { length, openFlags } = new TestDmabufGet(payload);
  const pages = Math.ceil(length / PAGE);
  if (pages === 0 || pages > MOST_PAGES)
    throw fail('EINVAL', `length ${length} is not between 1 and ${MOST_PAGES * PAGE}`);
  mayFail('a dma-buf');
  command.result = await command.caller.openFd(new DmaBufFile(new DmaBuf(pages * PAGE)), openFlags);
};

export const dmabufRevoke: Operation = ({ caller }, _cmd, payload) => {
  const { dmabufFd, revoked } = new TestDmabufRevoke(payload);
  const file = caller.fileOf(dmabufFd);
  if (!file) throw fail('EBADF', `descriptor ${dmabufFd} is not open`);
  if (!(file instanceof DmaBufFile)) throw fail('EINVAL', `descriptor ${dmabufFd} is a ${file.kind}`);
  file.buffer.setRevoked(revoked !== 0);
};
