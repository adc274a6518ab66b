/**
 * What the dialect viommu-v2 has of its own (the design thread's series of August 2024 and its companions). Its numbers
 * collide with those of Linux 6.13 and later, so every name here says v2 where mainline has the same one.
 */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { struct, u32, u64, u64s } from './struct.ts';

export const V2_IOMMU_VIOMMU_ALLOC = io(IOMMUFD_TYPE, 0x8f);

/** Managed by the core, on any IOMMU driver. */
export const V2_IOMMU_VIOMMU_TYPE_DEFAULT = 0;
export const V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 1;
export const v2ViommuTypes = {
  IOMMU_VIOMMU_TYPE_DEFAULT: V2_IOMMU_VIOMMU_TYPE_DEFAULT,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
} as const;

/** The layout of Linux 6.13: ViommuAlloc up to out_viommu_id. */
export const V2ViommuAlloc = struct('iommu_viommu_alloc', 24, {
  size: u32(0),
  flags: u32(4, 'hex'),
  type: u32(8, { names: v2ViommuTypes }),
  devId: u32(12, 'id'),
  hwptId: u32(16, 'id'),
  outViommuId: u32(20, 'id'),
});

export const IOMMU_VIOMMU_SET_VDEV_ID = io(IOMMUFD_TYPE, 0x90);

export const ViommuSetVdevId = struct('iommu_viommu_set_vdev_id', 24, {
  size: u32(0),
  viommuId: u32(4, 'id'),
  devId: u32(8, 'id'),
  reserved: u32(12),
  vdevId: u64(16, 'hex'),
});

export const IOMMU_VIOMMU_UNSET_VDEV_ID = io(IOMMUFD_TYPE, 0x91);

/** vdev_id must be the one that was set. */
export const ViommuUnsetVdevId = struct('iommu_viommu_unset_vdev_id', 24, {
  size: u32(0),
  viommuId: u32(4, 'id'),
  devId: u32(8, 'id'),
  reserved: u32(12),
  vdevId: u64(16, 'hex'),
});

export const IOMMU_VIRQ_ALLOC = io(IOMMUFD_TYPE, 0x92);

/** Invalid. */
export const IOMMU_VIRQ_TYPE_NONE = 0;
export const IOMMU_VIRQ_TYPE_ARM_SMMUV3 = 1;
export const virqTypes = { IOMMU_VIRQ_TYPE_NONE, IOMMU_VIRQ_TYPE_ARM_SMMUV3 } as const;

export const VirqAlloc = struct('iommu_virq_alloc', 24, {
  size: u32(0),
  flags: u32(4, 'hex'),
  viommuId: u32(8, 'id'),
  type: u32(12, { names: virqTypes }),
  outVirqId: u32(16, 'id'),
  outVirqFd: u32(20, 'fd'),
});

/** What read() gives: bare records, without the header of a vEVENTQ. */
export const VirqArmSmmuv3 = struct('iommu_virq_arm_smmuv3', 32, { evt: u64s(0, 4) });

export const IOMMU_VQUEUE_ALLOC = io(IOMMUFD_TYPE, 0x93);

export const IOMMU_VQUEUE_DATA_NONE = 0;
export const IOMMU_VQUEUE_DATA_TEGRA241_CMDQV = 1;
export const vqueueDataTypes = { IOMMU_VQUEUE_DATA_NONE, IOMMU_VQUEUE_DATA_TEGRA241_CMDQV } as const;

export const VqueueAlloc = struct('iommu_vqueue_alloc', 32, {
  size: u32(0),
  flags: u32(4, 'hex'),
  viommuId: u32(8, 'id'),
  outVqueueId: u32(12, 'id'),
  dataType: u32(16, { names: vqueueDataTypes }),
  dataLen: u32(20, 'length'),
  dataUptr: u64(24, 'address'),
});

/** vcmdq_base is guest physical; the queue has 2^vcmdq_log2size entries. */
export const VqueueTegra241Cmdqv = struct('iommu_vqueue_tegra241_cmdqv', 16, {
  vcmdqId: u32(0),
  vcmdqLog2size: u32(4),
  vcmdqBase: u64(8, 'address'),
});

/** Allowed on a vIOMMU and, for the TLBI commands, on a nested HWPT. */
export const IOMMU_HWPT_INVALIDATE_DATA_ARM_SMMUV3 = 1;

export const HwptArmSmmuv3Invalidate = struct('iommu_hwpt_arm_smmuv3_invalidate', 16, { cmd: u64s(0, 2) });
