/**
 * Files that are memory (memfds, tmpfs, shared anonymous memory, hugetlb), each opened once for all processes that have it,
 * so that an address of a shared mapping and the file itself lead to the same frames, and both outlive the processes.
 * They are read and written through a mapping of ours (hugetlb files have no write(2)), but only by process_vm_readv and
 * writev on ourselves: where the file was cut short, these fail and a plain access would end us.
 */
import fs from 'node:fs';
import { type MemoryRun, notMemory, ownPages, type PageSource } from '../memory/process-memory.ts';
import type { KeeperAddon } from './keeper.ts';

/** statfs(2): file systems whose files can be pinned. */
const TMPFS_MAGIC = 0x01021994;
const HUGETLBFS_MAGIC = 0x958458f6;

const PAGE = 4096;

class MemoryFile implements PageSource {
  readonly name: string;
  /** A file that nobody holds may be closed at any time. */
  holders = 0;
  private readonly addon: KeeperAddon;
  private readonly mem: number;
  private fd: number;
  private readonly writable: boolean;
  private at = 0;
  private mapped = 0;

  constructor(addon: KeeperAddon, mem: number, fd: number, writable: boolean, name: string) {
    this.addon = addon;
    this.mem = mem;
    this.fd = fd;
    this.writable = writable;
    this.name = name;
  }

  read(offset: number, into: Uint8Array): boolean {
    if (!this.reach(offset + into.length)) return false;
    return this.addon.readMemory(this.mem, process.pid, this.at + offset, into) === 1;
  }

  write(offset: number, from: Uint8Array): boolean {
    if (!this.writable || !this.reach(offset + from.length)) return false;
    return this.addon.writeMemory(this.mem, process.pid, this.at + offset, from) === 1;
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

  close(): void {
    if (this.mapped) this.addon.unmapFile(this.at, this.mapped);
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
    this.mapped = 0;
  }

  /** Maps at least `end` bytes; false when the file has less. */
  private reach(end: number): boolean {
    if (end <= this.mapped) return true;
    const size = this.fd < 0 ? 0 : fs.fstatSync(this.fd).size;
    if (end > size) return false;
    const at = this.addon.mapFile(this.fd, size, this.writable ? 1 : 0);
    if (at < 0) return false;
    if (this.mapped) this.addon.unmapFile(this.at, this.mapped);
    this.at = at;
    this.mapped = size;
    return true;
  }
}

export class MemoryFiles {
  private readonly addon: KeeperAddon;
  /** By "major:minor inode", as in /proc/PID/maps. */
  private readonly files = new Map<string, MemoryFile>();
  /** Our own memory; see readMemory(). */
  private readonly mem = fs.openSync('/proc/self/mem', 'r+');

  constructor(addon: KeeperAddon) {
    this.addon = addon;
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
   * @param proc path to /proc/PID @param key "major:minor inode" @param range "start-end" in hexadecimal
   */
  mapped(proc: string, key: string, range: string): MemoryFile | null {
    const known = this.files.get(key);
    if (known) return known;
    const direct = `${proc}/map_files/${range}`;
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
    fs.closeSync(this.mem);
  }

  private open(key: string, path: string): MemoryFile | null {
    const known = this.files.get(key);
    if (known) return known;
    for (const mode of ['r+', 'r']) {
      try {
        const fd = fs.openSync(path, mode);
        const file = new MemoryFile(this.addon, this.mem, fd, mode === 'r+', `memory file ${key}`);
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
    const key = `${hex2((dev >> 8) & 0xfff)}:${hex2((dev & 0xff) | ((dev >> 12) & 0xfff00))} ${ino}`;
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

const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

function descriptors(proc: string): string[] {
  try {
    return fs.readdirSync(`${proc}/fd`);
  } catch {
    return [];
  }
}
