/** Descriptors that an ioctl opens in the process that calls. */
import { mayFail } from '../drivers/failure-points.ts';
import type { ClientProcess, OpenFile } from './file.ts';

/** O_CLOEXEC: so that a child program does not inherit the descriptor. */
const O_CLOEXEC = 0o2000000;

/**
 * Opens a descriptor for `file`, with O_CLOEXEC unless `flags` are given and lack it. Without `answered` (it writes the
 * descriptor's number to the caller) there is none, and the file is released.
 */
export async function openDescriptor(
  caller: ClientProcess,
  file: OpenFile,
  answered: (fd: number) => void,
  flags = O_CLOEXEC,
): Promise<void> {
  try {
    mayFail('a file');
    const fd = await caller.openFd(file, flags & O_CLOEXEC);
    try {
      answered(fd);
    } catch (error) {
      await caller.closeFd(fd);
      throw error;
    }
  } catch (error) {
    file.release();
    throw error;
  }
}
