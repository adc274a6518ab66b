/** Event fds that clients gave us: ours until released, whatever their givers do. */
import fs from 'node:fs';
import { Socket } from 'node:net';
import type { EventFd } from '../iommufd/file.ts';
import { errnoName, type Keeper, type KeeperAddon, type Watches } from './keeper.ts';

export class EventFds {
  private readonly addon: KeeperAddon;
  private readonly keeper: Keeper;
  private readonly onSignalled: () => void;
  private readonly held = new Map<number, HeldEventFd>();
  private readonly signalled = new Int32Array(64);
  /** From the first event fd on that is watched. */
  private watches: Watches | null = null;
  private told: Socket | null = null;

  /** @param onSignalled told, without a call of a program, that there is something for sweep() */
  constructor(addon: KeeperAddon, keeper: Keeper, onSignalled: () => void) {
    this.addon = addon;
    this.keeper = keeper;
    this.onSignalled = onSignalled;
  }

  get count(): number {
    return this.held.size;
  }

  /** What a client has sent under the name `token`; null when that is not an event fd, or nothing. */
  receive(token: Uint8Array): EventFd | null {
    const fd = this.keeper.receive(token);
    if (fd < 0) return null;
    const event = new HeldEventFd(this, fd);
    this.held.set(fd, event);
    return event;
  }

  /** Acts upon watched event fds that programs have signalled. Before every call, so that a signal comes before it. */
  sweep(): void {
    if (!this.watches) return;
    for (;;) {
      const count = this.watches.take(this.signalled);
      if (count <= 0) return;
      for (const fd of this.signalled.slice(0, count)) this.held.get(fd)?.onSignal?.();
    }
  }

  close(): void {
    for (const event of this.held.values()) event.release();
    this.watches?.close();
    this.told?.destroy();
  }

  signal(fd: number): void {
    this.addon.signal(fd);
  }

  watch(fd: number): void {
    this.watches ??= this.start();
    this.watches.watch(fd);
  }

  release(fd: number, watched: boolean): void {
    // The program has a descriptor of the same file: closing ours would not end the watch.
    if (watched) this.watches?.unwatch(fd);
    this.held.delete(fd);
    fs.closeSync(fd);
  }

  private start(): Watches {
    const watches = this.addon.createWatches();
    if (typeof watches === 'number') throw new Error(`event fds cannot be watched: ${errnoName(watches)}`);
    this.told = new Socket({ fd: watches.told(), readable: true, writable: false });
    this.told.on('data', () => this.onSignalled()).unref();
    return watches;
  }
}

class HeldEventFd implements EventFd {
  onSignal: (() => void) | null = null;
  private readonly owner: EventFds;
  /** -1 once released. */
  private fd: number;

  constructor(owner: EventFds, fd: number) {
    this.owner = owner;
    this.fd = fd;
  }

  signal(): void {
    if (this.fd >= 0) this.owner.signal(this.fd);
  }

  watch(signalled: () => void): void {
    this.onSignal = signalled;
    if (this.fd >= 0) this.owner.watch(this.fd);
  }

  release(): void {
    if (this.fd >= 0) this.owner.release(this.fd, this.onSignal !== null);
    this.fd = -1;
  }
}
