/** HWPT: hardware page tables, their driver data, dirty tracking and cache invalidation. */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { struct, u32, u64, u64s } from './struct.ts';

export const IOMMU_HWPT_ALLOC = io(IOMMUFD_TYPE, 0x89);

export const IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0;
export const IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1;
export const IOMMU_HWPT_FAULT_ID_VALID = 1 << 2;
export const IOMMU_HWPT_ALLOC_PASID = 1 << 3;
export const hwptAllocFlags = {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_HWPT_ALLOC_PASID,
} as const;

export const IOMMU_HWPT_DATA_NONE = 0;
export const IOMMU_HWPT_DATA_VTD_S1 = 1;
export const IOMMU_HWPT_DATA_ARM_SMMUV3 = 2;
export const IOMMU_HWPT_DATA_AMD_GUEST = 3;
export const hwptDataTypes = {
  IOMMU_HWPT_DATA_NONE,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_DATA_ARM_SMMUV3,
  IOMMU_HWPT_DATA_AMD_GUEST,
} as const;

/** pt_id names an IOAS (paging), a nesting parent or a vIOMMU (nested). */
export const HwptAlloc = struct('iommu_hwpt_alloc', 48, {
  size: u32(0),
  flags: u32(4, { flags: hwptAllocFlags }),
  devId: u32(8, 'id'),
  ptId: u32(12, 'id'),
  outHwptId: u32(16, 'id'),
  reserved: u32(20),
  dataType: u32(24, { names: hwptDataTypes }),
  dataLen: u32(28, 'length'),
  dataUptr: u64(32, 'address'),
  faultId: u32(40, 'id'),
  reserved2: u32(44),
});

export const IOMMU_VTD_S1_SRE = 1 << 0;
export const IOMMU_VTD_S1_EAFE = 1 << 1;
export const IOMMU_VTD_S1_WPE = 1 << 2;
export const hwptVtdS1Flags = { IOMMU_VTD_S1_SRE, IOMMU_VTD_S1_EAFE, IOMMU_VTD_S1_WPE } as const;

/** Data of IOMMU_HWPT_DATA_VTD_S1. */
export const HwptVtdS1 = struct('iommu_hwpt_vtd_s1', 24, {
  flags: u64(0, { flags: hwptVtdS1Flags }),
  pgtblAddr: u64(8, 'address'),
  addrWidth: u32(16),
  reserved: u32(20),
});

/** Data of IOMMU_HWPT_DATA_ARM_SMMUV3: the first two doublewords of an STE. */
export const HwptArmSmmuv3 = struct('iommu_hwpt_arm_smmuv3', 16, { ste: u64s(0, 2) });

/** Data of IOMMU_HWPT_DATA_AMD_GUEST: the guest's DTE. */
export const HwptAmdGuest = struct('iommu_hwpt_amd_guest', 32, { dte: u64s(0, 4) });

export const IOMMU_HWPT_SET_DIRTY_TRACKING = io(IOMMUFD_TYPE, 0x8b);

export const IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1;
export const hwptSetDirtyTrackingFlags = { IOMMU_HWPT_DIRTY_TRACKING_ENABLE } as const;

export const HwptSetDirtyTracking = struct('iommu_hwpt_set_dirty_tracking', 16, {
  size: u32(0),
  flags: u32(4, { flags: hwptSetDirtyTrackingFlags }),
  hwptId: u32(8, 'id'),
  reserved: u32(12),
});

export const IOMMU_HWPT_GET_DIRTY_BITMAP = io(IOMMUFD_TYPE, 0x8c);

export const IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1;
export const hwptGetDirtyBitmapFlags = { IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR } as const;

/** Bit n of the bitmap at `data` stands for the page at iova + n * page_size. */
export const HwptGetDirtyBitmap = struct('iommu_hwpt_get_dirty_bitmap', 48, {
  size: u32(0),
  hwptId: u32(4, 'id'),
  flags: u32(8, { flags: hwptGetDirtyBitmapFlags }),
  reserved: u32(12),
  iova: u64(16, 'address'),
  length: u64(24, 'length'),
  pageSize: u64(32, 'length'),
  data: u64(40, 'address'),
});

export const IOMMU_HWPT_INVALIDATE = io(IOMMUFD_TYPE, 0x8d);

export const IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0;
export const IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1;
export const hwptInvalidateDataTypes = {
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
} as const;

/** hwpt_id names a nested HWPT or a vIOMMU; entry_num comes back as the number of entries carried out. */
export const HwptInvalidate = struct('iommu_hwpt_invalidate', 32, {
  size: u32(0),
  hwptId: u32(4, 'id'),
  dataUptr: u64(8, 'address'),
  dataType: u32(16, { names: hwptInvalidateDataTypes }),
  entryLen: u32(20, 'length'),
  entryNum: u32(24),
  reserved: u32(28),
});

export const IOMMU_VTD_INV_FLAGS_LEAF = 1 << 0;
export const hwptVtdS1InvalidateFlags = { IOMMU_VTD_INV_FLAGS_LEAF } as const;

/** Entry of IOMMU_HWPT_INVALIDATE_DATA_VTD_S1. addr 0 with npages 2^64 - 1 means everything. */
export const HwptVtdS1Invalidate = struct('iommu_hwpt_vtd_s1_invalidate', 24, {
  addr: u64(0, 'address'),
  npages: u64(8),
  flags: u32(16, { flags: hwptVtdS1InvalidateFlags }),
  reserved: u32(20),
});

/** Entry of IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: a command of the SMMU's command queue. */
export const ViommuArmSmmuv3Invalidate = struct('iommu_viommu_arm_smmuv3_invalidate', 16, { cmd: u64s(0, 2) });
