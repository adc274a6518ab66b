/** The VFIO type 1 IOMMU: what /dev/vfio/vfio and, for compatibility, /dev/iommu speak. The part that iommufd has. */
import { io, VFIO_BASE, VFIO_TYPE } from './ioctl.ts';
import { plain, struct, u16, u32, u64 } from './struct.ts';

export const VFIO_API_VERSION = 0;
export const VFIO_GET_API_VERSION = io(VFIO_TYPE, VFIO_BASE + 0);

/** Extensions of VFIO_CHECK_EXTENSION; the first two, and VFIO_NOIOMMU_IOMMU, are types of VFIO_SET_IOMMU too. */
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;
export const VFIO_UPDATE_VADDR = 10;
export const VFIO_CHECK_EXTENSION = io(VFIO_TYPE, VFIO_BASE + 1);
export const VFIO_SET_IOMMU = io(VFIO_TYPE, VFIO_BASE + 2);

export const VFIO_IOMMU_GET_INFO = io(VFIO_TYPE, VFIO_BASE + 12);
export const VFIO_IOMMU_INFO_PGSIZES = 1 << 0;
export const VFIO_IOMMU_INFO_CAPS = 1 << 1;
export const Type1Info = struct('vfio_iommu_type1_info', 24, {
  argsz: u32(0, 'length'),
  flags: u32(4, 'hex'),
  iovaPgsizes: u64(8, 'hex'),
  capOffset: u32(16),
  pad: u32(20),
});

/** Behind it come `nrIovas` of IovaRange. */
export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
export const Type1InfoCapIovaRange = struct('vfio_iommu_type1_info_cap_iova_range', 16, {
  id: u16(0),
  version: u16(2),
  next: u32(4),
  nrIovas: u32(8),
  reserved: plain(u32(12)),
});

/** Both bounds inclusive. */
export const VfioIovaRange = struct('vfio_iova_range', 16, { start: u64(0, 'address'), end: u64(8, 'address') });

export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;
export const Type1InfoDmaAvail = struct('vfio_iommu_type1_info_dma_avail', 12, {
  id: u16(0),
  version: u16(2),
  next: u32(4),
  avail: u32(8),
});

export const VFIO_IOMMU_MAP_DMA = io(VFIO_TYPE, VFIO_BASE + 13);
export const VFIO_DMA_MAP_FLAG_READ = 1 << 0;
export const VFIO_DMA_MAP_FLAG_WRITE = 1 << 1;
export const Type1DmaMap = struct('vfio_iommu_type1_dma_map', 32, {
  argsz: u32(0, 'length'),
  flags: u32(4, 'hex'),
  vaddr: u64(8, 'address'),
  iova: u64(16, 'address'),
  size: u64(24, 'length'),
});

export const VFIO_IOMMU_UNMAP_DMA = io(VFIO_TYPE, VFIO_BASE + 14);
export const VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1;
export const Type1DmaUnmap = struct('vfio_iommu_type1_dma_unmap', 24, {
  argsz: u32(0, 'length'),
  flags: u32(4, 'hex'),
  iova: u64(8, 'address'),
  size: u64(16, 'length'),
});
