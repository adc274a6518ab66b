/** vIOMMU, vDEVICE and HW queue. */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { struct, u32, u64 } from './struct.ts';

export const IOMMU_VIOMMU_ALLOC = io(IOMMUFD_TYPE, 0x90);

/** Refused: kept for the future. The dialect viommu-v2 gives 0 and 1 other meanings. */
export const IOMMU_VIOMMU_TYPE_DEFAULT = 0;
export const IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1;
export const IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2;
export const viommuTypes = {
  IOMMU_VIOMMU_TYPE_DEFAULT,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
} as const;

/** hwpt_id names the nesting parent; the vIOMMU is a slice of the pIOMMU behind dev_id. */
export const ViommuAlloc = struct('iommu_viommu_alloc', 40, {
  size: u32(0),
  flags: u32(4, 'hex'),
  type: u32(8, { names: viommuTypes }),
  devId: u32(12, 'id'),
  hwptId: u32(16, 'id'),
  outViommuId: u32(20, 'id'),
  dataLen: u32(24, 'length'),
  reserved: u32(28),
  dataUptr: u64(32, 'address'),
});

/** Data of IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: what to give mmap() for page 0 of the virtual interface. */
export const ViommuTegra241Cmdqv = struct('iommu_viommu_tegra241_cmdqv', 16, {
  outVintfMmapOffset: u64(0, 'hex'),
  outVintfMmapLength: u64(8, 'length'),
});

export const IOMMU_VDEVICE_ALLOC = io(IOMMUFD_TYPE, 0x91);

/** virt_id: virtual StreamID on SMMU, RID on VT-d, DeviceID on AMD. */
export const VdeviceAlloc = struct('iommu_vdevice_alloc', 24, {
  size: u32(0),
  viommuId: u32(4, 'id'),
  devId: u32(8, 'id'),
  outVdeviceId: u32(12, 'id'),
  virtId: u64(16, 'hex'),
});

export const IOMMU_HW_QUEUE_ALLOC = io(IOMMUFD_TYPE, 0x94);

/** Refused: kept for the future. */
export const IOMMU_HW_QUEUE_TYPE_DEFAULT = 0;
export const IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1;
export const hwQueueTypes = { IOMMU_HW_QUEUE_TYPE_DEFAULT, IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV } as const;

/** The queue lies at nesting_parent_iova (guest physical), length bytes. */
export const HwQueueAlloc = struct('iommu_hw_queue_alloc', 40, {
  size: u32(0),
  flags: u32(4, 'hex'),
  viommuId: u32(8, 'id'),
  type: u32(12, { names: hwQueueTypes }),
  index: u32(16),
  outHwQueueId: u32(20, 'id'),
  nestingParentIova: u64(24, 'address'),
  length: u64(32, 'length'),
});
