/**
 * The memory of a client process. /proc/PID/mem, held open, stays with the memory of one program image: after exec or
 * death nothing can be read through it, and a PID that is used again is not mistaken for the old process.
 */
import fs from 'node:fs';
import type { ProcessMemory } from '../memory/process-memory.ts';
import type { KeeperAddon } from './keeper.ts';

export class RemoteMemory implements ProcessMemory {
  readonly name: string;
  private readonly addon: KeeperAddon;
  private readonly pid: number;
  private readonly maps: string;
  private mem: number;

  /** @param proc a path to /proc/PID that cannot become another process's. Throws when the memory may not be opened. */
  constructor(addon: KeeperAddon, pid: number, proc: string) {
    this.addon = addon;
    this.pid = pid;
    this.name = `${pid}`;
    this.maps = `${proc}/maps`;
    this.mem = fs.openSync(`${proc}/mem`, 'r+');
  }

  read(address: number, into: Uint8Array): boolean {
    return this.mem >= 0 && this.addon.readMemory(this.mem, this.pid, address, into) === 1;
  }

  write(address: number, from: Uint8Array): boolean {
    return this.mem >= 0 && this.addon.writeMemory(this.mem, this.pid, address, from) === 1;
  }

  pinnable(address: number, length: number, writable: boolean): boolean {
    return this.alive && length > 0 && covers(readFile(this.maps), address, address + length, writable);
  }

  get alive(): boolean {
    return this.mem >= 0 && this.addon.isAlive(this.mem) !== 0;
  }

  close(): void {
    if (this.mem >= 0) fs.closeSync(this.mem);
    this.mem = -1;
  }
}

function readFile(path: string): string {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** "start-end rwxp offset device inode   name", proc_pid_maps(5). */
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (..)\S+ \S+ \S+ \d+ *(.*)$/gm;

/** Is [from, end) mapped without a hole, readable (and writable), as memory that the kernel could pin? */
export function covers(maps: string, from: number, end: number, writable: boolean): boolean {
  let reached = from;
  for (const [, start, stop, access, name] of maps.matchAll(LINE)) {
    if (Number.parseInt(stop!, 16) <= reached) continue;
    if (Number.parseInt(start!, 16) > reached) return false;
    if (access![0] !== 'r' || (writable && access![1] !== 'w') || isDevice(name!)) return false;
    reached = Number.parseInt(stop!, 16);
    if (reached >= end) return true;
  }
  return false;
}

/** Mappings without pages behind them (VM_IO, VM_PFNMAP): the kernel refuses to pin these. */
function isDevice(name: string): boolean {
  if (name.startsWith('[vvar') || name === '[vsyscall]') return true;
  return name.startsWith('/dev/') && !/^\/dev\/(shm|hugepages|zero)/.test(name);
}
