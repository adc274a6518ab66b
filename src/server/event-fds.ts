/** Event fds that clients gave us: ours until released, whatever their givers do. */
import fs from 'node:fs';
import type { EventFd } from '../iommufd/file.ts';
import type { Keeper, KeeperAddon } from './keeper.ts';

export class EventFds {
  private readonly addon: KeeperAddon;
  private readonly keeper: Keeper;
  private readonly held = new Set<EventFd>();

  constructor(addon: KeeperAddon, keeper: Keeper) {
    this.addon = addon;
    this.keeper = keeper;
  }

  get count(): number {
    return this.held.size;
  }

  /** What a client has sent under the name `token`; null when that is not an event fd, or nothing. */
  receive(token: Uint8Array): EventFd | null {
    const fd = this.keeper.receive(token);
    if (fd < 0) return null;
    const event: EventFd = {
      signal: () => {
        if (this.held.has(event)) this.addon.signal(fd);
      },
      release: () => {
        if (this.held.delete(event)) fs.closeSync(fd);
      },
    };
    this.held.add(event);
    return event;
  }

  close(): void {
    for (const event of this.held) event.release();
  }
}
