/** An IOMMU driver for tests: domains that remember what is mapped, and everything countable. */
import { type Errno, fail } from '../abi/errno.ts';
import type {
  Aperture,
  Domain,
  DriverDevice,
  DriverViommu,
  EventSink,
  InvalidateResult,
  IommuDriver,
  NestedDomain,
  PageRequestSink,
  PagingDomain,
  ReservedRegion,
  UserData,
  UserDataArray,
} from '../drivers/iommu-driver.ts';
import { U64_MAX } from './u64.ts';

/** hwInfo() type, vIOMMU type and HWPT data type of the fake. */
export const FAKE_TYPE = 0xfa4e;

/** A step that can be made to fail. */
export type Step = 'allocPaging' | 'map' | 'attach' | 'allocNested' | 'allocViommu' | 'setVirtualDevice';

export interface FakeIommuOptions {
  readonly name?: string;
  readonly pageSizes?: bigint;
  readonly aperture?: Aperture;
  /** Domains attach to devices of IOMMUs with the same family only. */
  readonly family?: string;
  /** Nests directly on a parent and takes commands on the nested HWPT, as in viommu-v2. */
  readonly nestOnParent?: boolean;
}

export class FakeIommu implements IommuDriver {
  readonly name: string;
  readonly resources: { domains: number; viommus: number; virtualDevices: number };
  readonly pageSizes: bigint;
  readonly aperture: Aperture;
  readonly family: string;
  readonly nestOnParent: boolean;
  private readonly failures: Map<Step, { after: number; error: Errno }>;

  constructor(options: FakeIommuOptions = {}) {
    this.name = options.name ?? 'fake0';
    this.resources = { domains: 0, viommus: 0, virtualDevices: 0 };
    this.pageSizes = options.pageSizes ?? 0x40201000n;
    this.aperture = options.aperture ?? { start: 0n, last: 2n ** 48n - 1n };
    this.family = options.family ?? 'fake';
    this.nestOnParent = options.nestOnParent ?? false;
    this.failures = new Map();
  }

  /** The step fails with `error` once, after it went well `after` times. */
  failAt(step: Step, error: Errno, after = 0): void {
    this.failures.set(step, { after, error });
  }

  step(step: Step): void {
    const failure = this.failures.get(step);
    if (!failure || failure.after-- > 0) return;
    this.failures.delete(step);
    throw failure.error;
  }
}

interface Mapping {
  readonly pa: number;
  readonly length: number;
  readonly prot: number;
}

export class FakePagingDomain implements PagingDomain {
  readonly kind: 'paging';
  readonly dirtyTracking: boolean;
  readonly enforceCacheCoherency: boolean;
  readonly nestParent: boolean;
  readonly pageSizes: bigint;
  readonly aperture: Aperture;
  /** What map() was called with, by IOVA. */
  readonly mappings: Map<bigint, Mapping>;
  readonly family: string;
  private readonly iommu: FakeIommu;

  constructor(iommu: FakeIommu, nestParent: boolean) {
    this.kind = 'paging';
    this.dirtyTracking = false;
    this.enforceCacheCoherency = false;
    this.nestParent = nestParent;
    this.pageSizes = iommu.pageSizes;
    this.aperture = iommu.aperture;
    this.mappings = new Map();
    this.family = iommu.family;
    this.iommu = iommu;
    iommu.resources.domains++;
  }

  map(iova: bigint, pa: number, length: number, prot: number): void {
    this.iommu.step('map');
    const smallest = this.pageSizes & -this.pageSizes;
    if ((iova | BigInt(pa) | BigInt(length)) % smallest)
      throw new Error(`map of 0x${iova.toString(16)} is not aligned`);
    if (this.mappings.has(iova)) throw new Error(`0x${iova.toString(16)} is mapped twice`);
    this.mappings.set(iova, { pa, length, prot });
  }

  unmap(iova: bigint, length: bigint): void {
    const end = iova + length;
    while (iova < end) {
      const mapping = this.mappings.get(iova);
      if (!mapping) throw new Error(`0x${iova.toString(16)} is unmapped, but not mapped`);
      this.mappings.delete(iova);
      iova += BigInt(mapping.length);
    }
    if (iova !== end) throw new Error(`unmap up to 0x${end.toString(16)} cuts a mapping`);
  }

  physical(iova: bigint): number | null {
    for (const [start, { pa, length }] of this.mappings) {
      if (iova >= start && iova < start + BigInt(length)) return pa + Number(iova - start);
    }
    return null;
  }

  free(): void {
    if (this.mappings.size) throw new Error('a domain with mappings is freed');
    this.iommu.resources.domains--;
  }
}

export class FakeNestedDomain implements NestedDomain {
  readonly kind: 'nested';
  readonly parent: PagingDomain;
  /** What the user gave. */
  readonly data: Uint8Array;
  readonly invalidate?: (commands: UserDataArray) => InvalidateResult;
  private readonly iommu: FakeIommu;

  constructor(iommu: FakeIommu, parent: PagingDomain, data: UserData) {
    iommu.step('allocNested');
    if (data.type !== FAKE_TYPE) throw fail('EINVAL', `data_type ${data.type} is not ${FAKE_TYPE}`);
    this.data = data.copy(4, 8);
    this.kind = 'nested';
    this.parent = parent;
    if (iommu.nestOnParent) this.invalidate = carryOut;
    this.iommu = iommu;
    iommu.resources.domains++;
  }

  free(): void {
    this.iommu.resources.domains--;
  }
}

export class FakeViommu implements DriverViommu {
  readonly parent: PagingDomain;
  readonly eventTypes: readonly number[];
  readonly virtualDevices: Map<bigint, DriverDevice>;
  onEvent: EventSink | null;
  private readonly iommu: FakeIommu;

  constructor(iommu: FakeIommu, parent: PagingDomain) {
    iommu.step('allocViommu');
    this.parent = parent;
    this.eventTypes = [FAKE_TYPE];
    this.virtualDevices = new Map();
    this.onEvent = null;
    this.iommu = iommu;
    iommu.resources.viommus++;
  }

  allocNested(_flags: number, data: UserData): NestedDomain {
    return new FakeNestedDomain(this.iommu, this.parent, data);
  }

  invalidate(commands: UserDataArray): InvalidateResult {
    return carryOut(commands);
  }

  setVirtualDevice(device: DriverDevice, virtualId: bigint): void {
    this.iommu.step('setVirtualDevice');
    this.virtualDevices.set(virtualId, device);
    this.iommu.resources.virtualDevices++;
  }

  unsetVirtualDevice(_device: DriverDevice, virtualId: bigint): void {
    if (!this.virtualDevices.delete(virtualId)) throw new Error(`virtual ID ${virtualId} is not set`);
    this.iommu.resources.virtualDevices--;
  }

  free(): void {
    if (this.virtualDevices.size) throw new Error('a vIOMMU with devices is freed');
    this.iommu.resources.viommus--;
  }
}

/** Commands of the fake are 8 bytes; one whose first word is not 0 is refused. */
function carryOut(commands: UserDataArray): InvalidateResult {
  if (commands.type !== FAKE_TYPE) throw fail('EINVAL', `data_type ${commands.type} is not ${FAKE_TYPE}`);
  const result: InvalidateResult = { done: 0, error: null };
  try {
    for (; result.done < commands.entryCount; result.done++) {
      if (commands.copy(result.done, 4, 8)[0] !== 0) throw fail('EIO', `entry ${result.done} is no command`);
    }
  } catch (error) {
    result.error = error as Error;
  }
  return result;
}

export interface FakeDeviceOptions {
  readonly streamId?: number;
  readonly reserved?: readonly ReservedRegion[];
  readonly cacheCoherent?: boolean;
  readonly maxPasidLog2?: number;
  readonly hwCapabilities?: bigint;
}

export class FakeDevice implements DriverDevice {
  readonly driver: FakeIommu;
  readonly streamId: number;
  readonly maxPasidLog2: number;
  readonly hwCapabilities: bigint;
  readonly cacheCoherent: boolean;
  readonly viommuTypes: readonly number[];
  /** What it is attached to, by PASID. */
  readonly attached: Map<number, Domain>;
  pageRequests: PageRequestSink | null;
  readonly allocNestedOnParent?: (parent: PagingDomain, flags: number, data: UserData) => NestedDomain;
  private readonly reserved: readonly ReservedRegion[];

  constructor(driver: FakeIommu, options: FakeDeviceOptions = {}) {
    this.driver = driver;
    this.streamId = options.streamId ?? 0;
    this.maxPasidLog2 = options.maxPasidLog2 ?? 0;
    this.hwCapabilities = options.hwCapabilities ?? 0n;
    this.cacheCoherent = options.cacheCoherent ?? true;
    this.viommuTypes = [0, FAKE_TYPE];
    this.attached = new Map();
    this.pageRequests = null;
    this.reserved = options.reserved ?? [];
    if (driver.nestOnParent) {
      this.allocNestedOnParent = (parent, _flags, data) => new FakeNestedDomain(driver, parent, data);
    }
  }

  reservedRegions(): ReservedRegion[] {
    return [...this.reserved];
  }

  hwInfo(type: number): { type: number; data: Uint8Array } {
    if (type !== 0 && type !== FAKE_TYPE) throw fail('EOPNOTSUPP', `in_data_type ${type} is not ${FAKE_TYPE}`);
    return { type: FAKE_TYPE, data: Uint8Array.of(0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4) };
  }

  allocPaging(flags: number, data: UserData | null): PagingDomain {
    this.driver.step('allocPaging');
    if (data) throw fail('EOPNOTSUPP', 'a paging domain takes no data');
    return new FakePagingDomain(this.driver, (flags & 1) !== 0);
  }

  allocViommu(_type: number, parent: PagingDomain): DriverViommu {
    return new FakeViommu(this.driver, parent);
  }

  attach(domain: Domain | null, pasid: number): void {
    if (domain === null) {
      this.attached.delete(pasid);
      return;
    }
    this.driver.step('attach');
    const paging = (domain.kind === 'nested' ? domain.parent : domain) as FakePagingDomain;
    if (paging.family !== this.driver.family) throw fail('EINVAL', `the domain is of ${paging.family}`);
    this.attached.set(pasid, domain);
  }

  /** The physical address that DMA at `iova` reaches, or null. */
  dma(iova: bigint, pasid = 0): number | null {
    const domain = this.attached.get(pasid);
    if (!domain) return null;
    return (domain.kind === 'nested' ? domain.parent : domain).physical(iova);
  }
}

/** A fake aperture without limits. */
export const WHOLE_SPACE: Aperture = { start: 0n, last: U64_MAX };
