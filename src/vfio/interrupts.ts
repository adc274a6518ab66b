/**
 * Interrupts of a device on their way to the program's eventfds: the pin (INTx), MSI or MSI-X vectors, and the two that only
 * vfio itself raises (ERR, REQ). One of INTx, MSI and MSI-X at a time. A vector's message is its number.
 */

import { fail } from '../abi/errno.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from '../abi/vfio.ts';
import type { InterruptTarget, PciFunction } from '../hardware/pci/pci-function.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import type { ClientProcess, EventFd } from '../iommufd/file.ts';
import type { Tracer } from '../trace/events.ts';
import { closeRoute, type MessageRoute, openRoute } from './message-route.ts';
import { disableMsi, enableMsi, intxPending, log2Ceil, setIntx, setMessage, setMsix } from './pci-core.ts';

/** SET_IRQS after its header was checked: what to do with which vectors, and the data behind the header. */
export interface IrqRequest {
  readonly index: number;
  readonly flags: number;
  readonly start: number;
  readonly count: number;
  readonly data: DataView;
}

type Slot = { eventFd: EventFd | null };

export class DeviceInterrupts implements InterruptTarget {
  private readonly fn: PciFunction;
  private readonly device: IommufdDevice;
  private readonly route: MessageRoute;
  private readonly tracer: Tracer;
  /** VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, or none. */
  private mode: number | null;
  private readonly pinSlot: Slot;
  /** Unmasks the pin when the program signals it. */
  private readonly unmaskSlot: Slot;
  private pinMasked: boolean;
  /** The program has INTx disable set in its COMMAND. */
  private pinDisabled: boolean;
  private readonly vectors: Map<number, EventFd>;
  /** Vectors allocated when messages were switched on: the number does not change until they are off again. */
  private allocated: number;
  /** log2 of the vectors that MSI was switched on with; the program reads it as what the function is capable of. */
  msiLog2: number;
  /** Where the function writes its messages, while they are on. */
  private messageAddress: bigint;
  private readonly errorSlot: Slot;
  private readonly requestSlot: Slot;
  private closed: boolean;

  constructor(fn: PciFunction, device: IommufdDevice, route: MessageRoute, tracer: Tracer) {
    this.fn = fn;
    this.device = device;
    this.route = route;
    this.tracer = tracer;
    this.mode = null;
    this.pinSlot = { eventFd: null };
    this.unmaskSlot = { eventFd: null };
    this.pinMasked = false;
    this.pinDisabled = false;
    this.vectors = new Map();
    this.allocated = 0;
    this.msiLog2 = 0;
    this.messageAddress = 0n;
    this.errorSlot = { eventFd: null };
    this.requestSlot = { eventFd: null };
    this.closed = false;
    fn.interruptTarget = this;
  }

  /** How many interrupts there are at `index`; 0 beyond the last. @param pin as the program sees it */
  count(index: number, pin: number): number {
    if (index === VFIO_PCI_INTX_IRQ_INDEX) return pin ? 1 : 0;
    if (index === VFIO_PCI_MSI_IRQ_INDEX) return this.fn.msi?.capable ?? 0;
    if (index === VFIO_PCI_MSIX_IRQ_INDEX) return this.fn.msix?.vectors ?? 0;
    return index === VFIO_PCI_ERR_IRQ_INDEX || index === VFIO_PCI_REQ_IRQ_INDEX ? 1 : 0;
  }

  /** SET_IRQS. Only requests that carry eventfds take time. */
  set(caller: ClientProcess, request: IrqRequest): void | Promise<void> {
    const action = request.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    const trigger = action === VFIO_IRQ_SET_ACTION_TRIGGER;
    switch (request.index) {
      case VFIO_PCI_INTX_IRQ_INDEX:
        if (trigger) return this.setPin(caller, request);
        if (action === VFIO_IRQ_SET_ACTION_MASK || action === VFIO_IRQ_SET_ACTION_UNMASK) {
          return this.maskPin(caller, request, action === VFIO_IRQ_SET_ACTION_MASK);
        }
        break;
      case VFIO_PCI_MSI_IRQ_INDEX:
      case VFIO_PCI_MSIX_IRQ_INDEX:
        if (trigger) return this.setVectors(caller, request);
        break;
      case VFIO_PCI_ERR_IRQ_INDEX:
        if (trigger) return this.setSlot(caller, this.errorSlot, request);
        break;
      case VFIO_PCI_REQ_IRQ_INDEX:
        if (trigger) return this.setSlot(caller, this.requestSlot, request);
        break;
    }
    throw fail('ENOTTY', `index ${request.index} does not take the action ${action}`);
  }

  /** The program changed INTx disable in its COMMAND. */
  setPinDisabled(disabled: boolean): void {
    this.pinDisabled = disabled;
    if (disabled) this.mask();
    else this.unmask();
  }

  pin(): void {
    if (this.mode !== VFIO_PCI_INTX_IRQ_INDEX || this.pinMasked || !intxPending(this.fn)) return;
    setIntx(this.fn, false);
    this.pinMasked = true;
    this.signalPin();
  }

  /** The device is closed: every eventfd goes back. */
  close(): void {
    this.closed = true;
    this.disable();
    replace(this.errorSlot, null);
    replace(this.requestSlot, null);
    this.fn.interruptTarget = null;
  }

  get usesMsi(): boolean {
    return this.mode === VFIO_PCI_MSI_IRQ_INDEX;
  }

  requestRelease(): void {
    const { eventFd } = this.requestSlot;
    if (eventFd) this.signal(VFIO_PCI_REQ_IRQ_INDEX, 0, eventFd);
  }

  private disable(): void {
    if (this.mode === VFIO_PCI_INTX_IRQ_INDEX) {
      replace(this.unmaskSlot, null);
      replace(this.pinSlot, null);
    }
    if (this.mode === VFIO_PCI_MSI_IRQ_INDEX || this.mode === VFIO_PCI_MSIX_IRQ_INDEX) {
      if (this.usesMsi) disableMsi(this.fn);
      else setMsix(this.fn, false);
      closeRoute(this.route);
      for (const vector of [...this.vectors.keys()]) this.setVector(vector, null);
    }
    this.mode = null;
  }

  // INTx

  private setPin(caller: ClientProcess, request: IrqRequest): void | Promise<void> {
    const { flags, start, count, data } = request;
    if (this.mode === VFIO_PCI_INTX_IRQ_INDEX && count === 0 && flags & VFIO_IRQ_SET_DATA_NONE) return this.disable();
    this.checkMode(VFIO_PCI_INTX_IRQ_INDEX, true);
    checkOne(start, count);
    if (flags & VFIO_IRQ_SET_DATA_EVENTFD) return this.setPinEventFd(caller, data.getInt32(0, true));
    this.checkMode(VFIO_PCI_INTX_IRQ_INDEX, false);
    if (flags & VFIO_IRQ_SET_DATA_NONE || data.getUint8(0)) this.signalPin();
  }

  private async setPinEventFd(caller: ClientProcess, fd: number): Promise<void> {
    const unchanged = (): void => this.checkMode(VFIO_PCI_INTX_IRQ_INDEX, true);
    const eventFd = fd < 0 ? null : await this.obtain(caller, fd, unchanged);
    if (this.mode === null) {
      this.mode = VFIO_PCI_INTX_IRQ_INDEX;
      this.pinMasked = this.pinDisabled;
      setIntx(this.fn, !this.pinMasked);
    }
    replace(this.pinSlot, eventFd);
  }

  private maskPin(caller: ClientProcess, request: IrqRequest, masked: boolean): void | Promise<void> {
    const { flags, start, count, data } = request;
    this.checkMode(VFIO_PCI_INTX_IRQ_INDEX, false);
    checkOne(start, count);
    if (flags & VFIO_IRQ_SET_DATA_EVENTFD) {
      if (masked) throw fail('ENOTTY', 'an eventfd can unmask the pin, but not mask it');
      return this.setUnmaskEventFd(caller, data.getInt32(0, true));
    }
    if (flags & VFIO_IRQ_SET_DATA_BOOL && !data.getUint8(0)) return;
    if (masked) this.mask();
    else this.unmask();
  }

  private async setUnmaskEventFd(caller: ClientProcess, fd: number): Promise<void> {
    if (fd < 0) return replace(this.unmaskSlot, null);
    const eventFd = await this.obtain(caller, fd, () => {
      this.checkMode(VFIO_PCI_INTX_IRQ_INDEX, false);
      if (this.unmaskSlot.eventFd) throw fail('EBUSY', 'another eventfd unmasks the pin already');
    });
    replace(this.unmaskSlot, eventFd);
    eventFd.watch(() => this.unmask());
  }

  private mask(): void {
    setIntx(this.fn, false);
    if (this.mode === VFIO_PCI_INTX_IRQ_INDEX) this.pinMasked = true;
  }

  private unmask(): void {
    if (this.mode !== VFIO_PCI_INTX_IRQ_INDEX) {
      setIntx(this.fn, true);
    } else if (this.pinMasked && !this.pinDisabled) {
      if (intxPending(this.fn)) this.signalPin();
      else {
        this.pinMasked = false;
        setIntx(this.fn, true);
      }
    }
  }

  private signalPin(): void {
    if (this.pinDisabled || !this.pinSlot.eventFd) return;
    this.signal(VFIO_PCI_INTX_IRQ_INDEX, 0, this.pinSlot.eventFd);
  }

  // MSI and MSI-X

  private setVectors(caller: ClientProcess, request: IrqRequest): void | Promise<void> {
    const { index, flags, start, count, data } = request;
    if (this.mode === index && count === 0 && flags & VFIO_IRQ_SET_DATA_NONE) return this.disable();
    this.checkMode(index, true);
    if (flags & VFIO_IRQ_SET_DATA_EVENTFD) return this.setVectorEventFds(caller, request);
    this.checkMode(index, false);
    for (let i = 0; i < count; i++) {
      const eventFd = this.vectors.get(start + i);
      if (eventFd && (flags & VFIO_IRQ_SET_DATA_NONE || data.getUint8(i))) this.signal(index, start + i, eventFd);
    }
  }

  /** One after the other; when one fails, those of this request are off, and messages too if they were off before. */
  private async setVectorEventFds(caller: ClientProcess, request: IrqRequest): Promise<void> {
    const { index, start, count, data } = request;
    const enabling = this.mode === null;
    const unchanged = (): void => this.checkMode(index, false);
    if (enabling) {
      if (start + count === 0) throw fail('ERANGE', 'start and count are 0: messages need a vector to be switched on');
      this.enableMessages(index, start + count);
    }
    for (let vector = start; vector < start + count; vector++) {
      try {
        this.setVector(vector, null);
        const fd = data.getInt32(4 * (vector - start), true);
        if (fd < 0) continue;
        this.checkAllocated(vector);
        this.setVector(vector, await this.obtain(caller, fd, unchanged));
      } catch (error) {
        for (let set = start; set <= vector; set++) this.setVector(set, null);
        if (enabling) this.disable();
        throw error;
      }
    }
  }

  private enableMessages(index: number, vectors: number): void {
    const { fn } = this;
    this.messageAddress = openRoute(this.route, this.device, (vector) => this.receive(vector));
    this.allocated = vectors;
    this.mode = index;
    if (this.usesMsi) {
      this.msiLog2 = log2Ceil(vectors);
      enableMsi(fn, vectors, this.messageAddress);
      return;
    }
    for (let vector = 0; vector < vectors; vector++) setMessage(fn, vector, this.messageAddress);
    setMsix(fn, true);
  }

  private checkAllocated(vector: number): void {
    if (vector < this.allocated) return;
    throw fail(
      'EINVAL',
      `vector ${vector} is not among the ${this.allocated} allocated when messages were switched on`,
    );
  }

  /** A program that has mapped the MSI-X table may have changed it: the message is written afresh. */
  private setVector(vector: number, eventFd: EventFd | null): void {
    this.vectors.get(vector)?.release();
    if (eventFd) {
      this.vectors.set(vector, eventFd);
      if (!this.usesMsi) setMessage(this.fn, vector, this.messageAddress);
    } else if (!this.vectors.delete(vector)) return;
    this.fn.maskVector(vector, eventFd === null, this.usesMsi ? this.fn.msi! : this.fn.msix!);
  }

  private receive(vector: number): void {
    const eventFd = this.vectors.get(vector);
    if (eventFd) this.signal(this.mode!, vector, eventFd);
  }

  // ERR and REQ

  private setSlot(caller: ClientProcess, slot: Slot, { flags, index, count, data }: IrqRequest): void | Promise<void> {
    if (flags & VFIO_IRQ_SET_DATA_NONE) {
      if (!slot.eventFd) throw fail('EINVAL', `no eventfd is set at index ${index}`);
      if (count) this.signal(index, 0, slot.eventFd);
      else replace(slot, null);
      return;
    }
    if (count === 0) throw fail('EINVAL', `count is 0 at index ${index}, and data was announced`);
    if (flags & VFIO_IRQ_SET_DATA_BOOL) {
      if (data.getUint8(0) && slot.eventFd) this.signal(index, 0, slot.eventFd);
      return;
    }
    return this.setSlotEventFd(caller, slot, data.getInt32(0, true));
  }

  private async setSlotEventFd(caller: ClientProcess, slot: Slot, fd: number): Promise<void> {
    if (fd < -1) throw fail('EINVAL', `fd ${fd} is neither a descriptor nor -1`);
    replace(slot, fd === -1 ? null : await this.obtain(caller, fd, () => {}));
  }

  // All of them

  /** @param orNone no interrupts at all will do, too */
  private checkMode(index: number, orNone: boolean): void {
    if (this.mode === index || (orNone && this.mode === null)) return;
    throw fail('EINVAL', `interrupts at index ${index} are asked for, in use are ${this.mode ?? 'none'}`);
  }

  /** While the eventfd is on the way the program may close the device, or call again: `check` throws if that matters. */
  private async obtain(caller: ClientProcess, fd: number, check: () => void): Promise<EventFd> {
    const eventFd = await caller.eventFd(fd);
    try {
      if (this.closed) throw fail('ENODEV', 'the device was closed meanwhile');
      check();
      return eventFd;
    } catch (error) {
      eventFd.release();
      throw error;
    }
  }

  private signal(index: number, vector: number, eventFd: EventFd): void {
    if (this.tracer.on) this.tracer.emit({ type: 'interrupt', device: this.fn.name, index, vector });
    eventFd.signal();
  }
}

function replace(slot: Slot, eventFd: EventFd | null): void {
  slot.eventFd?.release();
  slot.eventFd = eventFd;
}

function checkOne(start: number, count: number): void {
  if (start !== 0 || count !== 1)
    throw fail('EINVAL', `start ${start} and count ${count} are given, the pin is 0 and 1`);
}
