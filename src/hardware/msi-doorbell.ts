/**
 * Where functions write their messages: the translation register of an interrupt controller, in a frame of its own, as a
 * GICv3 ITS has it (IHI 0069, GITS_TRANSLATER). A message is the number of an event; which device sent it comes with the
 * write. What nobody takes is dropped, so a device can raise its own interrupts only, whatever it writes here.
 */
import type { Clock } from './clock.ts';
import type { MmioDevice } from './iommu.ts';

export const MSI_DOORBELL_BYTES = 0x10000;

/** Offset of GITS_TRANSLATER. */
export const TRANSLATER = 0x40;

/** Takes the events of one device, on the clock. */
export type MessageReceiver = (event: number) => void;

export class MsiDoorbell implements MmioDevice {
  private readonly clock: Clock;
  private readonly receivers: Map<number, MessageReceiver>;

  constructor(clock: Clock) {
    this.clock = clock;
    this.receivers = new Map();
  }

  /** From now on `receive` gets what `requester` sends. */
  connect(requester: number, receive: MessageReceiver): void {
    this.receivers.set(requester, receive);
  }

  disconnect(requester: number): void {
    this.receivers.delete(requester);
  }

  /** Write-only. */
  readRegister(): number {
    return 0;
  }

  /** A half word at the start of the register counts too, extended with zeros. */
  writeRegister(offset: number, size: number, value: number, requester?: number): void {
    if (offset !== TRANSLATER || size === 1 || requester === undefined) return;
    this.clock.defer(() => this.receivers.get(requester)?.(value));
  }
}
