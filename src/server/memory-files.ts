/**
 * Files that are memory (memfds, tmpfs, shared anonymous memory, hugetlb), each opened once for all processes that have it,
 * so that an address of a shared mapping and the file itself lead to the same frames, and both outlive the processes.
 * Where they are pinned, they are read and written in place (file-windows.ts). Otherwise through a mapping of ours (hugetlb
 * files have no write(2)) by process_vm_readv and writev on ourselves, which fail where the file was cut short.
 */
import fs from 'node:fs';
import { constants } from 'node:os';
import { type MemoryRun, type MemoryWindow, notMemory, ownPages, type PageSource } from '../memory/process-memory.ts';
import { FileWindows } from './file-windows.ts';
import type { KeeperAddon } from './keeper.ts';
import { fileKey, type MapsEntry } from './mappings.ts';

/** statfs(2): file systems whose files can be pinned. */
const TMPFS_MAGIC = 0x01021994;
const HUGETLBFS_MAGIC = 0x958458f6;

const PAGE = 4096;
const GIBIBYTE = 2 ** 30;

/** What all files are reached through. */
interface Means {
  readonly addon: KeeperAddon;
  /** Our own memory; see readMemory(). */
  readonly mem: number;
  readonly windows: FileWindows;
}

class MemoryFile implements PageSource {
  readonly name: string;
  /** A file that nobody holds may be closed at any time. */
  holders = 0;
  private readonly means: Means;
  private fd: number;
  private writable: boolean;
  private at = 0;
  private mapped = 0;

  constructor(means: Means, fd: number, writable: boolean, name: string) {
    this.means = means;
    this.fd = fd;
    this.writable = writable;
    this.name = name;
  }

  read(offset: number, into: Uint8Array): boolean {
    if (!this.reach(offset + into.length)) return false;
    return this.means.addon.readMemory(this.means.mem, process.pid, this.at + offset, into) === 1;
  }

  write(offset: number, from: Uint8Array): boolean {
    if (!this.writable || !this.reach(offset + from.length)) return false;
    return this.means.addon.writeMemory(this.means.mem, process.pid, this.at + offset, from) === 1;
  }

  resolve(offset: number, length: number): readonly MemoryRun[] | null {
    const end = Math.ceil((offset + length) / PAGE) * PAGE;
    return this.fd >= 0 && end <= fs.fstatSync(this.fd).size ? ownPages(this, offset, length) : null;
  }

  hold(): void {
    this.holders++;
  }

  drop(): void {
    this.holders--;
  }

  openWindow(gigabyte: number, bytes: number): MemoryWindow | null {
    return this.writable ? this.means.windows.open(this.fd, gigabyte * GIBIBYTE, bytes) : null;
  }

  close(): void {
    if (this.mapped) this.means.addon.unmapFile(this.at, this.mapped);
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
    this.mapped = 0;
  }

  /** Maps at least `end` bytes; false when the file has less. */
  private reach(end: number): boolean {
    if (end <= this.mapped) return true;
    const size = this.fd < 0 ? 0 : fs.fstatSync(this.fd).size;
    if (end > size) return false;
    let at = this.means.addon.mapFile(this.fd, size, this.writable ? 1 : 0);
    if (at === -constants.errno.EPERM) {
      // A seal forbids mappings that can be written.
      this.writable = false;
      at = this.means.addon.mapFile(this.fd, size, 0);
    }
    if (at < 0) return false;
    if (this.mapped) this.means.addon.unmapFile(this.at, this.mapped);
    this.at = at;
    this.mapped = size;
    return true;
  }
}

export class MemoryFiles {
  private readonly means: Means;
  /** By "major:minor inode", as in /proc/PID/maps. */
  private readonly files = new Map<string, MemoryFile>();

  constructor(addon: KeeperAddon) {
    this.means = { addon, mem: fs.openSync('/proc/self/mem', 'r+'), windows: new FileWindows(addon) };
  }

  get count(): number {
    return this.files.size;
  }

  /** The file behind a descriptor of /proc/PID/fd: null when it is closed. A file that is no memory can be held, not pinned. */
  behind(path: string): PageSource | null {
    const { key, memory } = identify(path);
    if (key === '') return null;
    return (memory ? this.open(key, path) : null) ?? notMemory(`the file of descriptor ${path.split('/').at(-1)}`);
  }

  /**
   * The file of a shared mapping. Null when it is no memory or cannot be reached: mapped files can be opened with
   * CAP_CHECKPOINT_RESTORE only, and others have to be among the descriptors of the process.
   * @param proc path to /proc/PID
   */
  mapped(proc: string, { start, end, file: key }: MapsEntry): MemoryFile | null {
    const known = this.files.get(key);
    if (known) return known;
    const direct = `${proc}/map_files/${start.toString(16)}-${end.toString(16)}`;
    const found = identify(direct);
    if (found.key === key) return found.memory ? this.open(key, direct) : null;
    for (const fd of descriptors(proc)) {
      const path = `${proc}/fd/${fd}`;
      const { key: itsKey, memory } = identify(path);
      if (itsKey === key) return memory ? this.open(key, path) : null;
    }
    return null;
  }

  /** Closes what nobody holds. Now and then: what is mapped often stays open in between. */
  sweep(): void {
    for (const [key, file] of this.files) {
      if (file.holders > 0) continue;
      file.close();
      this.files.delete(key);
    }
  }

  close(): void {
    for (const file of this.files.values()) file.close();
    this.files.clear();
    fs.closeSync(this.means.mem);
  }

  private open(key: string, path: string): MemoryFile | null {
    const known = this.files.get(key);
    if (known) return known;
    for (const mode of ['r+', 'r']) {
      try {
        const fd = fs.openSync(path, mode);
        const file = new MemoryFile(this.means, fd, mode === 'r+', `memory file ${key}`);
        this.files.set(key, file);
        return file;
      } catch {
        // Perhaps it can only be read; or it is gone, and the caller finds none.
      }
    }
    return null;
  }
}

/** Looks before anything is opened: opening a FIFO or a device has effects. No key: there is no such file. */
function identify(path: string): { key: string; memory: boolean } {
  try {
    const { dev, ino, isFile } = statBig(path);
    const key = fileKey(dev, ino);
    const { type } = isFile ? fs.statfsSync(path) : { type: 0 };
    return { key, memory: type === TMPFS_MAGIC || type === HUGETLBFS_MAGIC };
  } catch {
    return { key: '', memory: false };
  }
}

function statBig(path: string): { dev: number; ino: bigint; isFile: boolean } {
  const stat = fs.statSync(path, { bigint: true });
  return { dev: Number(stat.dev), ino: stat.ino, isFile: stat.isFile() };
}

function descriptors(proc: string): string[] {
  try {
    return fs.readdirSync(`${proc}/fd`);
  } catch {
    return [];
  }
}
