/** The kernel's mock IOMMU driver: one pIOMMU, and devices that tests make and destroy. */
import { fail } from '../../abi/errno.ts';
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
} from '../../abi/iommufd.ts';
import { HwptSelftest, IOMMU_HWPT_DATA_SELFTEST, MOCK_IOMMUPT_HUGE } from '../../abi/iommufd-test.ts';
import type { IommuDriver, UserData } from '../iommu-driver.ts';
import { MockDevice } from './device.ts';
import { MockNestedDomain } from './nested-domain.ts';
import { MockPagingDomain } from './paging-domain.ts';
import type { MockViommu } from './viommu.ts';

const PAGING_FLAGS = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_PASID;

export class MockIommu implements IommuDriver {
  readonly name: string;
  readonly resources: { devices: number; domains: number; viommus: number };
  private readonly devices: Set<number>;

  constructor() {
    this.name = 'iommufd_selftest_iommu.0';
    this.resources = { devices: 0, domains: 0, viommus: 0 };
    this.devices = new Set();
  }

  /** @param flags MOCK_FLAGS_DEVICE_* */
  createDevice(flags: number): MockDevice {
    let number = 0;
    while (this.devices.has(number)) number++;
    const device = new MockDevice(this, number, flags);
    this.devices.add(number);
    this.resources.devices = this.devices.size;
    return device;
  }

  destroyDevice(device: MockDevice): void {
    this.devices.delete(device.streamId);
    this.resources.devices = this.devices.size;
  }

  /** @param tracksDirty of the device that it is for */
  allocPaging(flags: number, data: UserData | null, tracksDirty: boolean): MockPagingDomain {
    const dirtyTracking = (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
    if (flags & ~PAGING_FLAGS || (dirtyTracking && !tracksDirty)) {
      throw fail('EOPNOTSUPP', `flags 0x${flags.toString(16)}: a mock domain for this device cannot have them all`);
    }
    const type = data ? pageTableType(data) : 0;
    if (type > MOCK_IOMMUPT_HUGE) throw fail('EOPNOTSUPP', `pagetable_type ${type} is unknown`);
    const nestParent = (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    this.resources.domains++;
    return new MockPagingDomain({ nestParent, dirtyTracking, huge: type === MOCK_IOMMUPT_HUGE }, () =>
      this.domainFreed(),
    );
  }

  allocNested(parent: MockPagingDomain, viommu: MockViommu | null, flags: number, data: UserData): MockNestedDomain {
    if (flags & ~IOMMU_HWPT_ALLOC_PASID)
      throw fail('EOPNOTSUPP', `flags 0x${flags.toString(16)} of a nested mock domain`);
    const domain = new MockNestedDomain(parent, viommu, data, () => this.domainFreed());
    this.resources.domains++;
    return domain;
  }

  private domainFreed(): void {
    this.resources.domains--;
  }
}

function pageTableType(data: UserData): number {
  if (data.type !== IOMMU_HWPT_DATA_SELFTEST) {
    throw fail('EOPNOTSUPP', `data_type ${data.type} is not ${IOMMU_HWPT_DATA_SELFTEST}`);
  }
  return new HwptSelftest(data.copy(HwptSelftest.end('iotlb'), HwptSelftest.size)).pagetableType;
}
