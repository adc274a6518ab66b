/**
 * An open /dev/vfio/devices/vfioN. Before BIND_IOMMUFD succeeds nothing else does; after it this file owns the device
 * until it is closed.
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
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../abi/vfio.ts';
import { type ClientProcess, type OpenFile, POLLIN, POLLOUT } from '../iommufd/file.ts';
import { traced } from '../iommufd/traced.ts';
import { readUser, writeUser } from '../iommufd/user-memory.ts';
import { attachPt, bindIommufd, detachPt } from './attach.ts';
import { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import { deviceFeature } from './feature.ts';
import { getInfo, getIrqInfo, getRegionInfo } from './info.ts';
import { type RegionAccess, regionAt } from './regions.ts';
import { getHotResetInfo, hotReset, reset } from './reset.ts';
import { setIrqs } from './set-irqs.ts';

type Handler = (device: VfioDevice, binding: Binding, call: Call) => void | Promise<void>;

/** Commands of a bound device. IOEVENTFD is not among them: we do not watch eventfds of a program. */
const HANDLERS: ReadonlyMap<number, Handler> = new Map([
  [VFIO_DEVICE_ATTACH_IOMMUFD_PT, attachPt],
  [VFIO_DEVICE_DETACH_IOMMUFD_PT, detachPt],
  [VFIO_DEVICE_GET_INFO, getInfo],
  [VFIO_DEVICE_GET_REGION_INFO, getRegionInfo],
  [VFIO_DEVICE_GET_IRQ_INFO, getIrqInfo],
  [VFIO_DEVICE_SET_IRQS, setIrqs],
  [VFIO_DEVICE_RESET, reset],
  [VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, getHotResetInfo],
  [VFIO_DEVICE_PCI_HOT_RESET, hotReset],
  [VFIO_DEVICE_FEATURE, deviceFeature],
]);

const NOTHING = new Uint8Array(0);

export class VfioDeviceFile implements OpenFile {
  readonly kind = 'vfio-device';
  readonly device: { readonly major: number; readonly minor: number };
  readonly pollMask = POLLIN | POLLOUT;
  onPollChange: (() => void) | null;
  private readonly vfio: VfioDevice;
  private binding: Binding | null;
  /** Of read and write without an offset. */
  private position: bigint;

  constructor(vfio: VfioDevice) {
    this.device = vfio.node;
    this.onPollChange = null;
    this.vfio = vfio;
    this.binding = null;
    this.position = 0n;
  }

  ioctl(caller: ClientProcess, command: number, arg: bigint): number | Promise<number> {
    const { tracer, path, dialect } = this.vfio;
    const run = (): number | Promise<number> => this.run(command, new Call(caller, arg));
    if (!tracer.on) return run();
    const layout = dialect.vfioCommands.get(command & 0xff);
    const layoutStruct = layout?.command === command ? layout.struct : null;
    const struct = layoutStruct?.structName ?? '';
    const peek = (): Uint8Array => {
      const bytes = new Uint8Array(layoutStruct?.size ?? 0);
      return caller.memory.read(Number(arg), bytes) ? bytes : NOTHING;
    };
    const before = peek();
    return traced(tracer, run, (result, reason) => {
      const after = peek();
      return { type: 'ioctl', pid: caller.pid, file: path, command, struct, before, after, result, reason };
    });
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

  mmap(): never {
    throw fail('EINVAL', this.binding ? 'no region of the device can be mapped' : 'the device is not bound');
  }

  release(): void {
    if (this.binding) this.vfio.unbind();
    this.binding = null;
  }

  private run(command: number, call: Call): number | Promise<number> {
    if (command === VFIO_DEVICE_BIND_IOMMUFD) {
      this.binding = bindIommufd(this.vfio, call, this.binding !== null);
      return 0;
    }
    const binding = this.bound();
    binding.lowPower.access();
    const handler = HANDLERS.get(command);
    if (!handler) throw fail('ENOTTY', `0x${command.toString(16)} is not a command of the device`);
    const pending = handler(this.vfio, binding, call);
    return pending ? pending.then(() => 0) : 0;
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
