/** Paging HWPT: a domain of an IOMMU driver that translates what an IOAS maps. */
import { fail } from '../abi/errno.ts';
import { IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_HWPT_ALLOC_PASID, IOMMU_HWPT_FAULT_ID_VALID } from '../abi/iommufd.ts';
import { type PagingDomain, PROT_READ, PROT_WRITE, type UserData } from '../drivers/iommu-driver.ts';
import type { IommufdDevice } from './device.ts';
import type { FaultQueue } from './fault-queue.ts';
import { hex } from './format.ts';
import type { Ioas } from './ioas.ts';
import type { MessagePage } from './message-pages.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { PAGE_BYTES } from './pages.ts';

export class HwptPaging extends IommufdObject {
  readonly ioas: Ioas;
  readonly domain: PagingDomain;
  readonly nestParent: boolean;
  /** May be attached to a PASID, or beside other PASIDs. */
  readonly pasidCompatible: boolean;
  /** Where page requests of what is attached to it go. */
  faultQueue: FaultQueue | null;
  /** Made by attaching a device to the IOAS; ends with the last attachment. */
  auto: boolean;
  private readonly messagePages: Set<MessagePage>;

  constructor(ioas: Ioas, domain: PagingDomain, flags: number) {
    super();
    this.ioas = use(ioas);
    this.domain = domain;
    this.nestParent = (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    this.pasidCompatible = (flags & IOMMU_HWPT_ALLOC_PASID) !== 0;
    this.faultQueue = null;
    this.auto = false;
    this.messagePages = new Set();
  }

  /**
   * A domain for `device`. It translates nothing before fill().
   * @param flags IOMMU_HWPT_ALLOC_*; EOPNOTSUPP for those that the dialect or the driver does not know
   */
  static alloc(ioas: Ioas, device: IommufdDevice, flags: number, data: UserData | null): HwptPaging {
    const known = device.context.dialect.accepted.hwptAllocFlags;
    if (flags & ~known) throw fail('EOPNOTSUPP', `flags ${hex(flags)} has bits beyond ${hex(known)}`);
    if (flags & IOMMU_HWPT_FAULT_ID_VALID && flags & IOMMU_HWPT_ALLOC_NEST_PARENT) {
      throw fail('EOPNOTSUPP', `flags ${hex(flags)}: a nesting parent takes no fault queue`);
    }
    return new HwptPaging(ioas, device.physical.allocPaging(flags & ~IOMMU_HWPT_FAULT_ID_VALID, data), flags);
  }

  /** Maps what the IOAS maps, from now on. */
  fill(): void {
    this.ioas.table.addDomain(this.domain);
    this.ioas.hwpts.add(this);
  }

  /** Maps a page in the window that the device to be attached reserves, where it stays as long as the domain. ENOMEM. */
  mapMessagePage(page: MessagePage): void {
    if (this.messagePages.has(page)) return;
    this.domain.map(page.iova, page.physical, Number(PAGE_BYTES), PROT_READ | PROT_WRITE);
    this.messagePages.add(page);
  }

  get kind(): 'hwpt-paging' {
    return 'hwpt-paging';
  }

  /** The paging HWPT whose IOAS is in effect where this one is attached. */
  get paging(): HwptPaging {
    return this;
  }

  destroy(): void {
    if (this.ioas.hwpts.delete(this)) this.ioas.table.removeDomain(this.domain);
    for (const { iova } of this.messagePages) this.domain.unmap(iova, PAGE_BYTES);
    this.domain.free();
    if (this.faultQueue) unuse(this.faultQueue);
    unuse(this.ioas);
  }
}
