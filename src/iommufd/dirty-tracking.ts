/** IOMMU_HWPT_SET_DIRTY_TRACKING and IOMMU_HWPT_GET_DIRTY_BITMAP: what devices have written through a paging HWPT. */
import { fail } from '../abi/errno.ts';
import {
  HwptGetDirtyBitmap,
  HwptSetDirtyTracking,
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
} from '../abi/iommufd.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { Command } from './command.ts';
import { hex } from './format.ts';
import { HwptPaging } from './hwpt-paging.ts';
import { min, U64_MAX } from './u64.ts';
import { UserBitmap } from './user-bitmap.ts';

/** IOMMU_HWPT_SET_DIRTY_TRACKING */
export function hwptSetDirtyTracking(command: Command): void {
  const c = new HwptSetDirtyTracking(command.bytes);
  if (c.flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)
    throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} has bits beyond 0x1`);
  const { domain, ioas } = command.context.objects.get(c.hwptId, HwptPaging, 'hwpt_id');
  if (!domain.setDirtyTracking || !domain.dirtyTracking) throw notTracking(c.hwptId);
  // A clean start: what was written before counts for nothing.
  for (const { start, length } of c.flags ? ioas.table.areas : []) {
    if (domain.readDirty!(start, length, true, () => {})) continue;
    throw fail('EINVAL', `the memory at iova ${hex(start)} + ${hex(length)} is taken back, and not mapped`);
  }
  domain.setDirtyTracking(c.flags !== 0);
}

/** IOMMU_HWPT_GET_DIRTY_BITMAP */
export function hwptGetDirtyBitmap(command: Command): void {
  const c = new HwptGetDirtyBitmap(command.bytes);
  if (c.flags & ~IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR || c.reserved) {
    throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} has bits beyond 0x1, or __reserved ${hex(c.reserved)} is not 0`);
  }
  const { domain, ioas } = command.context.objects.get(c.hwptId, HwptPaging, 'hwpt_id');
  const { areas, alignment } = ioas.table;
  // A kernel wraps length - 1 when length is 0, and so do we.
  const last = c.iova + BigInt.asUintN(64, c.length - 1n);
  if (last > U64_MAX) throw fail('EOVERFLOW', `iova ${hex(c.iova)} + length ${hex(c.length)} overflows 64 bits`);
  const end = BigInt.asUintN(64, last + 1n);
  if ((c.iova | end) & (alignment - 1n)) {
    throw fail('EINVAL', `iova ${hex(c.iova)} and its end ${hex(end)} are not aligned to ${hex(alignment)}`);
  }
  if (!c.pageSize || (c.iova | end) & (c.pageSize - 1n)) {
    throw fail('EINVAL', `iova ${hex(c.iova)} and its end ${hex(end)} are not aligned to page_size ${hex(c.pageSize)}`);
  }
  if (!domain.readDirty || !domain.dirtyTracking) throw notTracking(c.hwptId);

  mayFail('a bitmap');
  const bitmap = new UserBitmap(command.caller.memory, c.data);
  const shift = lowestBit(c.pageSize);
  const clear = c.flags === 0;
  // Up to the first IOVA that is not mapped; a kernel tells nothing about that.
  for (let at = c.iova, area = areas.at(at); area && at <= last; area = areas.at(at)) {
    const stop = min(area.last, last);
    const whole = domain.readDirty(at, stop - at + 1n, clear, (iova, length) => {
      const from = iova - c.iova;
      bitmap.set(Number(from >> shift), Number((from + length - 1n) >> shift));
    });
    if (!whole) break;
    at = stop + 1n;
  }
  bitmap.flush();
}

const notTracking = (id: number): Error =>
  fail('EOPNOTSUPP', `HWPT ${id} was not allocated with IOMMU_HWPT_ALLOC_DIRTY_TRACKING`);

const lowestBit = (value: bigint): bigint => BigInt((value & -value).toString(2).length - 1);
