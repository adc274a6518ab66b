/**
 * A device bound to an iommufd, and what it is attached to. vfio makes it with bind() and ends it with unbind(): no ioctl
 * of ours does. DMA goes through the hardware page table that its group is attached to, per PASID.
 */
import { Errno, fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { DriverDevice } from '../drivers/iommu-driver.ts';
import { allOrNothing } from './all-or-nothing.ts';
import type { IommufdContext } from './context.ts';
import { type Attachment, claimDma, DeviceGroup, groupOfOne, type IommuGroup, NO_PASID, releaseDma } from './group.ts';
import { type Hwpt, HwptNested } from './hwpt-nested.ts';
import { HwptPaging } from './hwpt-paging.ts';
import { Ioas } from './ioas.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import type { VirtualId } from './vdevice.ts';

export class IommufdDevice extends IommufdObject {
  readonly context: IommufdContext;
  readonly physical: DriverDevice;
  readonly group: DeviceGroup;
  /** What binds it, in words: 'vfio0'. */
  readonly owner: string;
  /** What vIOMMUs know it by: one, or in some releases any number. */
  readonly virtualIds: Set<VirtualId>;
  private readonly holdsContext: boolean;

  constructor(
    context: IommufdContext,
    physical: DriverDevice,
    owner: string,
    group: DeviceGroup,
    holdsContext: boolean,
  ) {
    super();
    this.context = context;
    this.physical = physical;
    this.owner = owner;
    this.group = group;
    this.virtualIds = new Set();
    this.holdsContext = holdsContext;
  }

  /**
   * Binds a device to an iommufd, which then stays until unbind(). EINVAL when the device's DMA does not snoop caches,
   * EPERM when another iommufd has a device of its group.
   * @param iommuGroup all devices that no IOMMU can tell from this one; by default it is alone
   * @param holdsContext false when it is an object of the iommufd that binds: the iommufd then ends without unbind()
   */
  static override bind(
    context: IommufdContext,
    physical: DriverDevice,
    owner: string,
    iommuGroup: IommuGroup = groupOfOne(physical),
    holdsContext = true,
  ): IommufdDevice {
    if (!physical.cacheCoherent) throw fail('EINVAL', `DMA of ${owner} is not cache coherent`);
    mayFail('a group');
    claimDma(iommuGroup, context, owner);
    const group = DeviceGroup.of(context.groups, iommuGroup);
    const device = new IommufdDevice(context, physical, owner, group, holdsContext);
    context.objects.reserve(device);
    context.objects.publish(device);
    if (holdsContext) context.hold();
    return use(device);
  }

  get kind(): 'device' {
    return 'device';
  }

  /** Ends bind(), after the last detach. A vDEVICE of it goes first, and its ID is not used again. */
  unbind(): void {
    for (const virtualId of this.virtualIds) {
      if (virtualId.vdevice) virtualId.vdevice.deviceGoes();
      else virtualId.unset();
    }
    unuse(this);
    this.context.objects.remove(this.id);
    if (this.holdsContext) this.context.drop();
  }

  destroy(): void {
    this.group.leave();
    releaseDma(this.group.key);
  }

  /**
   * Attaches to an IOAS (by a domain that is shared or made for it) or an HWPT. EINVAL when the group is attached to
   * another one, or when `ptId` names something else; ENOENT when it names nothing.
   * @returns the ID of the HWPT
   */
  attach(ptId: number, pasid = NO_PASID): number {
    const id = this.changeTable(
      ptId,
      (hwpt) => this.attachHwpt(hwpt, pasid),
      (hwpt) => this.attachAndFill(hwpt, pasid),
    );
    use(this);
    return id;
  }

  /** Like attach(), when attached already. There is no moment without translation, and no change when it fails. */
  replace(ptId: number, pasid = NO_PASID): number {
    const change = (hwpt: Hwpt): void => this.replaceHwpt(hwpt, pasid);
    return this.changeTable(ptId, change, (hwpt) => {
      hwpt.fill();
      change(hwpt);
    });
  }

  /**
   * From now on the device can write messages to the page at `physical`, whatever its group is attached to. ENOSPC when
   * that is nothing, as the MSI core of kernels says then; ENOMEM.
   * @returns the page's address for the device, or null when its messages are not translated
   */
  mapMessagePage(physical: number): bigint | null {
    const window = this.physical.reservedRegions().find(({ type }) => type === 'software-msi');
    if (!window) return null;
    const hwpt = this.group.attachments.get(NO_PASID)?.hwpt;
    if (!hwpt) throw fail('ENOSPC', `DMA of ${this.owner} is blocked: nothing can map a page for its messages`);
    const page = this.context.messagePages.place(physical, window.start);
    this.group.mapMessagePage(hwpt, page);
    return page.iova;
  }

  /** Blocks DMA, unless others of its group are attached. Does nothing when not attached. */
  detach(pasid = NO_PASID): void {
    if (this.leave(pasid)) unuse(this);
  }

  /** What it was attached to itself, or null. */
  attached(pasid = NO_PASID): Hwpt | null {
    const attachment = this.group.attachments.get(pasid);
    return attachment?.devices.has(this) ? attachment.hwpt : null;
  }

  /** Makes `change` to what `ptId` names; to a new domain of an IOAS, `changeToNew`, which fills it too. */
  private changeTable(ptId: number, change: (hwpt: Hwpt) => void, changeToNew: (hwpt: HwptPaging) => void): number {
    const table = this.context.objects.get(ptId, IommufdObject, 'pt_id');
    if (table instanceof Ioas) return (this.autoDomain(table, change) ?? this.newAutoDomain(table, changeToNew)).id;
    if (!(table instanceof HwptPaging || table instanceof HwptNested)) {
      throw fail('EINVAL', `pt_id ${ptId} is a ${table.kind}: an IOAS or HWPT is needed`);
    }
    change(table);
    return table.id;
  }

  /** The first automatic domain of `ioas` that takes the device. */
  private autoDomain(ioas: Ioas, change: (hwpt: Hwpt) => void): HwptPaging | null {
    for (const hwpt of ioas.hwpts) {
      if (!hwpt.auto) continue;
      try {
        change(hwpt);
        return hwpt;
      } catch (error) {
        // EINVAL says that this domain does not fit; anything else is the answer.
        if (!(error instanceof Errno && error.code === 'EINVAL')) throw error;
      }
    }
    return null;
  }

  private newAutoDomain(ioas: Ioas, change: (hwpt: HwptPaging) => void): HwptPaging {
    const { objects } = this.context;
    const hwpt = objects.reserve(HwptPaging.alloc(ioas, this, 0, null));
    try {
      change(hwpt);
    } catch (error) {
      objects.abort(hwpt);
      throw error;
    }
    hwpt.auto = true;
    objects.publish(hwpt);
    return hwpt;
  }

  /** In this order, as kernels do: the IOVAs that the device reserves are checked before those that the domain lacks. */
  private attachAndFill(hwpt: HwptPaging, pasid: number): void {
    this.attachHwpt(hwpt, pasid);
    try {
      hwpt.fill();
    } catch (error) {
      this.leave(pasid);
      throw error;
    }
  }

  private attachHwpt(hwpt: Hwpt, pasid: number): void {
    const { attachments } = this.group;
    const present = attachments.get(pasid);
    if (present?.devices.has(this)) throw fail('EBUSY', `${this.owner} is already attached to HWPT ${present.hwpt.id}`);
    if (present && present.hwpt !== hwpt) {
      throw fail('EINVAL', `the group of ${this.owner} is attached to HWPT ${present.hwpt.id}, not ${hwpt.id}`);
    }
    mayFail('an attachment');
    this.reserve(hwpt, pasid);
    try {
      // The second device of a group finds itself attached already.
      if (!present) this.group.translateBy(hwpt, null, pasid);
    } catch (error) {
      this.unreserve(hwpt, pasid);
      throw error;
    }
    if (present) present.devices.add(this);
    else attachments.set(pasid, { hwpt, devices: new Set([this]), spokesman: this });
    use(hwpt);
  }

  private replaceHwpt(hwpt: Hwpt, pasid: number): void {
    const attachment = this.group.attachments.get(pasid);
    if (!attachment?.devices.has(this)) throw fail('EINVAL', `${this.owner} is not attached`);
    const old = attachment.hwpt;
    if (hwpt === old) return;
    mayFail('an attachment');
    // Reserved IOVAs move with the devices that are attached, unless the IOAS stays.
    const moving = hwpt.paging.ioas === old.paging.ioas ? [] : attachment.devices;
    const leaveNew = (device: IommufdDevice): void => device.unreserve(hwpt, pasid);
    allOrNothing(moving, (device) => device.reserve(hwpt, pasid), leaveNew);
    try {
      this.group.translateBy(hwpt, old, pasid);
    } catch (error) {
      for (const device of moving) leaveNew(device);
      throw error;
    }
    for (const device of moving) device.unreserve(old, pasid);
    this.move(attachment, hwpt);
  }

  private move(attachment: Attachment, hwpt: Hwpt): void {
    const old = attachment.hwpt;
    old.faultQueue?.abandon(attachment);
    attachment.hwpt = hwpt;
    attachment.spokesman = this;
    for (const _ of attachment.devices) {
      use(hwpt);
      this.put(old);
    }
    this.group.forgetPartialRequests();
  }

  /** @returns whether it was attached */
  private leave(pasid: number): boolean {
    const { group } = this;
    const attachment = group.attachments.get(pasid);
    if (!attachment?.devices.delete(this)) return false;
    const [other] = attachment.devices;
    if (other) {
      // Kernels go on in the name of the one that has left.
      if (attachment.spokesman === this) attachment.spokesman = other;
    } else {
      group.block(pasid);
      group.attachments.delete(pasid);
      attachment.hwpt.faultQueue?.abandon(attachment);
      group.forgetPartialRequests();
    }
    this.unreserve(attachment.hwpt, pasid);
    this.put(attachment.hwpt);
    return true;
  }

  /** Keeps IOVAs that the device itself uses (its MSI window) out of the IOAS beneath `hwpt`: EADDRINUSE when they are. */
  private reserve(hwpt: Hwpt, pasid: number): void {
    if (pasid !== NO_PASID) return;
    const { table } = hwpt.paging.ioas;
    try {
      for (const { start, last, type } of this.physical.reservedRegions()) {
        if (type !== 'direct-relaxable') table.reserve(start, last, this.physical);
      }
    } catch (error) {
      table.unreserve(this.physical);
      throw error;
    }
  }

  private unreserve(hwpt: Hwpt, pasid: number): void {
    if (pasid === NO_PASID) hwpt.paging.ioas.table.unreserve(this.physical);
  }
  /** Ends an attachment's use of `hwpt`, and an automatic one with its last. */
  private put(hwpt: Hwpt): void {
    unuse(hwpt);
    if (hwpt instanceof HwptPaging && hwpt.auto && hwpt.users === 0) this.context.objects.remove(hwpt.id);
  }
}
