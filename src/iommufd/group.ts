/**
 * Devices that no IOMMU can tell apart: they belong to one iommufd, and are attached to the same thing. The first of them
 * to be attached takes all others along, bound or not; they stay until the last one that was attached itself leaves.
 */
import { fail } from '../abi/errno.ts';
import { IOMMU_PGFAULT_FLAGS_PASID_VALID } from '../abi/iommufd.ts';
import type { DriverDevice, PageRequest } from '../drivers/iommu-driver.ts';
import { allOrNothing } from './all-or-nothing.ts';
import type { IommufdDevice } from './device.ts';
import type { Hwpt } from './hwpt-nested.ts';
import type { MessagePage } from './message-pages.ts';
import { PageRequests } from './page-requests.ts';

/** The PASID of requests without one. */
export const NO_PASID = 0;

/** A group as the machine has it. */
export interface IommuGroup {
  /** All of its devices, always the same. */
  readonly members: readonly DriverDevice[];
}

const alone = new WeakMap<DriverDevice, IommuGroup>();

/** The group of a device that every IOMMU can tell from all others. */
export function groupOfOne(device: DriverDevice): IommuGroup {
  let group = alone.get(device);
  if (!group) alone.set(device, (group = { members: [device] }));
  return group;
}

export interface Attachment {
  hwpt: Hwpt;
  /** Those that were attached themselves. */
  readonly devices: Set<IommufdDevice>;
  /** In whose name page requests of the whole group are reported: the one that attached or moved it. */
  spokesman: IommufdDevice;
}

export class DeviceGroup {
  readonly key: IommuGroup;
  /** By PASID. */
  readonly attachments: Map<number, Attachment>;
  /** Where its devices send messages: mapped in whatever it is attached to. */
  private readonly messagePages: Set<MessagePage>;
  private readonly pageRequests: readonly PageRequests[];
  private readonly groups: Map<object, DeviceGroup>;
  private bound: number;

  private constructor(groups: Map<object, DeviceGroup>, key: IommuGroup) {
    this.key = key;
    this.attachments = new Map();
    this.messagePages = new Set();
    this.pageRequests = key.members.map((member) => {
      const requests = new PageRequests(this);
      member.pageRequests = requests;
      return requests;
    });
    this.groups = groups;
    this.bound = 0;
  }

  /** The group of `key` among `groups` with one bound device more; ends with leave() of the last. */
  static of(groups: Map<object, DeviceGroup>, key: IommuGroup): DeviceGroup {
    let group = groups.get(key);
    if (!group) groups.set(key, (group = new DeviceGroup(groups, key)));
    group.bound++;
    return group;
  }

  leave(): void {
    if (--this.bound > 0) return;
    for (const member of this.key.members) member.pageRequests = null;
    this.groups.delete(this.key);
  }

  /** Has all devices translated by `hwpt` in place of `old`, or changes nothing. Errnos of DriverDevice.attach(). */
  translateBy(hwpt: Hwpt, old: Hwpt | null, pasid: number): void {
    if (pasid === NO_PASID) for (const page of this.messagePages) hwpt.paging.mapMessagePage(page);
    this.checkPasid(hwpt, pasid);
    allOrNothing(
      this.key.members,
      (member) => member.attach(hwpt.domain, pasid),
      (member) => member.attach(old?.domain ?? null, pasid),
    );
  }

  /** Blocks DMA of all devices. */
  block(pasid: number): void {
    for (const member of this.key.members) member.attach(null, pasid);
  }

  /** From now on every device can write messages to `page`, here and wherever the group is attached later. ENOMEM. */
  mapMessagePage(hwpt: Hwpt, page: MessagePage): void {
    hwpt.paging.mapMessagePage(page);
    this.messagePages.add(page);
  }

  /** Where page requests go. A PASID that is not attached itself belongs to the program's own stage 1, if there is one. */
  handlerOf({ flags, pasid }: PageRequest): Attachment | null {
    const withoutPasid = this.attachments.get(NO_PASID) ?? null;
    if (!(flags & IOMMU_PGFAULT_FLAGS_PASID_VALID)) return withoutPasid;
    return this.attachments.get(pasid) ?? (withoutPasid?.hwpt.kind === 'hwpt-nested' ? withoutPasid : null);
  }

  /** When nothing is left that has page requests answered, those whose group is not complete are forgotten. */
  forgetPartialRequests(): void {
    for (const { hwpt } of this.attachments.values()) if (hwpt.faultQueue) return;
    for (const requests of this.pageRequests) requests.discardPartial();
  }

  /** EINVAL unless everything attached beside a PASID was allocated with IOMMU_HWPT_ALLOC_PASID. */
  private checkPasid(hwpt: Hwpt, pasid: number): void {
    const besides = [...this.attachments].filter(([attached]) => (attached === NO_PASID) !== (pasid === NO_PASID));
    if (pasid === NO_PASID && besides.length === 0) return;
    if (hwpt.pasidCompatible && besides.every(([, attachment]) => attachment.hwpt.pasidCompatible)) return;
    throw fail('EINVAL', `HWPT ${hwpt.id} or what is attached beside it lacks IOMMU_HWPT_ALLOC_PASID`);
  }
}

interface Claim {
  readonly context: object;
  count: number;
}

/** Which iommufd has the devices of a group. A fact of the machine, whatever number of iommufds there are. */
const claims = new WeakMap<IommuGroup, Claim>();

/** Takes the DMA of a group for `context`, once more: EPERM when another one has it. */
export function claimDma(group: IommuGroup, context: object, owner: string): void {
  const claim = claims.get(group);
  if (claim && claim.context !== context) throw fail('EPERM', `another iommufd has the group of ${owner}`);
  if (claim) claim.count++;
  else claims.set(group, { context, count: 1 });
}

export function releaseDma(group: IommuGroup): void {
  const claim = claims.get(group)!;
  if (--claim.count === 0) claims.delete(group);
}
