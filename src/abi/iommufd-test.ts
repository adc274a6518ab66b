/**
 * IOMMU_TEST_CMD and the driver data of the mock driver: what the kernel's selftests speak, on a machine with the mock
 * driver only. The command is a header and one payload of 48 bytes per operation; payloads are structs of their own here.
 */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { bytes, s32, struct, u32, u64 } from './struct.ts';

export const IOMMU_TEST_CMD = io(IOMMUFD_TYPE, 0xa0);

export const IOMMU_TEST_OP_ADD_RESERVED = 1;
export const IOMMU_TEST_OP_MOCK_DOMAIN = 2;
export const IOMMU_TEST_OP_MD_CHECK_MAP = 3;
export const IOMMU_TEST_OP_MD_CHECK_REFS = 4;
export const IOMMU_TEST_OP_CREATE_ACCESS = 5;
export const IOMMU_TEST_OP_DESTROY_ACCESS_PAGES = 6;
export const IOMMU_TEST_OP_ACCESS_PAGES = 7;
export const IOMMU_TEST_OP_ACCESS_RW = 8;
export const IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT = 9;
export const IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE = 10;
export const IOMMU_TEST_OP_ACCESS_REPLACE_IOAS = 11;
export const IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS = 12;
export const IOMMU_TEST_OP_DIRTY = 13;
export const IOMMU_TEST_OP_MD_CHECK_IOTLB = 14;
export const IOMMU_TEST_OP_TRIGGER_IOPF = 15;
export const IOMMU_TEST_OP_DEV_CHECK_CACHE = 16;
export const IOMMU_TEST_OP_TRIGGER_VEVENT = 17;
export const IOMMU_TEST_OP_PASID_ATTACH = 18;
export const IOMMU_TEST_OP_PASID_REPLACE = 19;
export const IOMMU_TEST_OP_PASID_DETACH = 20;
export const IOMMU_TEST_OP_PASID_CHECK_HWPT = 21;
export const IOMMU_TEST_OP_DMABUF_GET = 22;
export const IOMMU_TEST_OP_DMABUF_REVOKE = 23;
export const testOps = {
  IOMMU_TEST_OP_ADD_RESERVED,
  IOMMU_TEST_OP_MOCK_DOMAIN,
  IOMMU_TEST_OP_MD_CHECK_MAP,
  IOMMU_TEST_OP_MD_CHECK_REFS,
  IOMMU_TEST_OP_CREATE_ACCESS,
  IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
  IOMMU_TEST_OP_ACCESS_PAGES,
  IOMMU_TEST_OP_ACCESS_RW,
  IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT,
  IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
  IOMMU_TEST_OP_ACCESS_REPLACE_IOAS,
  IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
  IOMMU_TEST_OP_DIRTY,
  IOMMU_TEST_OP_MD_CHECK_IOTLB,
  IOMMU_TEST_OP_TRIGGER_IOPF,
  IOMMU_TEST_OP_DEV_CHECK_CACHE,
  IOMMU_TEST_OP_TRIGGER_VEVENT,
  IOMMU_TEST_OP_PASID_ATTACH,
  IOMMU_TEST_OP_PASID_REPLACE,
  IOMMU_TEST_OP_PASID_DETACH,
  IOMMU_TEST_OP_PASID_CHECK_HWPT,
  IOMMU_TEST_OP_DMABUF_GET,
  IOMMU_TEST_OP_DMABUF_REVOKE,
} as const;

/** Bytes before the payload, and of the payload. */
export const TEST_PAYLOAD_OFFSET = 16;
export const TEST_PAYLOAD_BYTES = 48;

/** `last` has no meaning: its end is the smallest size of the command. */
export const TestCmd = struct('iommu_test_cmd', 72, {
  size: u32(0),
  op: u32(4, { names: testOps }),
  id: u32(8, 'id'),
  reserved: u32(12),
  payload: bytes(TEST_PAYLOAD_OFFSET, TEST_PAYLOAD_BYTES),
  last: u32(64),
  reserved2: u32(68),
});

// Payloads, each by the name of its member in the kernel's union. Offsets count from the payload.

export const TestAddReserved = struct('add_reserved', 16, { start: u64(0, 'address'), length: u64(8, 'length') });

/** MOCK_DOMAIN and MOCK_DOMAIN_FLAGS; the former's member ends before `devFlags`. */
export const TestMockDomain = struct('mock_domain_flags', 16, {
  outStdevId: u32(0, 'id'),
  outHwptId: u32(4, 'id'),
  outIdevId: u32(8, 'id'),
  devFlags: u32(12, 'hex'),
});

export const TestMockDomainReplace = struct('mock_domain_replace', 4, { ptId: u32(0, 'id') });

export const TestCheckMap = struct('check_map', 24, {
  iova: u64(0, 'address'),
  length: u64(8, 'length'),
  uptr: u64(16, 'address'),
});

export const TestCheckRefs = struct('check_refs', 24, {
  length: u64(0, 'length'),
  uptr: u64(8, 'address'),
  refs: u32(16),
  reserved: u32(20),
});

export const TestCreateAccess = struct('create_access', 8, { outAccessFd: u32(0, 'fd'), flags: u32(4, 'hex') });

export const TestDestroyAccessPages = struct('destroy_access_pages', 4, { accessPagesId: u32(0) });

export const TestAccessPages = struct('access_pages', 32, {
  flags: u32(0, 'hex'),
  outAccessPagesId: u32(4),
  iova: u64(8, 'address'),
  length: u64(16, 'length'),
  uptr: u64(24, 'address'),
});

export const TestAccessRw = struct('access_rw', 32, {
  iova: u64(0, 'address'),
  length: u64(8, 'length'),
  uptr: u64(16, 'address'),
  flags: u32(24, 'hex'),
  reserved: u32(28),
});

export const TestMemoryLimit = struct('memory_limit', 4, { limit: u32(0, 'length') });

export const TestAccessReplaceIoas = struct('access_replace_ioas', 4, { ioasId: u32(0, 'id') });

export const TestDirty = struct('dirty', 48, {
  flags: u32(0, 'hex'),
  reserved: u32(4),
  iova: u64(8, 'address'),
  length: u64(16, 'length'),
  pageSize: u64(24, 'length'),
  uptr: u64(32, 'address'),
  outNrDirty: u64(40),
});

export const TestCheckIotlb = struct('check_iotlb', 8, { id: u32(0), iotlb: u32(4, 'hex') });

export const TestTriggerIopf = struct('trigger_iopf', 24, {
  devId: u32(0, 'id'),
  pasid: u32(4),
  grpid: u32(8),
  perm: u32(12, 'hex'),
  addr: u64(16, 'address'),
});

export const TestCheckDevCache = struct('check_dev_cache', 8, { id: u32(0), cache: u32(4, 'hex') });

export const TestTriggerVevent = struct('trigger_vevent', 4, { devId: u32(0, 'id') });

/** PASID_ATTACH and PASID_REPLACE. */
export const TestPasidAttach = struct('pasid_attach', 8, { pasid: u32(0), ptId: u32(4, 'id') });

export const TestPasidDetach = struct('pasid_detach', 4, { pasid: u32(0) });

export const TestPasidCheck = struct('pasid_check', 8, { pasid: u32(0), hwptId: u32(4, 'id') });

export const TestDmabufGet = struct('dmabuf_get', 8, { length: u32(0, 'length'), openFlags: u32(4, 'hex') });

export const TestDmabufRevoke = struct('dmabuf_revoke', 8, { dmabufFd: s32(0, 'fd'), revoked: u32(4) });

export const MOCK_FLAGS_ACCESS_WRITE = 1 << 0;
/** The IOVA is {area number, offset}: for fuzzers. */
export const MOCK_FLAGS_ACCESS_SYZ = 1 << 16;
export const MOCK_ACCESS_RW_WRITE = 1 << 0;
export const MOCK_ACCESS_RW_SLOW_PATH = 1 << 2;
export const MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES = 1 << 0;
export const MOCK_FLAGS_DEVICE_NO_DIRTY = 1 << 0;
export const MOCK_FLAGS_DEVICE_PASID = 1 << 2;

/** pagetableType of HwptSelftest. */
export const MOCK_IOMMUPT_DEFAULT = 0;
export const MOCK_IOMMUPT_HUGE = 1;

export const MOCK_APERTURE_START = 2 ** 24;
export const MOCK_APERTURE_LAST = 2 ** 31 - 1;
export const MOCK_PAGE_SIZE = 2048;
export const MOCK_HUGE_PAGE_SIZE = 512 * MOCK_PAGE_SIZE;

export const MOCK_NESTED_DOMAIN_IOTLB_ID_MAX = 3;
export const MOCK_NESTED_DOMAIN_IOTLB_NUM = 4;
export const MOCK_DEV_CACHE_ID_MAX = 3;
export const MOCK_DEV_CACHE_NUM = 4;
export const MOCK_PASID_WIDTH = 20;
/** Every second attach of this PASID to a device fails: for tests of replacing. */
export const IOMMU_TEST_PASID_RESERVED = 1024;

export const IOMMU_HW_INFO_TYPE_SELFTEST = 0xfeedbeef;
export const IOMMU_HW_INFO_SELFTEST_REGVAL = 0xdeadbeef;
export const TestHwInfo = struct('iommu_test_hw_info', 8, { flags: u32(0, 'hex'), testReg: u32(4, 'hex') });

export const IOMMU_HWPT_DATA_SELFTEST = 0xdead;
export const IOMMU_TEST_IOTLB_DEFAULT = 0xbadbeef;
export const IOMMU_TEST_DEV_CACHE_DEFAULT = 0xbaddad;
export const HwptSelftest = struct('iommu_hwpt_selftest', 8, { iotlb: u32(0, 'hex'), pagetableType: u32(4) });

export const IOMMU_HWPT_INVALIDATE_DATA_SELFTEST = 0xdeadbeef;
export const IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID = 0xdadbeef;
export const IOMMU_TEST_INVALIDATE_FLAG_ALL = 1 << 0;
export const HwptInvalidateSelftest = struct('iommu_hwpt_invalidate_selftest', 8, {
  flags: u32(0, 'hex'),
  iotlbId: u32(4),
});

export const IOMMU_VIOMMU_TYPE_SELFTEST = 0xdeadbeef;
export const ViommuSelftest = struct('iommu_viommu_selftest', 24, {
  inData: u32(0, 'hex'),
  outData: u32(4, 'hex'),
  outMmapOffset: u64(8, 'address'),
  outMmapLength: u64(16, 'length'),
});

export const IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST = 0xdeadbeef;
export const IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID = 0xdadbeef;
export const ViommuInvalidateSelftest = struct('iommu_viommu_invalidate_selftest', 12, {
  flags: u32(0, 'hex'),
  vdevId: u32(4),
  cacheId: u32(8),
});

export const IOMMU_VEVENTQ_TYPE_SELFTEST = 0xbeefbeef;
export const ViommuEventSelftest = struct('iommu_viommu_event_selftest', 4, { virtId: u32(0, 'hex') });

export const IOMMU_HW_QUEUE_TYPE_SELFTEST = 0xdeadbeef;
export const IOMMU_TEST_HW_QUEUE_MAX = 2;
