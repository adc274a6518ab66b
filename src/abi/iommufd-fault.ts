/** Fault queue: page requests read from its fd, responses written to it. */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { struct, u32, u64 } from './struct.ts';

export const IOMMU_FAULT_QUEUE_ALLOC = io(IOMMUFD_TYPE, 0x8e);

export const FaultAlloc = struct('iommu_fault_alloc', 16, {
  size: u32(0),
  flags: u32(4, 'hex'),
  outFaultId: u32(8, 'id'),
  outFaultFd: u32(12, 'fd'),
});

export const IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0;
export const IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1;
export const pgfaultFlags = { IOMMU_PGFAULT_FLAGS_PASID_VALID, IOMMU_PGFAULT_FLAGS_LAST_PAGE } as const;

export const IOMMU_PGFAULT_PERM_READ = 1 << 0;
export const IOMMU_PGFAULT_PERM_WRITE = 1 << 1;
export const IOMMU_PGFAULT_PERM_EXEC = 1 << 2;
export const IOMMU_PGFAULT_PERM_PRIV = 1 << 3;
export const pgfaultPermissions = {
  IOMMU_PGFAULT_PERM_READ,
  IOMMU_PGFAULT_PERM_WRITE,
  IOMMU_PGFAULT_PERM_EXEC,
  IOMMU_PGFAULT_PERM_PRIV,
} as const;

/** A record read from the fd. `reserved` has been there since the first release, named only since Linux 6.14. */
export const HwptPgfault = struct('iommu_hwpt_pgfault', 40, {
  flags: u32(0, { flags: pgfaultFlags }),
  devId: u32(4, 'id'),
  pasid: u32(8),
  grpid: u32(12),
  perm: u32(16, { flags: pgfaultPermissions }),
  reserved: u32(20),
  addr: u64(24, 'address'),
  length: u32(32, 'length'),
  cookie: u32(36),
});

export const IOMMUFD_PAGE_RESP_SUCCESS = 0;
export const IOMMUFD_PAGE_RESP_INVALID = 1;
export const pageResponseCodes = { IOMMUFD_PAGE_RESP_SUCCESS, IOMMUFD_PAGE_RESP_INVALID } as const;

/** A record written to the fd. */
export const HwptPageResponse = struct('iommu_hwpt_page_response', 8, {
  cookie: u32(0),
  code: u32(4, { names: pageResponseCodes }),
});
