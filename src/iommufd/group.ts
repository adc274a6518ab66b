/** Devices that no IOMMU can tell apart: they belong to one iommufd, and are attached to the same thing. */
import { fail } from '../abi/errno.ts';
import type { IommufdDevice } from './device.ts';
import type { Hwpt } from './hwpt-nested.ts';
import type { MessagePage } from './message-pages.ts';

/** The PASID of requests without one. */
export const NO_PASID = 0;

export interface Attachment {
  hwpt: Hwpt;
  readonly devices: Set<IommufdDevice>;
}

export class DeviceGroup {
  readonly key: object;
  /** By PASID. */
  readonly attachments: Map<number, Attachment>;
  /** Where its devices send messages: mapped in whatever it is attached to. */
  readonly messagePages: Set<MessagePage>;
  private readonly groups: Map<object, DeviceGroup>;
  private members: number;

  private constructor(groups: Map<object, DeviceGroup>, key: object) {
    this.key = key;
    this.attachments = new Map();
    this.messagePages = new Set();
    this.groups = groups;
    this.members = 0;
  }

  /** The group of `key` among `groups` with one member more; ends with leave() of the last. */
  static of(groups: Map<object, DeviceGroup>, key: object): DeviceGroup {
    let group = groups.get(key);
    if (!group) groups.set(key, (group = new DeviceGroup(groups, key)));
    group.members++;
    return group;
  }

  leave(): void {
    if (--this.members === 0) this.groups.delete(this.key);
  }

  /** EINVAL unless everything attached beside a PASID was allocated with IOMMU_HWPT_ALLOC_PASID. */
  checkPasid(hwpt: Hwpt, pasid: number): void {
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
const claims = new WeakMap<object, Claim>();

/** Takes the DMA of a group for `context`, once more: EPERM when another one has it. */
export function claimDma(groupKey: object, context: object, owner: string): void {
  const claim = claims.get(groupKey);
  if (claim && claim.context !== context) throw fail('EPERM', `another iommufd has the group of ${owner}`);
  if (claim) claim.count++;
  else claims.set(groupKey, { context, count: 1 });
}

export function releaseDma(groupKey: object): void {
  const claim = claims.get(groupKey)!;
  if (--claim.count === 0) claims.delete(groupKey);
}
