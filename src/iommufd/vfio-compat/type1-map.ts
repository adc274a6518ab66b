/** VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA. */
import { fail } from '../../abi/errno.ts';
import * as vfio from '../../abi/vfio-type1.ts';
import { PROT_READ, PROT_WRITE } from '../../drivers/iommu-driver.ts';
import type { ProcessMemory } from '../../memory/process-memory.ts';
import type { IommufdContext } from '../context.ts';
import type { ClientProcess } from '../file.ts';
import { hex } from '../format.ts';
import type { IoPageTable } from '../io-pagetable.ts';
import { readUser, writeUser } from '../user-memory.ts';
import { userPiece } from '../user-piece.ts';
import { compatIoas } from './compat-ioas.ts';
import { registerPiece } from './register-pages.ts';

export function mapDma(context: IommufdContext, caller: ClientProcess, address: bigint): number {
  const map = new vfio.Type1DmaMap();
  readUser(caller.memory, address, map.bytes);
  checkHeader(map, vfio.Type1DmaMap.size, vfio.VFIO_DMA_MAP_FLAG_READ | vfio.VFIO_DMA_MAP_FLAG_WRITE);
  const readable = map.flags & vfio.VFIO_DMA_MAP_FLAG_READ ? PROT_READ : 0;
  const writable = map.flags & vfio.VFIO_DMA_MAP_FLAG_WRITE ? PROT_WRITE : 0;
  const { table } = compatIoas(context);
  const registers = context.isContainer ? registerPiece(context, caller, map.vaddr, map.size) : null;
  const piece = registers ?? userPiece(context, caller, map.vaddr, map.size, writable !== 0);
  table.mapNew(piece, map.iova, readable | writable);
  return 0;
}

/** The bytes that were unmapped are told even when the rest is refused. */
export function unmapDma(context: IommufdContext, memory: ProcessMemory, address: bigint): number {
  const unmap = new vfio.Type1DmaUnmap();
  readUser(memory, address, unmap.bytes);
  checkHeader(unmap, vfio.Type1DmaUnmap.size, vfio.VFIO_DMA_UNMAP_FLAG_ALL);
  const { table } = compatIoas(context);
  const { iova, size, flags } = unmap;
  const all = (flags & vfio.VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
  if (all && (iova || size)) throw fail('EINVAL', `iova ${hex(iova)} and size ${hex(size)} must be 0 to unmap all`);
  if (!all && !table.hugePages) cutAround(table, iova, size);
  let unmapped = 0n;
  const gone = (bytes: bigint): void => {
    unmapped += bytes;
  };
  try {
    if (all) table.unmapAll(gone);
    else table.unmap(iova, size, gone);
  } finally {
    unmap.size = unmapped;
    writeUser(memory, address, unmap.bytes);
  }
  if (!all && unmapped === 0n && !context.dialect.behaviour.type1UnmapsNothing) {
    throw fail('ENOENT', `nothing is mapped in the ${hex(size)} bytes from ${hex(iova)}`);
  }
  return 0;
}

function cutAround(table: IoPageTable, iova: bigint, size: bigint): void {
  table.cut(BigInt.asUintN(64, iova + size - 1n));
  if (iova) table.cut(iova - 1n);
}

function checkHeader({ argsz, flags }: { argsz: number; flags: number }, size: number, known: number): void {
  if (argsz < size) throw fail('EINVAL', `argsz ${argsz} is less than ${size}`);
  if (flags & ~known) throw fail('EINVAL', `flags ${hex(flags)} has bits beyond ${hex(known)}`);
}
