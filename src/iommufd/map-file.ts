/** IOMMU_IOAS_MAP_FILE: maps a file that is memory (memfd, tmpfs, hugetlb), or a dma-buf. */
import { fail } from '../abi/errno.ts';
import { IoasMapFile } from '../abi/iommufd.ts';
import { PROT_WRITE } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import { DmaBufFile } from './dma-buf.ts';
import { hex } from './format.ts';
import { Ioas, mapFlags } from './ioas.ts';
import { type Piece, pieceOf } from './pages.ts';
import { U64_MAX } from './u64.ts';

export function ioasMapFile(command: Command): void {
  const c = new IoasMapFile(command.bytes);
  const { prot, fixed } = mapFlags(c.flags, c.iova, c.length);
  const { table } = command.context.objects.get(c.ioasId, Ioas, 'ioas_id');
  if (c.length === 0n) throw fail('EINVAL', 'length is 0');
  if (c.start + c.length - 1n > U64_MAX) {
    throw fail('EOVERFLOW', `start ${hex(c.start)} + length ${hex(c.length)} overflows 64 bits`);
  }
  const piece = filePiece(command, c.fd, c.start, c.length, (prot & PROT_WRITE) !== 0);
  c.iova = table.mapNew(piece, fixed ? c.iova : null, prot);
  command.respond();
}

function filePiece(command: Command, fd: number, start: bigint, length: bigint, writable: boolean): Piece {
  const { context, caller } = command;
  const { pinned } = context.host;
  const ours = caller.fileOf(fd);
  if (ours instanceof DmaBufFile && context.dialect.behaviour.mapFileDmabuf) {
    return ours.buffer.piece(pinned, start, length, writable);
  }
  const source = caller.memoryFile(fd);
  if (!source) throw fail('EBADF', `fd ${fd} is not open`);
  return pieceOf({ pinned, kind: 'file', source, writable, charge: context.charge(caller) }, start, length);
}
