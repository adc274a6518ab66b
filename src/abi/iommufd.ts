/** The uAPI of iommufd (include/uapi/linux/iommufd.h, Linux 7.1): what belongs to no one object, and all the rest. */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { struct, u16, u32, u64 } from './struct.ts';

export * from './iommufd-fault.ts';
export * from './iommufd-hw-info.ts';
export * from './iommufd-hwpt.ts';
export * from './iommufd-ioas.ts';
export * from './iommufd-veventq.ts';
export * from './iommufd-viommu.ts';

export const IOMMU_DESTROY = io(IOMMUFD_TYPE, 0x80);

export const Destroy = struct('iommu_destroy', 8, { size: u32(0), id: u32(4, 'id') });

export const IOMMU_OPTION = io(IOMMUFD_TYPE, 0x87);

export const IOMMU_OPTION_RLIMIT_MODE = 0;
export const IOMMU_OPTION_HUGE_PAGES = 1;
export const optionIds = { IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_HUGE_PAGES } as const;

export const IOMMU_OPTION_OP_SET = 0;
export const IOMMU_OPTION_OP_GET = 1;
export const optionOps = { IOMMU_OPTION_OP_SET, IOMMU_OPTION_OP_GET } as const;

export const Option = struct('iommu_option', 24, {
  size: u32(0),
  optionId: u32(4, { names: optionIds }),
  op: u16(8, { names: optionOps }),
  reserved: u16(10),
  objectId: u32(12, 'id'),
  val64: u64(16),
});

export const IOMMU_VFIO_IOAS = io(IOMMUFD_TYPE, 0x88);

export const IOMMU_VFIO_IOAS_GET = 0;
export const IOMMU_VFIO_IOAS_SET = 1;
export const IOMMU_VFIO_IOAS_CLEAR = 2;
export const vfioIoasOps = { IOMMU_VFIO_IOAS_GET, IOMMU_VFIO_IOAS_SET, IOMMU_VFIO_IOAS_CLEAR } as const;

export const VfioIoas = struct('iommu_vfio_ioas', 12, {
  size: u32(0),
  ioasId: u32(4, 'id'),
  op: u16(8, { names: vfioIoasOps }),
  reserved: u16(10),
});
