/**
 * An open device. By /dev/vfio/devices/vfioN nothing succeeds before BIND_IOMMUFD, after which this file owns the device
 * until it is closed; through its group it comes bound and attached.
 */
import { fail } from '../abi/errno.ts';
import {
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_IOEVENTFD,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../abi/vfio.ts';
import { type ClientProcess, type Mapping, type OpenFile, POLLIN, POLLOUT } from '../iommufd/file.ts';
import { tracedIoctl } from '../iommufd/traced.ts';
import { readUser, writeUser } from '../iommufd/user-memory.ts';
import { attachPt, bindIommufd, detachPt } from './attach.ts';
import { BarMappings } from './bar-mappings.ts';
import { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import { deviceFeature } from './feature.ts';
import { getInfo, getIrqInfo, getRegionInfo } from './info.ts';
import { ioEventFd } from './io-event-fds.ts';
import { type RegionAccess, regionAt } from './regions.ts';
import { getHotResetInfo, hotReset, reset } from './reset.ts';
import { setIrqs } from './set-irqs.ts';

type Handler = (device: VfioDevice, binding: Binding, call: Call) => void | Promise<void> | Promise<number | undefined>;

/** Commands of a device that was bound by its own node. */
const NODE_HANDLERS: ReadonlyMap<number, Handler> = new Map([
  [VFIO_DEVICE_ATTACH_IOMMUFD_PT, attachPt],
  [VFIO_DEVICE_DETACH_IOMMUFD_PT, detachPt],
]);

/** Commands of every bound device. */
const HANDLERS: ReadonlyMap<number, Handler> = new Map([
  [VFIO_DEVICE_GET_INFO, getInfo],
  [VFIO_DEVICE_GET_REGION_INFO, getRegionInfo],
  [VFIO_DEVICE_GET_IRQ_INFO, getIrqInfo],
  [VFIO_DEVICE_SET_IRQS, setIrqs],
  [VFIO_DEVICE_RESET, reset],
  [VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, getHotResetInfo],
  [VFIO_DEVICE_PCI_HOT_RESET, hotReset],
  [VFIO_DEVICE_IOEVENTFD, ioEventFd],
  [VFIO_DEVICE_FEATURE, deviceFeature],
]);

export class VfioDeviceFile implements OpenFile {
  readonly kind = 'vfio-device';
  /** null through the group: an anonymous file. */
  readonly device: { readonly major: number; readonly minor: number } | null;
  readonly pollMask = POLLIN | POLLOUT;
  onPollChange: (() => void) | null;
  private readonly vfio: VfioDevice;
  private binding: Binding | null;
  private readonly inGroup: boolean;
  private readonly mappings: BarMappings;
  private closed: boolean;
  /** Of read and write without an offset. */
  private position: bigint;

  /** @param binding of a device that its group has opened */
  constructor(vfio: VfioDevice, binding: Binding | null = null) {
    this.device = binding ? null : vfio.node;
    this.onPollChange = null;
    this.vfio = vfio;
    this.binding = binding;
    this.inGroup = binding !== null;
    this.mappings = new BarMappings(() => this.endIfUnused());
    this.closed = false;
    this.position = 0n;
  }

  ioctl(caller: ClientProcess, command: number, arg: bigint): number | Promise<number> {
    const { tracer, dialect, fn } = this.vfio;
    const file = this.inGroup ? fn.name : this.vfio.path;
    const layout = dialect.vfioCommands.get(command & 0xff);
    const struct = layout?.command === command ? layout.struct : null;
    return tracedIoctl(tracer, caller, { file, command, struct, arg }, () => this.run(command, new Call(caller, arg)));
  }

  read(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    return this.transfer(count, position, (access) => {
      const bytes = new Uint8Array(access.length);
      access.read(bytes);
      writeUser(caller.memory, address, bytes);
    });
  }

  write(caller: ClientProcess, address: bigint, count: number, position: bigint | null): number {
    return this.transfer(count, position, (access) => {
      const bytes = new Uint8Array(access.length);
      readUser(caller.memory, address, bytes);
      access.write(bytes);
    });
  }

  mmap(_caller: ClientProcess, length: bigint, _protection: number, flags: number, offset: bigint): Mapping {
    return this.mappings.map(this.vfio, this.bound(), length, flags, offset);
  }

  release(): void {
    this.closed = true;
    this.vfio.lingering.add(this);
    this.endIfUnused();
  }

  /** A file that is closed ends with its last mapping. */
  endIfUnused(): void {
    if (!this.closed || this.mappings.inUse) return;
    this.vfio.lingering.delete(this);
    if (this.binding) this.vfio.unbind();
    this.binding = null;
    this.vfio.fileEnded();
  }

  private run(command: number, call: Call): number | Promise<number> {
    if (command === VFIO_DEVICE_BIND_IOMMUFD && this.vfio.hasNode) {
      this.binding = bindIommufd(this.vfio, call, this.binding);
      return 0;
    }
    const binding = this.bound();
    binding.lowPower.access();
    const handler = (this.inGroup ? null : NODE_HANDLERS.get(command)) ?? HANDLERS.get(command);
    if (!handler) throw fail('ENOTTY', `0x${command.toString(16)} is not a command of the device`);
    const pending = handler(this.vfio, binding, call);
    return pending ? pending.then((result) => result ?? 0) : 0;
  }

  private transfer(count: number, position: bigint | null, move: (access: RegionAccess) => void): number {
    const binding = this.bound();
    if (count === 0) return 0;
    binding.lowPower.access();
    const access = regionAt(this.vfio.fn, binding.config, position ?? this.position, count);
    move(access);
    if (position === null) this.position += BigInt(access.length);
    return access.length;
  }

  private bound(): Binding {
    if (this.binding) return this.binding;
    throw fail('EINVAL', `${this.vfio.name} is not bound to an iommufd by this file`);
  }
}
