/**
 * A group of devices that no IOMMU can tell apart, as programs that know of no /dev/vfio/devices reach it: by
 * /dev/vfio/N, which one file at a time may have open, and never while one of its devices is bound by its own node.
 */
import { fail } from '../abi/errno.ts';
import type { DriverDevice } from '../drivers/iommu-driver.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import type { OpenFile } from '../iommufd/file.ts';
import type { IommuGroup } from '../iommufd/group.ts';
import { withCompatIoas } from '../iommufd/vfio-compat/compat-ioas.ts';
import { addGroup, removeGroup } from '../iommufd/vfio-compat/contained-groups.ts';
import type { Tracer } from '../trace/events.ts';
import type { VfioDevice } from './device.ts';
import { VfioGroupFile } from './group-file.ts';

export class VfioGroup implements IommuGroup {
  /** N of /dev/vfio/N. */
  readonly number: number;
  readonly path: string;
  readonly node: { readonly major: number; readonly minor: number };
  readonly tracer: Tracer;
  readonly devices: VfioDevice[];
  /** What translates for devices that are opened from now on. */
  container: IommufdContext | null;
  private opened: boolean;

  constructor(number: number, major: number, tracer: Tracer) {
    this.number = number;
    this.path = `/dev/vfio/${number}`;
    this.node = { major, minor: number };
    this.tracer = tracer;
    this.devices = [];
    this.container = null;
    this.opened = false;
  }

  get members(): readonly DriverDevice[] {
    return this.devices.map(({ driver }) => driver);
  }

  open(): OpenFile {
    for (const device of this.devices) device.sweep();
    const bound = this.devices.find(({ binding }) => binding?.byNode);
    if (bound) throw fail('EBUSY', `${bound.name} of group ${this.number} is bound by its own device node`);
    this.checkClosed();
    this.opened = true;
    return new VfioGroupFile(this);
  }

  /** Ends open(). Devices that were opened through the group stay with the iommufd that they are bound to. */
  close(): void {
    if (this.container) this.unsetContainer();
    this.opened = false;
  }

  setContainer(context: IommufdContext): void {
    withCompatIoas(context, () => addGroup(context, this));
    context.hold();
    this.container = context;
  }

  unsetContainer(): void {
    const { container } = this;
    if (!container) throw fail('EINVAL', `group ${this.number} has no container`);
    this.container = null;
    removeGroup(container, this);
    container.drop();
  }

  /** An iommufd has one of the devices. */
  get claimed(): boolean {
    return this.devices.some(({ binding }) => binding !== null);
  }

  /** EBUSY when the group is open. */
  checkClosed(): void {
    if (this.opened) throw fail('EBUSY', `${this.path} is open`);
  }
}
