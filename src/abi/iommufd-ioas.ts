/** IOAS: IOVA spaces and their mappings. Every `last` is inclusive; lengths are bytes. */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { s32, struct, u32, u64 } from './struct.ts';

export const IOMMU_IOAS_ALLOC = io(IOMMUFD_TYPE, 0x81);

export const IoasAlloc = struct('iommu_ioas_alloc', 12, {
  size: u32(0),
  flags: u32(4, 'hex'),
  outIoasId: u32(8, 'id'),
});

/** Item of the arrays behind allowed_iovas. */
export const IovaRange = struct('iommu_iova_range', 16, { start: u64(0, 'address'), last: u64(8, 'address') });

export const IOMMU_IOAS_ALLOW_IOVAS = io(IOMMUFD_TYPE, 0x82);

export const IoasAllowIovas = struct('iommu_ioas_allow_iovas', 24, {
  size: u32(0),
  ioasId: u32(4, 'id'),
  numIovas: u32(8),
  reserved: u32(12),
  allowedIovas: u64(16, 'address'),
});

export const IOMMU_IOAS_COPY = io(IOMMUFD_TYPE, 0x83);

export const IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0;
export const IOMMU_IOAS_MAP_WRITEABLE = 1 << 1;
export const IOMMU_IOAS_MAP_READABLE = 1 << 2;
export const ioasMapFlags = { IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_WRITEABLE, IOMMU_IOAS_MAP_READABLE } as const;

export const IoasCopy = struct('iommu_ioas_copy', 40, {
  size: u32(0),
  flags: u32(4, { flags: ioasMapFlags }),
  dstIoasId: u32(8, 'id'),
  srcIoasId: u32(12, 'id'),
  length: u64(16, 'length'),
  dstIova: u64(24, 'address'),
  srcIova: u64(32, 'address'),
});

export const IOMMU_IOAS_IOVA_RANGES = io(IOMMUFD_TYPE, 0x84);

export const IoasIovaRanges = struct('iommu_ioas_iova_ranges', 32, {
  size: u32(0),
  ioasId: u32(4, 'id'),
  numIovas: u32(8),
  reserved: u32(12),
  allowedIovas: u64(16, 'address'),
  outIovaAlignment: u64(24, 'length'),
});

export const IOMMU_IOAS_MAP = io(IOMMUFD_TYPE, 0x85);

export const IoasMap = struct('iommu_ioas_map', 40, {
  size: u32(0),
  flags: u32(4, { flags: ioasMapFlags }),
  ioasId: u32(8, 'id'),
  reserved: u32(12),
  userVa: u64(16, 'address'),
  length: u64(24, 'length'),
  iova: u64(32, 'address'),
});

export const IOMMU_IOAS_UNMAP = io(IOMMUFD_TYPE, 0x86);

export const IoasUnmap = struct('iommu_ioas_unmap', 24, {
  size: u32(0),
  ioasId: u32(4, 'id'),
  iova: u64(8, 'address'),
  length: u64(16, 'length'),
});

export const IOMMU_IOAS_MAP_FILE = io(IOMMUFD_TYPE, 0x8f);

export const IoasMapFile = struct('iommu_ioas_map_file', 40, {
  size: u32(0),
  flags: u32(4, { flags: ioasMapFlags }),
  ioasId: u32(8, 'id'),
  fd: s32(12, 'fd'),
  start: u64(16, 'address'),
  length: u64(24, 'length'),
  iova: u64(32, 'address'),
});

export const IOMMU_IOAS_CHANGE_PROCESS = io(IOMMUFD_TYPE, 0x92);

export const IoasChangeProcess = struct('iommu_ioas_change_process', 8, { size: u32(0), reserved: u32(4) });
