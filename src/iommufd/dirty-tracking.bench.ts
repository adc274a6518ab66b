/** GET_DIRTY_BITMAP of 1 TiB, a bit for each 4 KiB, by the leaves that the domain has and how much of it is dirty. */
import { describe, sampled } from '../../bench/harness.ts';
import { Mapper } from '../../bench/mapper.ts';
import {
  HwptGetDirtyBitmap,
  HwptSetDirtyTracking,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
} from '../abi/iommufd.ts';

const TIB = 2 ** 40;
const ROUNDS = 12;

/** A TiB behind `leaf`-sized leaves: the memory is as far off its alignment as keeps larger ones away. */
function tracked(leaf: number): Mapper {
  const mapper = new Mapper('one-smmu', IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
  for (let at = 0; at < TIB; at += 2 ** 36) mapper.map(TIB + at + leaf, 2 ** 36, 2 * TIB + 2 * at);
  mapper.call(IOMMU_HWPT_SET_DIRTY_TRACKING, HwptSetDirtyTracking, { flags: 1, hwptId: mapper.hwptId });
  return mapper;
}

for (const [name, leaf] of [
  ['1 GiB', 2 ** 30],
  ['2 MiB', 2 ** 21],
] as const) {
  describe(`a dirty bitmap of 1 TiB, leaves of ${name}`, () => {
    const mapper = tracked(leaf);
    const read = (flags: number): number => {
      const start = performance.now();
      mapper.call(IOMMU_HWPT_GET_DIRTY_BITMAP, HwptGetDirtyBitmap, {
        hwptId: mapper.hwptId,
        flags,
        iova: BigInt(TIB + leaf),
        length: BigInt(TIB),
        pageSize: 0x1000n,
        data: BigInt(mapper.bitmap),
      });
      return performance.now() - start;
    };
    const rounds = (flags: number): number[] => Array.from({ length: ROUNDS }, () => read(flags));
    sampled('clean', rounds(0));
    mapper.write(TIB + leaf, TIB, leaf);
    sampled('all of it dirty', rounds(IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR));
    mapper.close();
  });
}
