/**
 * The memory of a client process. /proc/PID/mem, held open, stays with the memory of one program image: after exec or
 * death nothing can be read through it, and a PID that is used again is not mistaken for the old process.
 */
import fs from 'node:fs';
import type { MemoryObject, MemoryRun, ProcessMemory } from '../memory/process-memory.ts';
import type { KeeperAddon } from './keeper.ts';
import { covering, Mappings, type MapsEntry } from './mappings.ts';
import type { MemoryFiles } from './memory-files.ts';

const PAGE = 4096;

export class RemoteMemory implements ProcessMemory {
  readonly name: string;
  private readonly addon: KeeperAddon;
  private readonly pid: number;
  private readonly proc: string;
  private readonly files: MemoryFiles;
  private readonly mappings: Mappings;
  private mem: number;

  /** @param proc a path to /proc/PID that cannot become another process's. Throws when the memory may not be opened. */
  constructor(addon: KeeperAddon, pid: number, proc: string, files: MemoryFiles) {
    this.addon = addon;
    this.pid = pid;
    this.name = `memory of process ${pid}`;
    this.proc = proc;
    this.files = files;
    this.mappings = new Mappings(addon, proc);
    try {
      this.mem = fs.openSync(`${proc}/mem`, 'r+');
    } catch (error) {
      this.mappings.close();
      throw error;
    }
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
    const mappings = covering(this.mappings.now, address, address + length, writable);
    if (!mappings) return null;
    const runs: MemoryRun[] = [];
    for (const mapping of mappings) {
      const file = mapping.file === '' ? null : this.files.mapped(this.proc, mapping);
      const from = Math.max(mapping.start, address);
      const page = Math.floor((file ? from - mapping.start + mapping.offset : from) / PAGE);
      append(runs, file ?? this, page, Math.ceil((Math.min(mapping.end, address + length) - from) / PAGE));
    }
    return runs;
  }

  /** What is mapped at `address`; null: nothing. */
  mappingAt(address: number): MapsEntry | null {
    const entry = this.alive ? this.mappings.now(address) : null;
    return entry && entry.start <= address ? entry : null;
  }

  get alive(): boolean {
    return this.mem >= 0 && this.addon.isAlive(this.mem) !== 0;
  }

  close(): void {
    if (this.mem < 0) return;
    fs.closeSync(this.mem);
    this.mappings.close();
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
