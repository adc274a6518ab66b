/** The VFIO type 1 ioctls on an iommufd, and which IOAS they are about. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio-type1.ts';
import { type Command, caller, hex, target } from './command.ts';
import { IOVAS, mapPlan, userPiece } from './ioas-commands.ts';
import { alignmentOf, byteOf, insert, lengthOf, overlap, realign, take, unmapped } from './mapping-rules.ts';
import { type Area, type Context, type Ioas, PAGE, U64_LAST } from './model.ts';

const LENGTHS = [1n, 2n, 4n, 8n].map((pages) => pages * PAGE);

export const vfioIoas: Command = (world, pick) => {
  const by = caller(world, pick);
  const meant = by && target(by.context, pick, 'ioas');
  if (!meant) return null;
  const { context, process } = by;
  const op = pick.from([1, 1, 1, 0, 2]);
  const expected = op === 1 && !meant.thing ? 'ENOENT' : op === 0 && !context.vfioIoas ? 'ENODEV' : '';
  return {
    text: `VFIO_IOAS ${['GET', 'SET', 'CLEAR'][op]} ${meant.id}`,
    expected,
    undone: true,
    call: async () => {
      const values = { op, ioasId: meant.id };
      const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_VFIO_IOAS, uapi.VfioIoas, values);
      const id = context.vfioIoas?.id;
      if (!errno && op === 0 && s.ioasId !== id) throw new Error(`the IOAS is ${s.ioasId}, not ${id}`);
      return errno;
    },
    apply: () => {
      if (op === 1) context.vfioIoas = meant.thing;
      if (op === 2) context.vfioIoas = null;
    },
  };
};

/** Version 1 unmaps parts, so it can have no huge pages. */
export const setIommu: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by) return null;
  const { context, process } = by;
  const ioas = context.vfioIoas;
  if (!ioas && !pick.oneIn(4)) return null;
  const type = pick.from([vfio.VFIO_TYPE1v2_IOMMU, vfio.VFIO_TYPE1_IOMMU]);
  let expected: ErrnoName | '' = ioas ? '' : 'ENODEV';
  if (ioas?.huge && type === vfio.VFIO_TYPE1_IOMMU) {
    if (context.hwptsOf(ioas).length && ioas.areas.length) expected = 'EINVAL';
    else if (alignmentOf(context, ioas) < PAGE) expected = realign(ioas, PAGE);
  }
  return {
    text: `VFIO_SET_IOMMU ${type}`,
    expected,
    undone: true,
    call: () => world.errnoOf(() => context.engine.ioctl(process, vfio.VFIO_SET_IOMMU, BigInt(type))),
    apply: () => {
      if (type === vfio.VFIO_TYPE1_IOMMU) ioas!.huge = false;
    },
  };
};

export const type1Map: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by?.context.vfioIoas;
  if (!by || !ioas || world.filesOnly) return null;
  const { context, process } = by;
  const iova = pick.from(IOVAS);
  const length = pick.from(LENGTHS);
  const piece = userPiece(by, pick, length);
  const prot = 3;
  const text = `VFIO_IOMMU_MAP_DMA ${hex(length)} at ${hex(iova)} in IOAS ${ioas.id}`;
  return mapPlan(world, by, ioas, [piece], { fixed: iova, address: piece.address, prot }, text, async () => {
    const values = { flags: 3, vaddr: piece.address, iova, size: length };
    const { errno } = await world.ioctl(process, context.engine, vfio.VFIO_IOMMU_MAP_DMA, vfio.Type1DmaMap, values);
    return { errno, iova };
  });
};

/** Cuts the area around `last` in two, or says why not. */
function cut(context: Context, ioas: Ioas, last: bigint): ErrnoName | '' {
  const area = ioas.areas.find((each) => last >= each.start && last <= each.last);
  if (!area || last === area.start || last === area.last) return '';
  if (area.memory.kind === 'dma-buf') return 'EOPNOTSUPP';
  const alignment = alignmentOf(context, ioas);
  if ((last + 1n) % alignment || byteOf(area, last + 1n) % alignment) return 'EINVAL';
  if (context.accessesOf(ioas).some(({ items }) => items.some((item) => overlap(item, area)))) return 'EINVAL';
  if (context.hwptsOf(ioas).length && ioas.huge) return 'EINVAL';
  const { memory, prot, start } = area;
  const parts: Area[] = [
    { start, last, memory, prot, startByte: area.startByte },
    { start: last + 1n, last: area.last, memory, prot, startByte: byteOf(area, last + 1n) },
  ];
  ioas.areas = ioas.areas.filter((each) => each !== area);
  insert(ioas, parts);
  return '';
}

export const type1Unmap: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by?.context.vfioIoas;
  const area = ioas && pick.of(ioas.areas);
  if (!by || !area) return null;
  const { context, process } = by;
  const all = pick.oneIn(8);
  const inside = BigInt(pick.below(3)) * PAGE;
  const start = area.start + (inside < lengthOf(area) ? inside : 0n);
  const size = pick.oneIn(2) ? area.last - start + 1n : BigInt(1 + pick.below(4)) * PAGE;
  const span = all ? { start: 0n, last: U64_LAST } : { start, last: start + size - 1n };
  // The areas as the cuts leave them, also those before one that is refused.
  const before = ioas.areas;
  let expected: ErrnoName | '' = '';
  if (!all && !ioas.huge) expected = cut(context, ioas, span.last) || cut(context, ioas, span.start - 1n);
  const areas = ioas.areas;
  const result = expected ? { gone: [], errno: expected } : unmapped(context, ioas, span);
  ioas.areas = before;
  const happen = () => {
    ioas.areas = areas;
    take(context, ioas, result.gone);
  };
  return {
    text: `VFIO_IOMMU_UNMAP_DMA ${hex(span.start)} to ${hex(span.last)} of IOAS ${ioas.id}`,
    expected: result.errno,
    call: async () => {
      const { VFIO_IOMMU_UNMAP_DMA: number, Type1DmaUnmap: layout } = vfio;
      const values = all ? { flags: vfio.VFIO_DMA_UNMAP_FLAG_ALL } : { iova: start, size };
      return (await world.ioctl(process, context.engine, number, layout, values)).errno;
    },
    apply: happen,
    refused: happen,
  };
};
