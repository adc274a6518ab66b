/** virtio-iommu (virtio 1.2, 5.13): the device's configuration, requests with their tails, and properties of endpoints. */
import { bytes, struct, u8, u16, u32, u64 } from '../../../abi/struct.ts';

/** 5.13.4. Bounds are inclusive. */
export const Config = struct('virtio_iommu_config', 40, {
  pageSizeMask: u64(0, 'hex'),
  inputStart: u64(8, 'address'),
  inputEnd: u64(16, 'address'),
  domainStart: u32(24),
  domainEnd: u32(28),
  probeSize: u32(32),
  bypass: u8(36),
  reserved: bytes(37, 3),
});

/** Requests (5.13.6), as far as the device reads them: the tail is in a buffer of its own. */
export const T_ATTACH = 1;
export const T_DETACH = 2;
export const T_MAP = 3;
export const T_UNMAP = 4;
export const T_PROBE = 5;

export const AttachRequest = struct('virtio_iommu_req_attach', 20, {
  type: u8(0),
  headReserved: bytes(1, 3),
  domain: u32(4),
  endpoint: u32(8),
  flags: u32(12, 'hex'),
  reserved: bytes(16, 4),
});

export const DetachRequest = struct('virtio_iommu_req_detach', 20, {
  type: u8(0),
  headReserved: bytes(1, 3),
  domain: u32(4),
  endpoint: u32(8),
  reserved: bytes(12, 8),
});

export const MAP_READ = 1;
export const MAP_WRITE = 2;

export const MapRequest = struct('virtio_iommu_req_map', 36, {
  type: u8(0),
  headReserved: bytes(1, 3),
  domain: u32(4),
  virtStart: u64(8, 'address'),
  virtEnd: u64(16, 'address'),
  physStart: u64(24, 'address'),
  flags: u32(32, 'hex'),
});

export const UnmapRequest = struct('virtio_iommu_req_unmap', 28, {
  type: u8(0),
  headReserved: bytes(1, 3),
  domain: u32(4),
  virtStart: u64(8, 'address'),
  virtEnd: u64(16, 'address'),
  reserved: bytes(24, 4),
});

export const ProbeRequest = struct('virtio_iommu_req_probe', 72, {
  type: u8(0),
  headReserved: bytes(1, 3),
  endpoint: u32(4),
  reserved: bytes(8, 64),
});

/** Behind every request, and behind the properties of a PROBE: a status and three bytes. */
export const TAIL_BYTES = 4;

export const STATUS = {
  OK: 0,
  IOERR: 1,
  UNSUPP: 2,
  DEVERR: 3,
  INVAL: 4,
  RANGE: 5,
  NOENT: 6,
  FAULT: 7,
  NOMEM: 8,
} as const;
export type Status = keyof typeof STATUS;

/** A property of an endpoint (5.13.6.7); `length` is of what follows the first four bytes. Type 0 ends the list. */
export const PROBE_T_RESV_MEM = 1;
export const RESV_MEM_T_RESERVED = 0;
export const ReservedMemory = struct('virtio_iommu_probe_resv_mem', 24, {
  type: u16(0),
  length: u16(2),
  subtype: u8(4),
  reserved: bytes(5, 3),
  start: u64(8, 'address'),
  end: u64(16, 'address'),
});
