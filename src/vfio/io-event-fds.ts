/** IOEVENTFD: a write to a BAR that the signal of an eventfd makes, without a call of the program. */
import { fail } from '../abi/errno.ts';
import { DeviceIoeventfd, VFIO_DEVICE_IOEVENTFD_SIZE_MASK } from '../abi/vfio.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import type { EventFd } from '../iommufd/file.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import { barAccess, barOffset, isMsixTable } from './regions.ts';
import type { VirtualConfig } from './virtual-config.ts';

/** More than these at a time are ENOSPC, as in vfio-pci. */
const MOST = 1000;

interface IoEventFd {
  readonly offset: bigint;
  readonly data: bigint;
  readonly size: number;
  readonly eventFd: EventFd;
}

export class IoEventFds {
  private readonly fn: PciFunction;
  private readonly config: VirtualConfig;
  private readonly present: Set<IoEventFd>;
  private closed: boolean;

  constructor(fn: PciFunction, config: VirtualConfig) {
    this.fn = fn;
    this.config = config;
    this.present = new Set();
    this.closed = false;
  }

  /** @param size bytes of the write @param obtain gives the eventfd, or null: takes off the one that is there */
  async set(offset: bigint, data: bigint, size: number, obtain: (() => Promise<EventFd>) | null): Promise<void> {
    const at = barOffset(this.fn, offset, size);
    if (isMsixTable(this.fn, at, size)) throw fail('EINVAL', `${size} bytes at ${at} touch the MSI-X table`);
    if (size === 8) throw fail('EINVAL', 'a write of 8 bytes is not made by an eventfd');
    const same = [...this.present].find(
      (other) => other.offset === offset && other.data === data && other.size === size,
    );
    if (!obtain) return this.remove(same);
    if (same) throw fail('EEXIST', `an eventfd makes this write at ${offset} already`);
    if (this.present.size >= MOST) throw fail('ENOSPC', `the device has ${MOST} eventfds that write`);
    const eventFd = await obtain();
    if (this.closed) {
      eventFd.release();
      throw fail('ENODEV', 'the device was closed meanwhile');
    }
    this.present.add({ offset, data, size, eventFd });
    eventFd.watch(() => this.write(at, data, size));
  }

  close(): void {
    this.closed = true;
    for (const { eventFd } of this.present) eventFd.release();
    this.present.clear();
  }

  private remove(gone: IoEventFd | undefined): void {
    if (!gone) throw fail('ENODEV', 'no eventfd makes this write');
    gone.eventFd.release();
    this.present.delete(gone);
  }

  /** Lost while the device does not decode memory. */
  private write(at: number, data: bigint, size: number): void {
    if (!this.config.memoryEnabled) return;
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, data, true);
    barAccess(this.fn, this.config, at, size).write(bytes.subarray(0, size));
  }
}

export async function ioEventFd(_device: VfioDevice, { ioEventFds }: Binding, call: Call): Promise<void> {
  const { flags, offset, data, fd } = call.take(DeviceIoeventfd, 'fd');
  if (flags & ~VFIO_DEVICE_IOEVENTFD_SIZE_MASK) throw fail('EINVAL', `flags 0x${flags.toString(16)} are not all known`);
  if (![1, 2, 4, 8].includes(flags)) throw fail('EINVAL', `flags 0x${flags.toString(16)} do not name one size`);
  if (fd < -1) throw fail('EINVAL', `fd ${fd} is neither a descriptor nor -1`);
  await ioEventFds.set(offset, data, flags, fd === -1 ? null : async () => call.caller.eventFd(fd));
}
