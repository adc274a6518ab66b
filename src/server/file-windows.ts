/**
 * Windows: GiBs of memory files, mapped for plain loads and stores. A window that is closed is kept for the next file,
 * since a large ArrayBuffer costs a garbage collection when it goes.
 */
import type { MemoryWindow } from '../memory/process-memory.ts';
import type { KeeperAddon } from './keeper.ts';

export class FileWindows {
  private readonly addon: KeeperAddon;
  private readonly free: ArrayBuffer[] = [];

  constructor(addon: KeeperAddon) {
    this.addon = addon;
  }

  /** @param offset of the GiB @returns null when it cannot be mapped: the file is sealed, there are no addresses */
  open(fd: number, offset: number, bytes: number): MemoryWindow | null {
    const { addon, free } = this;
    const buffer = free.pop() ?? addon.createWindow();
    if (typeof buffer === 'number') return null;
    if (addon.showFile(buffer, fd, offset, bytes) < 0) {
      free.push(buffer);
      return null;
    }
    return {
      words: new Uint32Array(buffer),
      extend: (end) => addon.showMore(buffer, end) === 0,
      close: () => {
        addon.clearWindow(buffer);
        free.push(buffer);
      },
    };
  }
}
