/**
 * The vendor-neutral face of an IOMMU driver: what iommufd knows of hardware. One IommuDriver per pIOMMU instance.
 * IOVAs are bigint bytes (64 bits); physical addresses and lengths of mappings are bytes as numbers (below 2^53).
 * Every method that refuses throws Errno with the errno that the kernel's driver gives.
 */
import type { MmioDevice } from '../hardware/iommu.ts';

/** Protection bits of PagingDomain.map. */
export const PROT_READ = 1;
export const PROT_WRITE = 2;

/** Driver data behind a user pointer: { type, data_len, data_uptr } of HWPT_ALLOC and VIOMMU_ALLOC. */
export interface UserData {
  readonly type: number;
  readonly length: number;
  /**
   * The struct with the kernel's extensibility rules (iommu_copy_struct_from_user): shorter than `minimum` EINVAL,
   * longer than `size` with a tail that is not zero E2BIG, unreadable EFAULT; shorter than `size` zero-extended.
   */
  copy(minimum: number, size: number): Uint8Array;
  /** Writes the driver's answer back (iommu_copy_struct_to_user): at most `length` bytes. */
  writeBack(bytes: Uint8Array): void;
}

/** Driver commands behind a user pointer: the array of HWPT_INVALIDATE. */
export interface UserDataArray {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  /** Entry `index`, same size rules as UserData.copy. */
  copy(index: number, minimum: number, size: number): Uint8Array;
  /** Present when entryLength bytes of every entry can be had at once: entryCount * entryLength bytes, or EFAULT. */
  copyAll?(): Uint8Array;
}

/** How many entries of a UserDataArray were carried out, and the Errno that stopped the rest, if one did. */
export interface InvalidateResult {
  done: number;
  error: Error | null;
}

/** The geometry of a paging domain. `last` is inclusive. */
export interface Aperture {
  readonly start: bigint;
  readonly last: bigint;
}

/** An IOVA range that a device reserves (iommu_get_resv_regions). `last` is inclusive. */
export interface ReservedRegion {
  readonly start: bigint;
  readonly last: bigint;
  readonly type: 'direct' | 'direct-relaxable' | 'reserved' | 'msi' | 'software-msi';
}

/** What a device asks for, as its IOMMU tells it. */
export interface PageRequest {
  /** IOMMU_PGFAULT_FLAGS_* */
  readonly flags: number;
  readonly pasid: number;
  readonly group: number;
  /** IOMMU_PGFAULT_PERM_* */
  readonly permissions: number;
  readonly address: bigint;
}

/** Answers a group of page requests: IOMMUFD_PAGE_RESP_* */
export type Respond = (code: number) => void;

/** Takes the page requests of one device. */
export interface PageRequestSink {
  /** `respond` is called once for each request that is the last of its group, and never for others. */
  report(request: PageRequest, respond: Respond): void;
  /** The IOMMU has lost requests: groups without their last one will not be complete any more. */
  discardPartial(): void;
}

/** A kernel-managed page table. Ends with free(), after the last detach. */
export interface PagingDomain {
  readonly kind: 'paging';
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  readonly enforceCacheCoherency: boolean;
  /** Bit n set: leaves of 2^n bytes exist. The lowest bit is the smallest alignment of a mapping. */
  readonly pageSizes: bigint;
  readonly aperture: Aperture;
  /** Set by the core before any attach: somebody answers page requests of what is attached. */
  handlesFaults?: boolean;
  /**
   * Maps physically contiguous [pa, pa + length) at iova. All aligned to the smallest page size. ENOMEM when tables cannot
   * be had; EEXIST when something is mapped there.
   */
  map(iova: bigint, pa: number, length: number, prot: number): void;
  /** Unmaps exactly [iova, iova + length), which was mapped, and invalidates it everywhere the domain is in use before it returns. */
  unmap(iova: bigint, length: bigint): void;
  /** Physical address behind `iova`, or null when not mapped. */
  physical(iova: bigint): number | null;
  /** Present with `dirtyTracking`: whether writes of devices are recorded. The core clears old records before it says true. */
  setDirtyTracking?(on: boolean): void;
  /**
   * Present with `dirtyTracking`: reports what was written of [iova, iova + length), in order, and forgets it when `clear`.
   * @returns false when it stopped where nothing is mapped: somebody has taken the memory of an area back
   */
  readDirty?(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): boolean;
  free(): void;
}

/** A user-managed stage 1. Its parent is chosen at allocation. */
export interface NestedDomain {
  readonly kind: 'nested';
  readonly parent: PagingDomain;
  /** As of a paging domain. */
  handlesFaults?: boolean;
  /** Present when the driver takes invalidations on the nested HWPT itself; absent means EOPNOTSUPP. */
  invalidate?(commands: UserDataArray): InvalidateResult;
  free(): void;
}

export type Domain = PagingDomain | NestedDomain;

/** Receives the driver's events of one vIOMMU: `type` of the vEVENTQ, and the record's bytes with the virtual ID filled in. */
export type EventSink = (type: number, record: Uint8Array) => void;

/** The driver's half of a HW queue: guest memory that the hardware reads commands from, or writes records to, by itself. */
export interface DriverHwQueue {
  /** The queue that must not go before this one. */
  readonly dependsOn: DriverHwQueue | null;
  free(): void;
}

/** Whole pages of memory. What both share takes the place of `bytes` when a program maps them. */
export interface MappableMemory {
  bytes: Uint8Array;
}

/** Registers [offset, offset + length) of a block: whole pages. */
export interface MappableRegisters {
  readonly mmio: MmioDevice;
  readonly offset: number;
  readonly length: number;
}

/** What a vIOMMU lets its program map. */
export type MappableRegion = MappableMemory | MappableRegisters;

/** The driver's half of a vIOMMU: a slice of one pIOMMU holding a nesting parent. */
export interface DriverViommu {
  readonly parent: PagingDomain;
  allocNested(flags: number, data: UserData): NestedDomain;
  invalidate(commands: UserDataArray): InvalidateResult;
  /** vEVENTQ types that this vIOMMU can fill. */
  readonly eventTypes: readonly number[];
  /** Where events of this vIOMMU's devices go; set once by the core. */
  onEvent: EventSink | null;
  /** A vDEVICE: from now on `virtualId` names `device` in this vIOMMU's commands and events. The core keeps IDs unique. */
  setVirtualDevice(device: DriverDevice, virtualId: bigint): void;
  unsetVirtualDevice(device: DriverDevice, virtualId: bigint): void;
  /** Types of HW queue that initHwQueue knows; absent: the vIOMMU has no HW queues. */
  readonly hwQueueTypes?: readonly number[];
  /**
   * A queue at `iova` of the parent, physically contiguous at `pa`, pinned by the core until it is freed. Errnos are the
   * driver's own, for an index out of range, taken, or out of order.
   */
  initHwQueue?(type: number, index: number, iova: bigint, pa: number, length: bigint): DriverHwQueue;
  /**
   * The same from driver data (VQUEUE_ALLOC of viommu-v2). Nothing is pinned: the driver itself translates the first byte,
   * and only that. EEXIST for an index that is taken, EINVAL for what it refuses otherwise.
   */
  initVqueue?(data: UserData): DriverHwQueue;
  /** What the program may map, if anything; regionPlaced() then tells the driver at which offset of /dev/iommu. */
  readonly region?: MappableRegion | null;
  regionPlaced?(offset: bigint): void;
  free(): void;
}

/** One device behind one pIOMMU, as the driver keeps it. */
export interface DriverDevice {
  readonly driver: IommuDriver;
  /** Physical identity on its IOMMU, for traces: StreamID, BDF, DeviceID. */
  readonly streamId: number;
  readonly maxPasidLog2: number;
  /** GET_HW_INFO out_capabilities bits, beyond what the core derives. */
  readonly hwCapabilities: bigint;
  /** DMA of this device always snoops caches (IOMMU_CAP_CACHE_COHERENCY); VFIO refuses to bind without it. */
  readonly cacheCoherent: boolean;
  /** Where page requests go while the device is bound; set by the core. Drivers without page requests ignore it. */
  pageRequests?: PageRequestSink | null;
  reservedRegions(): ReservedRegion[];
  /** GET_HW_INFO: EOPNOTSUPP for a `type` other than 0 (default) and the driver's own. */
  hwInfo(type: number): { type: number; data: Uint8Array };
  /** @param flags IOMMU_HWPT_ALLOC_* of the uAPI; those that the driver does not know are EOPNOTSUPP */
  allocPaging(flags: number, data: UserData | null): PagingDomain;
  /** Nested directly on a parent HWPT, without a vIOMMU; absent means EOPNOTSUPP. */
  allocNestedOnParent?(parent: PagingDomain, flags: number, data: UserData): NestedDomain;
  /** Types that allocViommu knows, if it can say: the core then refuses others before it looks at the parent. */
  readonly viommuTypes?: readonly number[];
  /** EOPNOTSUPP when the type is not the driver's; EINVAL when the parent does not fit this pIOMMU. */
  allocViommu(type: number, parent: PagingDomain, data: UserData | null): DriverViommu;
  /**
   * Attaches `domain` (or blocks all DMA with null), replacing what was there without a window in between.
   * EINVAL when the domain does not fit this device; ENOENT when a nested domain needs a vDEVICE that does not exist;
   * EBUSY when the domain leaves no place for PASIDs that are attached.
   * @param pasid 0 for requests without one
   */
  attach(domain: Domain | null, pasid: number): void;
}

/** A pIOMMU instance with the driver that owns it. */
export interface IommuDriver {
  /** As in /sys/class/iommu. */
  readonly name: string;
  /** The driver keeps nothing (objects, table frames, VMIDs) beyond what it had after probe. For leak checks. */
  readonly resources: Readonly<Record<string, number>>;
}
