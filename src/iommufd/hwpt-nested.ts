/** Nested HWPT: a stage 1 of the user's on top of a nesting parent, either directly or inside a vIOMMU. */
import { fail } from '../abi/errno.ts';
import { IOMMU_HWPT_ALLOC_PASID, IOMMU_HWPT_FAULT_ID_VALID } from '../abi/iommufd.ts';
import type { NestedDomain, UserData } from '../drivers/iommu-driver.ts';
import type { IommufdDevice } from './device.ts';
import type { FaultQueue } from './fault-queue.ts';
import { hex } from './format.ts';
import type { HwptPaging } from './hwpt-paging.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import type { Viommu } from './viommu.ts';

/** What a device can be attached to. */
export type Hwpt = HwptPaging | HwptNested;

export class HwptNested extends IommufdObject {
  readonly domain: NestedDomain;
  /** What it was allocated on. */
  readonly base: HwptPaging | Viommu;
  readonly parent: HwptPaging;
  readonly pasidCompatible: boolean;
  /** Where page requests of what is attached to it go. */
  faultQueue: FaultQueue | null;

  constructor(domain: NestedDomain, base: HwptPaging | Viommu, parent: HwptPaging, flags: number) {
    super();
    this.domain = domain;
    this.base = use(base);
    this.parent = parent;
    this.pasidCompatible = (flags & IOMMU_HWPT_ALLOC_PASID) !== 0;
    this.faultQueue = null;
  }

  /** EOPNOTSUPP when the driver nests only inside vIOMMUs, EINVAL when `parent` is no nesting parent of its kind. */
  static allocOnParent(parent: HwptPaging, device: IommufdDevice, flags: number, data: UserData): HwptNested {
    checkNested(device, flags, data);
    const { physical } = device;
    if (!physical.allocNestedOnParent) {
      throw fail('EOPNOTSUPP', `pt_id ${parent.id} is a paging HWPT: this IOMMU nests only inside a vIOMMU`);
    }
    if (parent.auto || !parent.nestParent) {
      throw fail('EINVAL', `pt_id ${parent.id} was not allocated with IOMMU_HWPT_ALLOC_NEST_PARENT`);
    }
    const domain = physical.allocNestedOnParent(parent.domain, flags & ~IOMMU_HWPT_FAULT_ID_VALID, data);
    return new HwptNested(domain, parent, parent, flags);
  }

  /** EINVAL when `device` is behind another pIOMMU than `viommu`. */
  static allocOnViommu(viommu: Viommu, device: IommufdDevice, flags: number, data: UserData): HwptNested {
    viommu.checkDevice(device);
    checkNested(device, flags, data);
    const domain = viommu.driver.allocNested(flags & ~IOMMU_HWPT_FAULT_ID_VALID, data);
    return new HwptNested(domain, viommu, viommu.parent, flags);
  }

  get kind(): 'hwpt-nested' {
    return 'hwpt-nested';
  }

  get paging(): HwptPaging {
    return this.parent;
  }

  destroy(): void {
    this.domain.free();
    if (this.faultQueue) unuse(this.faultQueue);
    unuse(this.base);
  }
}

function checkNested(device: IommufdDevice, flags: number, data: UserData): void {
  const known = device.context.dialect.accepted.nestedHwptAllocFlags;
  if (flags & ~known) throw fail('EOPNOTSUPP', `flags ${hex(flags)} of a nested HWPT has bits beyond ${hex(known)}`);
  if (!data.length) throw fail('EOPNOTSUPP', 'data_len is 0, but a nested HWPT needs data of the driver');
}
