/** The ioctls of VFIO groups and containers as tables, by their whole number. They are the same in every release. */
import type { CommandLayout } from './dialects.ts';
import type { AnyStruct } from './struct.ts';
import * as group from './vfio-group.ts';
import * as type1 from './vfio-type1.ts';

type Commands = ReadonlyMap<number, CommandLayout>;

const commands = (entries: Readonly<Record<string, readonly [number, AnyStruct | null]>>): Commands =>
  new Map(
    Object.entries(entries).map(([name, [command, struct]]) => {
      const size = struct?.size ?? 0;
      return [command, { nr: command & 0xff, command, name, struct, minimumSize: size, size }];
    }),
  );

/** Of /dev/vfio/N. */
export const GROUP_COMMANDS = commands({
  VFIO_GROUP_GET_STATUS: [group.VFIO_GROUP_GET_STATUS, group.GroupStatus],
  VFIO_GROUP_SET_CONTAINER: [group.VFIO_GROUP_SET_CONTAINER, null],
  VFIO_GROUP_UNSET_CONTAINER: [group.VFIO_GROUP_UNSET_CONTAINER, null],
  VFIO_GROUP_GET_DEVICE_FD: [group.VFIO_GROUP_GET_DEVICE_FD, null],
});

/** Of /dev/vfio/vfio, and of /dev/iommu for compatibility. */
export const TYPE1_COMMANDS = commands({
  VFIO_GET_API_VERSION: [type1.VFIO_GET_API_VERSION, null],
  VFIO_CHECK_EXTENSION: [type1.VFIO_CHECK_EXTENSION, null],
  VFIO_SET_IOMMU: [type1.VFIO_SET_IOMMU, null],
  VFIO_IOMMU_GET_INFO: [type1.VFIO_IOMMU_GET_INFO, type1.Type1Info],
  VFIO_IOMMU_MAP_DMA: [type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap],
  VFIO_IOMMU_UNMAP_DMA: [type1.VFIO_IOMMU_UNMAP_DMA, type1.Type1DmaUnmap],
});
