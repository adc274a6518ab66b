/** The kernel's mock IOMMU driver: one pIOMMU, and devices that tests make and destroy. */
import { fail } from '../../abi/errno.ts';
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
} from '../../abi/iommufd.ts';
import {
  HwptSelftest,
  IOMMU_HWPT_DATA_SELFTEST,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_IOMMUPT_HUGE,
} from '../../abi/iommufd-test.ts';
import { MOCK_FLAGS_DEVICE_HUGE_IOVA, type MockRelease } from '../../abi/mock-dialect.ts';
import { mayFail } from '../failure-points.ts';
import type { IommuDriver, UserData } from '../iommu-driver.ts';
import { MockDevice } from './device.ts';
import { MockNestedDomain } from './nested-domain.ts';
import { type DomainLayout, MockPagingDomain } from './paging-domain.ts';
import type { MockViommu } from './viommu.ts';

const PAGING_FLAGS = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_PASID;

export class MockIommu implements IommuDriver {
  readonly name: string;
  readonly release: MockRelease;
  readonly resources: { devices: number; domains: number; viommus: number };
  private readonly devices: Set<number>;

  constructor(release: MockRelease) {
    this.release = release;
    this.name = 'iommufd_selftest_iommu.0';
    this.resources = { devices: 0, domains: 0, viommus: 0 };
    this.devices = new Set();
  }

  /** @param flags MOCK_FLAGS_DEVICE_* */
  createDevice(flags: number): MockDevice {
    let number = 0;
    while (this.devices.has(number)) number++;
    mayFail('a mock device');
    const device = new MockDevice(this, number, flags);
    this.devices.add(number);
    this.resources.devices = this.devices.size;
    return device;
  }

  destroyDevice(device: MockDevice): void {
    this.devices.delete(device.streamId);
    this.resources.devices = this.devices.size;
  }

  /** @param deviceFlags MOCK_FLAGS_DEVICE_* of the device that it is for */
  allocPaging(flags: number, data: UserData | null, deviceFlags: number): MockPagingDomain {
    const dirtyTracking = (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
    if (flags & ~PAGING_FLAGS || (dirtyTracking && deviceFlags & MOCK_FLAGS_DEVICE_NO_DIRTY)) {
      throw fail('EOPNOTSUPP', `flags 0x${flags.toString(16)}: a mock domain for this device cannot have them all`);
    }
    const nestParent = (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    const layout = this.layoutOf(data, deviceFlags);
    mayFail('a paging domain');
    this.resources.domains++;
    return new MockPagingDomain({ nestParent, dirtyTracking, layout }, () => this.domainFreed());
  }

  allocNested(parent: MockPagingDomain, viommu: MockViommu | null, flags: number, data: UserData): MockNestedDomain {
    if (flags & ~IOMMU_HWPT_ALLOC_PASID) {
      throw fail('EOPNOTSUPP', `flags 0x${flags.toString(16)} of a nested mock domain`);
    }
    const { hwptDataBytes } = this.release;
    mayFail('a nested domain');
    const domain = new MockNestedDomain(parent, viommu, hwptSelftest(data, hwptDataBytes), () => this.domainFreed());
    this.resources.domains++;
    return domain;
  }

  private layoutOf(data: UserData | null, deviceFlags: number): DomainLayout {
    const { pageTable, hwptDataBytes } = this.release;
    if (pageTable === 'flat') {
      if (data) throw fail('EOPNOTSUPP', 'a paging domain of this release takes no data');
      return deviceFlags & MOCK_FLAGS_DEVICE_HUGE_IOVA ? 'flat-huge' : 'flat';
    }
    const type = data ? hwptSelftest(data, hwptDataBytes).pagetableType : 0;
    if (type > MOCK_IOMMUPT_HUGE) throw fail('EOPNOTSUPP', `pagetable_type ${type} is unknown`);
    return type === MOCK_IOMMUPT_HUGE ? 'huge' : 'default';
  }

  private domainFreed(): void {
    this.resources.domains--;
  }
}

/** The driver's data of HWPT_ALLOC. EOPNOTSUPP when it is of another type. */
function hwptSelftest(data: UserData, size: number): InstanceType<typeof HwptSelftest> {
  if (data.type !== IOMMU_HWPT_DATA_SELFTEST) {
    throw fail('EOPNOTSUPP', `data_type ${data.type} is not ${IOMMU_HWPT_DATA_SELFTEST}`);
  }
  const bytes = new Uint8Array(HwptSelftest.size);
  bytes.set(data.copy(HwptSelftest.end('iotlb'), size));
  return new HwptSelftest(bytes);
}
