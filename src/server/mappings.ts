/** What a process has mapped where: asked of the kernel mapping by mapping, or, before Linux 6.11, read as text. */
import fs from 'node:fs';
import { constants } from 'node:os';
import type { KeeperAddon } from './keeper.ts';

/** Of /proc/PID/maps. Addresses and the offset are bytes. */
export interface MapsEntry {
  readonly start: number;
  readonly end: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly offset: number;
  /** "major:minor inode" of a shared file, '' of private memory. */
  readonly file: string;
  /** '' when it has none, or when it is certainly memory. */
  readonly name: string;
}

/** The mapping at an address, or else the next one; null: there is none. */
export type Lookup = (address: number) => MapsEntry | null;

/** What maps [from, end): null unless that is without a hole, readable (and writable), as memory that can be pinned. */
export function covering(at: Lookup, from: number, end: number, writable: boolean): MapsEntry[] | null {
  const found: MapsEntry[] = [];
  for (let reached = from; reached < end; reached = found.at(-1)!.end) {
    const mapping = at(reached);
    if (!mapping || mapping.start > reached) return null;
    if (!mapping.readable || (writable && !mapping.writable) || isDevice(mapping.name)) return null;
    found.push(mapping);
  }
  return found;
}

/** Mappings without pages behind them (VM_IO, VM_PFNMAP): the kernel refuses to pin these. */
function isDevice(name: string): boolean {
  if (name.startsWith('[vvar') || name === '[vsyscall]' || name.startsWith('/memfd:uiommufd-region')) return true;
  return name.startsWith('/dev/') && !/^\/dev\/(shm|hugepages|zero)/.test(name);
}

/** The mappings of one process image. */
export class Mappings {
  private readonly addon: KeeperAddon;
  private readonly path: string;
  private fd: number;
  private readonly numbers = new Float64Array(8);
  private readonly name = Buffer.alloc(4096 + 1);
  private readonly answers: boolean;

  /** @param proc a path to /proc/PID that cannot become another process's */
  constructor(addon: KeeperAddon, proc: string) {
    this.addon = addon;
    this.path = `${proc}/maps`;
    this.fd = fs.openSync(this.path, 'r');
    this.answers = addon.findMapping(this.fd, 0, this.numbers, this.name) !== -constants.errno.ENOTTY;
  }

  /** To be used at once: the process may change its mappings whenever it runs. */
  get now(): Lookup {
    return this.answers ? (address) => this.ask(address) : listed(readText(this.path));
  }

  close(): void {
    fs.closeSync(this.fd);
    this.fd = -1;
  }

  private ask(address: number): MapsEntry | null {
    if (this.addon.findMapping(this.fd, address, this.numbers, this.name) < 0) return null;
    const [start, end, access, offset, major, minor, inode, named] = this.numbers;
    return {
      start: start!,
      end: end!,
      readable: (access! & 1) !== 0,
      writable: (access! & 2) !== 0,
      offset: offset!,
      file: access! & 8 ? `${hex2(major!)}:${hex2(minor!)} ${inode}` : '',
      name: named! > 0 ? this.name.toString('latin1', 0, named! - 1) : '',
    };
  }
}

/** As file systems are numbered in /proc. */
const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

/** A file as it is named there: "major:minor inode". */
export const fileKey = (dev: number, inode: bigint | number): string =>
  `${hex2((dev >> 8) & 0xfff)}:${hex2((dev & 0xff) | ((dev >> 12) & 0xfff00))} ${inode}`;

function readText(path: string): string {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** "start-end rwxp offset device inode   name", proc_pid_maps(5). */
const LINE = /([0-9a-f]+)-([0-9a-f]+) (..).(.) ([0-9a-f]+) (\S+ \d+) *(.*)\n/y;

/** Reads the text as far as it is asked, forward: each address is to be at or above those before it. */
export function listed(maps: string): Lookup {
  let entry: MapsEntry | null = null;
  let position = 0;
  return (address) => {
    while (!entry || entry.end <= address) {
      LINE.lastIndex = position;
      const line = LINE.exec(maps);
      if (!line) return null;
      position = LINE.lastIndex;
      entry = entryOf(line);
    }
    return entry;
  };
}

function entryOf([, start, end, access, sharing, offset, file, name]: string[]): MapsEntry {
  return {
    start: Number.parseInt(start!, 16),
    end: Number.parseInt(end!, 16),
    readable: access![0] === 'r',
    writable: access![1] === 'w',
    offset: Number.parseInt(offset!, 16),
    file: sharing === 's' ? file! : '',
    name: name!,
  };
}
