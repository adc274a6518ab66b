/** IOMMU_IOAS_MAP_FILE: maps a dma-buf. Files of the program's own (memfds) are refused: EOPNOTSUPP. */
import { fail } from '../abi/errno.ts';
import { IoasMapFile } from '../abi/iommufd.ts';
import { PROT_WRITE } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import { DmaBufFile } from './dma-buf.ts';
import { hex } from './format.ts';
import { Ioas, mapFlags } from './ioas.ts';
import { PAGE_BYTES, Pages, type Piece } from './pages.ts';
import { U64_MAX } from './u64.ts';

export function ioasMapFile(command: Command): void {
  const c = new IoasMapFile(command.bytes);
  const { prot, fixed } = mapFlags(c.flags, c.iova, c.length);
  const { table } = command.context.objects.get(c.ioasId, Ioas, 'ioas_id');
  if (c.length === 0n) throw fail('EINVAL', 'length is 0');
  if (c.start + c.length - 1n > U64_MAX) {
    throw fail('EOVERFLOW', `start ${hex(c.start)} + length ${hex(c.length)} overflows 64 bits`);
  }
  const piece = dmaBufPiece(command, c.fd, c.start, c.length, (prot & PROT_WRITE) !== 0);
  c.iova = table.map([piece], fixed ? c.iova : null, prot);
  command.respond();
}

function dmaBufPiece(command: Command, fd: number, start: bigint, length: bigint, writable: boolean): Piece {
  const file = command.caller.fileOf(fd);
  if (!file) throw fail('EOPNOTSUPP', `fd ${fd} is not a dma-buf: other files cannot be mapped`);
  if (!(file instanceof DmaBufFile) || !command.context.dialect.behaviour.mapFileDmabuf) {
    throw fail('EINVAL', `fd ${fd} is a ${file.kind}, which has no memory to map`);
  }
  const { buffer } = file;
  if (start + length > BigInt(buffer.length)) {
    throw fail(
      'EINVAL',
      `start ${hex(start)} + length ${hex(length)} is beyond the ${hex(buffer.length)} of the dma-buf`,
    );
  }
  const startByte = start % PAGE_BYTES;
  const pages = new Pages(command.context.host.pinned, buffer, start - startByte, writable, true);
  buffer.import(pages);
  return { pages, startByte, length };
}
