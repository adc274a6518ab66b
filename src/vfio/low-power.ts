/** The low power state that a program may put its device in. Any access wakes it; an eventfd may tell so. */
import { fail } from '../abi/errno.ts';
import type { EventFd } from '../iommufd/file.ts';

export class LowPower {
  private entered: boolean;
  private wakeup: EventFd | null;
  private closed: boolean;

  constructor() {
    this.entered = false;
    this.wakeup = null;
    this.closed = false;
  }

  /** EINVAL when it is in low power; ENODEV when the device was closed while the eventfd was on its way. */
  enter(wakeup: EventFd | null): void {
    if (this.entered || this.closed) {
      wakeup?.release();
      if (this.closed) throw fail('ENODEV', 'the device was closed meanwhile');
      throw fail('EINVAL', 'the device is in low power already');
    }
    this.entered = true;
    this.wakeup = wakeup;
  }

  /** Until exit(): registers that are mapped do not answer. */
  get isEntered(): boolean {
    return this.entered;
  }

  /** The device is accessed. Without an eventfd it may sleep again afterwards, with one it stays awake. */
  access(): void {
    if (!this.wakeup) return;
    this.wakeup.signal();
    this.exit();
  }

  exit(): void {
    this.entered = false;
    this.wakeup?.release();
    this.wakeup = null;
  }

  /** The device is closed. */
  close(): void {
    this.closed = true;
    this.exit();
  }
}
