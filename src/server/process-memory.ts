/**
 * The memory of a client process. /proc/PID/mem, held open, stays with the memory of one program image: after exec or
 * death nothing can be read through it, and a PID that is used again is not mistaken for the old process.
 */
import fs from 'node:fs';
import type { MemoryObject, MemoryRun, ProcessMemory } from '../memory/process-memory.ts';
import type { KeeperAddon } from './keeper.ts';
import type { MemoryFiles } from './memory-files.ts';

const PAGE = 4096;

export class RemoteMemory implements ProcessMemory {
  readonly name: string;
  private readonly addon: KeeperAddon;
  private readonly pid: number;
  private readonly proc: string;
  private readonly files: MemoryFiles;
  private mem: number;

  /** @param proc a path to /proc/PID that cannot become another process's. Throws when the memory may not be opened. */
  constructor(addon: KeeperAddon, pid: number, proc: string, files: MemoryFiles) {
    this.addon = addon;
    this.pid = pid;
    this.name = `memory of process ${pid}`;
    this.proc = proc;
    this.files = files;
    this.mem = fs.openSync(`${proc}/mem`, 'r+');
  }

  read(address: number, into: Uint8Array): boolean {
    return this.mem >= 0 && this.addon.readMemory(this.mem, this.pid, address, into) === 1;
  }

  write(address: number, from: Uint8Array): boolean {
    return this.mem >= 0 && this.addon.writeMemory(this.mem, this.pid, address, from) === 1;
  }

  /** Shared mappings are their files; everything else is the process's own. */
  resolve(address: number, length: number, writable: boolean): readonly MemoryRun[] | null {
    if (!this.alive || length <= 0) return null;
    const mappings = covering(readFile(`${this.proc}/maps`), address, address + length, writable);
    if (!mappings) return null;
    const runs: MemoryRun[] = [];
    for (const mapping of mappings) {
      const file = mapping.file === '' ? null : this.files.mapped(this.proc, mapping.file, mapping.range);
      const from = Math.max(mapping.start, address);
      const page = Math.floor((file ? from - mapping.start + mapping.offset : from) / PAGE);
      append(runs, file ?? this, page, Math.ceil((Math.min(mapping.end, address + length) - from) / PAGE));
    }
    return runs;
  }

  get alive(): boolean {
    return this.mem >= 0 && this.addon.isAlive(this.mem) !== 0;
  }

  close(): void {
    if (this.mem >= 0) fs.closeSync(this.mem);
    this.mem = -1;
  }
}

/** Mappings that touch are one run where they continue each other. */
function append(runs: MemoryRun[], object: MemoryObject, page: number, frames: number): void {
  const last = runs.at(-1);
  if (last?.object === object && last.page + last.frames === page) {
    runs[runs.length - 1] = { object, page: last.page, frames: last.frames + frames };
  } else {
    runs.push({ object, page, frames });
  }
}

function readFile(path: string): string {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** A line of /proc/PID/maps. Addresses and the offset are bytes. */
export interface MapsEntry {
  readonly start: number;
  readonly end: number;
  readonly offset: number;
  /** "major:minor inode" of a shared file, '' of private memory. */
  readonly file: string;
  /** Its name in /proc/PID/map_files. */
  readonly range: string;
}

/** "start-end rwxp offset device inode   name", proc_pid_maps(5). */
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (..).(.) ([0-9a-f]+) (\S+ \d+) *(.*)$/gm;

/** What maps [from, end): null unless that is without a hole, readable (and writable), as memory that can be pinned. */
export function covering(maps: string, from: number, end: number, writable: boolean): MapsEntry[] | null {
  const found: MapsEntry[] = [];
  let reached = from;
  for (const [, low, high, access, sharing, at, file, name] of maps.matchAll(LINE)) {
    const [start, stop] = [Number.parseInt(low!, 16), Number.parseInt(high!, 16)];
    if (stop <= reached) continue;
    if (start > reached) return null;
    if (access![0] !== 'r' || (writable && access![1] !== 'w') || isDevice(name!)) return null;
    const range = `${start.toString(16)}-${stop.toString(16)}`;
    const offset = Number.parseInt(at!, 16);
    found.push({ start, end: stop, offset, file: sharing === 's' ? file! : '', range });
    reached = stop;
    if (reached >= end) return found;
  }
  return null;
}

/** Mappings without pages behind them (VM_IO, VM_PFNMAP): the kernel refuses to pin these. */
function isDevice(name: string): boolean {
  if (name.startsWith('[vvar') || name === '[vsyscall]') return true;
  return name.startsWith('/dev/') && !/^\/dev\/(shm|hugepages|zero)/.test(name);
}
