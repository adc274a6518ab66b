/** Page requests of one device of a group, until they are complete: those of a group of requests wait for the last one. */
import { IOMMU_PGFAULT_FLAGS_LAST_PAGE, IOMMUFD_PAGE_RESP_INVALID } from '../abi/iommufd.ts';
import type { PageRequest, PageRequestSink, Respond } from '../drivers/iommu-driver.ts';
import type { DeviceGroup } from './group.ts';

/** Memory is not without end: requests of incomplete groups beyond these are lost. */
export const MOST_PARTIAL = 2 ** 10;

export class PageRequests implements PageRequestSink {
  private readonly group: DeviceGroup;
  private partial: PageRequest[];

  constructor(group: DeviceGroup) {
    this.group = group;
    this.partial = [];
  }

  /** Requests whose group's last one has not come yet. */
  get waiting(): number {
    return this.partial.length;
  }

  /** A complete group goes to the fault queue of what it is for. Without one it is answered INVALID. */
  report(request: PageRequest, respond: Respond): void {
    if (!(request.flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE)) {
      if (this.partial.length < MOST_PARTIAL) this.partial.push(request);
      return;
    }
    const requests = [...this.partial.filter(({ group }) => group === request.group), request];
    this.partial = this.partial.filter(({ group }) => group !== request.group);
    const attachment = this.group.handlerOf(request);
    const queue = attachment?.hwpt.faultQueue;
    if (attachment && queue) queue.push({ attachment, requests, respond });
    else respond(IOMMUFD_PAGE_RESP_INVALID);
  }

  discardPartial(): void {
    this.partial = [];
  }
}
