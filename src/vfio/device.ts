/**
 * A device that programs reach by /dev/vfio/devices/vfioN. It may be opened often but bound by one of its files at a
 * time; what the binding brings (interrupts, virtual configuration space) ends with that file.
 */
import type { Dialect } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import type { DriverDevice } from '../drivers/iommu-driver.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import type { OpenFile } from '../iommufd/file.ts';
import type { Tracer } from '../trace/events.ts';
import { VfioDeviceFile } from './device-file.ts';
import { DeviceInterrupts } from './interrupts.ts';
import { LowPower } from './low-power.ts';
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
  /** Stands for the group of devices that its IOMMU cannot tell apart. */
  readonly group: object;
  readonly dialect: Dialect;
  /** All devices on its bus, itself included: a hot reset hits all of them. */
  readonly bus: readonly VfioDevice[];
  readonly tracer: Tracer;
}

/** What exists while the device is bound. */
export interface Binding {
  readonly device: IommufdDevice;
  readonly config: VirtualConfig;
  readonly interrupts: DeviceInterrupts;
  readonly lowPower: LowPower;
  readonly saved: SavedState;
  /** With which it is attached. */
  readonly pasids: Set<number>;
}

export class VfioDevice {
  readonly name: string;
  readonly path: string;
  readonly node: { readonly major: number; readonly minor: number };
  readonly fn: PciFunction;
  readonly address: PciAddress;
  readonly group: object;
  readonly dialect: Dialect;
  readonly bus: readonly VfioDevice[];
  readonly tracer: Tracer;
  binding: Binding | null;
  private readonly driver: DriverDevice;

  constructor(options: VfioDeviceOptions) {
    this.name = `vfio${options.index}`;
    this.path = `/dev/vfio/devices/${this.name}`;
    this.node = { major: options.major, minor: options.index };
    this.fn = options.fn;
    this.address = options.address;
    this.group = options.group;
    this.dialect = options.dialect;
    this.bus = options.bus;
    this.tracer = options.tracer;
    this.driver = options.driver;
    this.binding = null;
  }

  open(): OpenFile {
    return new VfioDeviceFile(this);
  }

  /** Binds to an iommufd and makes the function ready: reset, memory decode on, bus mastering off. EINVAL when bound. */
  bind(context: IommufdContext): Binding {
    if (this.binding) throw fail('EINVAL', `${this.name} is bound by another file of it`);
    const device = IommufdDevice.bind(context, this.driver, this.name, this.group);
    const { fn } = this;
    setMaster(fn, false);
    setMemoryDecode(fn, true);
    resetFunction(fn);
    const saved = saveState(fn);
    const interrupts = new DeviceInterrupts(fn, this.tracer);
    const config = new VirtualConfig(fn, (disabled) => interrupts.setPinDisabled(disabled));
    this.binding = { device, config, interrupts, lowPower: new LowPower(), saved, pasids: new Set() };
    return this.binding;
  }

  /** Gives back eventfds, resets the function (which stops its DMA), and takes it from its iommufd. */
  unbind(): void {
    const binding = this.binding;
    if (!binding) throw new Error(`${this.name} is not bound`);
    const { fn } = this;
    this.binding = null;
    binding.lowPower.exit();
    binding.interrupts.close();
    resetFunction(fn);
    restoreState(fn, binding.saved);
    for (const pasid of binding.pasids) binding.device.detach(pasid);
    binding.device.unbind();
  }
}
