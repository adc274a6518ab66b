/**
 * A device that programs reach by /dev/vfio/devices/vfioN or by its group. Its own node may be opened often but bound by
 * one file at a time; the group opens it as often as asked. What the binding brings (interrupts, virtual configuration
 * space) ends with the last of these files.
 */
import type { Dialect } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import { VFIO_DEVICE_BIND_IOMMUFD } from '../abi/vfio.ts';
import type { DriverDevice } from '../drivers/iommu-driver.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import type { OpenFile } from '../iommufd/file.ts';
import { compatIoas } from '../iommufd/vfio-compat/compat-ioas.ts';
import type { Tracer } from '../trace/events.ts';
import { Attachments } from './attachments.ts';
import { VfioDeviceFile } from './device-file.ts';
import { ExportedBars } from './exported-bars.ts';
import type { VfioGroup } from './group.ts';
import { DeviceInterrupts } from './interrupts.ts';
import { IoEventFds } from './io-event-fds.ts';
import { LowPower } from './low-power.ts';
import type { MessageRoute } from './message-route.ts';
import { resetFunction, restoreState, type SavedState, saveState, setMaster, setMemoryDecode } from './pci-core.ts';
import { VirtualConfig } from './virtual-config.ts';

/** Segment, bus, device and function: the place of a function in the topology. */
export interface PciAddress {
  readonly segment: number;
  readonly bus: number;
  readonly device: number;
  readonly function: number;
}

export interface VfioDeviceOptions {
  /** N of vfioN. */
  readonly index: number;
  readonly major: number;
  readonly fn: PciFunction;
  readonly address: PciAddress;
  readonly driver: DriverDevice;
  /** Physical address of BAR0. */
  readonly barAddress: number;
  /** Programs may map the BARs, and not only read and write them. */
  readonly barsMappable: boolean;
  /** Those that its IOMMU cannot tell apart. */
  readonly group: VfioGroup;
  readonly dialect: Dialect;
  /** How its messages come to the host. */
  readonly messages: MessageRoute;
  /** All devices on its bus, itself included: a hot reset hits all of them. */
  readonly bus: readonly VfioDevice[];
  readonly tracer: Tracer;
}

/** What exists while the device is bound. */
export interface Binding {
  readonly device: IommufdDevice;
  readonly config: VirtualConfig;
  readonly interrupts: DeviceInterrupts;
  readonly ioEventFds: IoEventFds;
  readonly lowPower: LowPower;
  readonly exportedBars: ExportedBars;
  readonly saved: SavedState;
  readonly attachments: Attachments;
  /** By its own node, and not through its group. */
  readonly byNode: boolean;
}

export class VfioDevice {
  readonly name: string;
  readonly path: string;
  readonly node: { readonly major: number; readonly minor: number };
  readonly fn: PciFunction;
  readonly driver: DriverDevice;
  readonly address: PciAddress;
  readonly group: VfioGroup;
  readonly barAddress: number;
  readonly barsMappable: boolean;
  readonly dialect: Dialect;
  readonly bus: readonly VfioDevice[];
  readonly tracer: Tracer;
  binding: Binding | null;
  /** Files that are closed, and that mappings keep. */
  readonly lingering: Set<VfioDeviceFile>;
  /** Files that share the binding. */
  private opens: number;
  /** All of its files, and those that only mappings keep. */
  private files: number;
  private readonly messages: MessageRoute;

  constructor(options: VfioDeviceOptions) {
    this.name = `vfio${options.index}`;
    this.path = `/dev/vfio/devices/${this.name}`;
    this.node = { major: options.major, minor: options.index };
    this.fn = options.fn;
    this.address = options.address;
    this.group = options.group;
    this.barAddress = options.barAddress;
    this.barsMappable = options.barsMappable;
    this.dialect = options.dialect;
    this.bus = options.bus;
    this.tracer = options.tracer;
    this.driver = options.driver;
    this.messages = options.messages;
    this.binding = null;
    this.opens = 0;
    this.files = 0;
    this.lingering = new Set();
  }

  /** Ends what only mappings kept that have gone: nothing has told us of the munmap. */
  sweep(): void {
    for (const file of [...this.lingering]) file.endIfUnused();
  }

  /** Releases before 6.6 had groups only. */
  get hasNode(): boolean {
    return this.dialect.vfioCommands.has(VFIO_DEVICE_BIND_IOMMUFD & 0xff);
  }

  /** A program has it open or mapped. */
  get isOpen(): boolean {
    this.sweep();
    return this.files > 0;
  }

  /** Asks the program that has it to close it. */
  requestRelease(): void {
    this.binding?.interrupts.requestRelease();
  }

  open(): OpenFile {
    this.files++;
    return new VfioDeviceFile(this);
  }

  /** Ends open() or openInGroup(). */
  fileEnded(): void {
    this.files--;
  }

  /** What BIND_IOMMUFD on a file of the device's own node does. EINVAL when bound. */
  bindByNode(context: IommufdContext): Binding {
    this.sweep();
    if (this.binding) throw fail('EINVAL', `${this.name} is bound by another file of it`);
    return this.bind(context, true);
  }

  /** What GET_DEVICE_FD of its group does, the first time with attaching to the container's IOAS: ENODEV without one. */
  openInGroup(container: IommufdContext): OpenFile {
    this.sweep();
    if (this.binding) this.opens++;
    const file = new VfioDeviceFile(this, this.binding ?? this.bindAttached(container));
    this.files++;
    return file;
  }

  private bindAttached(container: IommufdContext): Binding {
    const binding = this.bind(container, false);
    try {
      binding.attachments.attach(compatIoas(container).id);
      return binding;
    } catch (error) {
      this.unbind();
      throw error;
    }
  }

  /** Makes the function ready: reset, memory decode on, bus mastering off. */
  private bind(context: IommufdContext, byNode: boolean): Binding {
    const device = IommufdDevice.bind(context, this.driver, this.name, this.group);
    const { fn } = this;
    setMaster(fn, false);
    setMemoryDecode(fn, true);
    resetFunction(fn);
    const saved = saveState(fn);
    const interrupts = new DeviceInterrupts(fn, device, this.messages, this.tracer);
    const exportedBars = new ExportedBars();
    const config = new VirtualConfig(fn, interrupts, exportedBars);
    const ioEventFds = new IoEventFds(fn, config);
    const lowPower = new LowPower();
    const attachments = new Attachments(device);
    this.binding = { device, config, interrupts, ioEventFds, lowPower, exportedBars, saved, attachments, byNode };
    this.opens = 1;
    return this.binding;
  }

  /** A file is closed. The last one gives back eventfds, resets the function (which stops its DMA), and unbinds it. */
  unbind(): void {
    const binding = this.binding;
    if (!binding) throw new Error(`${this.name} is not bound`);
    if (--this.opens > 0) return;
    const { fn } = this;
    this.binding = null;
    binding.lowPower.close();
    binding.interrupts.close();
    binding.ioEventFds.close();
    resetFunction(fn);
    restoreState(fn, binding.saved);
    binding.exportedBars.close();
    binding.attachments.close();
    binding.device.unbind();
  }
}
