/** A device of the mock driver. It makes no DMA: tests act in its place. */
import { fail } from '../../abi/errno.ts';
import {
  IOMMU_HW_INFO_SELFTEST_REGVAL,
  IOMMU_HW_INFO_TYPE_SELFTEST,
  IOMMU_TEST_DEV_CACHE_DEFAULT,
  IOMMU_TEST_PASID_RESERVED,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  MOCK_DEV_CACHE_NUM,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_FLAGS_DEVICE_PASID,
  MOCK_PASID_WIDTH,
  TestHwInfo,
} from '../../abi/iommufd-test.ts';
import { mayFail } from '../failure-points.ts';
import type {
  Domain,
  DriverDevice,
  DriverViommu,
  NestedDomain,
  PagingDomain,
  ReservedRegion,
  UserData,
} from '../iommu-driver.ts';
import type { MockIommu } from './mock-iommu.ts';
import { MockNestedDomain } from './nested-domain.ts';
import { MockPagingDomain } from './paging-domain.ts';
import { MockViommu } from './viommu.ts';

const CAP_DIRTY_TRACKING = 1n;
const CAP_ATS_NOT_SUPPORTED = 8n;

export class MockDevice implements DriverDevice {
  readonly driver: MockIommu;
  readonly name: string;
  readonly streamId: number;
  readonly maxPasidLog2: number;
  readonly hwCapabilities: bigint;
  readonly cacheCoherent: boolean;
  readonly viommuTypes: readonly number[];
  readonly cache: Uint32Array;
  /** What it was attached to in a vIOMMU, and by what ID it was known there at that time. */
  private viommu: MockViommu | null;
  private virtualId: bigint;
  private readonly flags: number;
  /** The next attach of IOMMU_TEST_PASID_RESERVED fails. */
  private failsNext: boolean;

  /** @param flags MOCK_FLAGS_DEVICE_*: EINVAL for others */
  constructor(driver: MockIommu, number: number, flags: number) {
    const known = driver.release.deviceFlags;
    if (flags & ~known)
      throw fail('EINVAL', `dev_flags 0x${flags.toString(16)} has bits beyond 0x${known.toString(16)}`);
    this.driver = driver;
    this.name = `iommufd_mock${number}`;
    this.streamId = number;
    this.maxPasidLog2 = flags & MOCK_FLAGS_DEVICE_PASID ? MOCK_PASID_WIDTH : 0;
    this.flags = flags;
    this.hwCapabilities = CAP_ATS_NOT_SUPPORTED | (this.tracksDirty ? CAP_DIRTY_TRACKING : 0n);
    this.cacheCoherent = true;
    this.viommuTypes = [IOMMU_VIOMMU_TYPE_SELFTEST];
    this.cache = new Uint32Array(MOCK_DEV_CACHE_NUM).fill(IOMMU_TEST_DEV_CACHE_DEFAULT);
    this.viommu = null;
    this.virtualId = 0n;
    this.failsNext = false;
  }

  private get tracksDirty(): boolean {
    return !(this.flags & MOCK_FLAGS_DEVICE_NO_DIRTY);
  }

  reservedRegions(): ReservedRegion[] {
    return [];
  }

  hwInfo(type: number): { type: number; data: Uint8Array } {
    if (type !== 0 && type !== IOMMU_HW_INFO_TYPE_SELFTEST) {
      throw fail('EOPNOTSUPP', `in_data_type 0x${type.toString(16)} is not the mock driver's`);
    }
    const info = new TestHwInfo();
    info.testReg = IOMMU_HW_INFO_SELFTEST_REGVAL;
    return { type: IOMMU_HW_INFO_TYPE_SELFTEST, data: info.bytes };
  }

  allocPaging(flags: number, data: UserData | null): PagingDomain {
    return this.driver.allocPaging(flags, data, this.flags);
  }

  allocNestedOnParent(parent: PagingDomain, flags: number, data: UserData): NestedDomain {
    if (!(parent instanceof MockPagingDomain)) throw fail('EINVAL', 'the parent is not of the mock driver');
    return this.driver.allocNested(parent, null, flags, data);
  }

  allocViommu(_type: number, parent: PagingDomain, data: UserData | null): DriverViommu {
    return new MockViommu(this.driver, parent as MockPagingDomain, data);
  }

  attach(domain: Domain | null, pasid: number): void {
    if (domain) mayFail('an attachment of the driver');
    if (pasid === 0) this.attachDevice(domain);
    else this.attachPasid(domain, pasid);
  }

  /** An event for the vIOMMU that it is attached in: ENOENT without one, or without a virtual ID that is not 0. */
  eventTarget(): { viommu: MockViommu; virtualId: bigint } {
    if (!this.viommu || !this.virtualId) throw fail('ENOENT', `${this.name} is not known to a vIOMMU`);
    return { viommu: this.viommu, virtualId: this.virtualId };
  }

  private attachDevice(domain: Domain | null): void {
    if (domain?.kind === 'paging' && domain.dirtyTracking && !this.tracksDirty) {
      throw fail('EINVAL', `${this.name} cannot track writes, and the domain does`);
    }
    const viommu = domain instanceof MockNestedDomain ? domain.viommu : null;
    const virtualId = viommu ? viommu.virtualIdOf(this) : 0n;
    // An attach within the same vIOMMU keeps the ID.
    if (viommu === this.viommu) return;
    this.viommu = viommu;
    this.virtualId = virtualId;
  }

  private attachPasid(domain: Domain | null, pasid: number): void {
    // The core takes every PASID of a device that sends none, and does not tell the driver.
    if (this.maxPasidLog2 === 0) return;
    if (domain && pasid >= 2 ** this.maxPasidLog2) {
      throw fail('EINVAL', `pasid ${pasid} is beyond the ${this.maxPasidLog2} bits of ${this.name}`);
    }
    if (pasid !== IOMMU_TEST_PASID_RESERVED) return;
    const fails = domain !== null && this.failsNext;
    this.failsNext = domain !== null && !fails;
    if (fails) throw fail('ENOMEM', `PASID ${pasid} of ${this.name} fails every second time`);
  }
}
