/** The open files that client processes hold: each behind a socket whose other end the keeper has. */
import { randomFillSync } from 'node:crypto';
import fs from 'node:fs';
import type { OpenFile } from '../iommufd/file.ts';
import { POLLIN } from '../iommufd/file.ts';
import type { Keeper, KeeperAddon } from './keeper.ts';
import { TOKEN_ACCESS_SHIFT, TOKEN_BYTES, TOKEN_RANDOM } from './protocol.ts';

export interface HandleOptions {
  readonly name: string;
  readonly pid: number;
  readonly access: number;
  /** Index of its device node, -1: anonymous. */
  readonly node: number;
}

export class Handle {
  readonly file: OpenFile;
  /** For traces: '/dev/iommu', or the kind of an anonymous file. */
  readonly name: string;
  /** The process that it was made for. */
  readonly pid: number;
  /** O_RDONLY, O_WRONLY, O_RDWR, or 3: for neither reading nor writing. */
  readonly access: number;
  readonly token = Buffer.alloc(TOKEN_BYTES);
  /** Our end, from adoption on. */
  socket = -1;
  /** 'socket:[inode]' of the client's end. */
  link = '';
  /** Calls under way. Linux, too, keeps a file while a call uses it. */
  calls = 0;
  hungUp = false;
  /** Bytes that make it readable and that no reply has told a reader to take out. */
  unread = 0;

  constructor(file: OpenFile, { name, pid, access, node }: HandleOptions, index: number) {
    this.file = file;
    this.name = name;
    this.pid = pid;
    this.access = access;
    randomFillSync(this.token, TOKEN_RANDOM);
    this.token.writeUInt32LE(index, 0);
    this.token.writeUInt32LE(((access << TOKEN_ACCESS_SHIFT) | (node + 1)) >>> 0, 4);
  }

  get index(): number {
    return this.token.readUInt32LE(0);
  }
}

/** More unread bytes would fill the socket; one is enough for poll, the others only wake edge-triggered waiters. */
const MOST_UNREAD = 64;

export class Handles {
  private readonly addon: KeeperAddon;
  private readonly keeper: Keeper;
  private readonly onRelease: (handle: Handle) => void;
  private readonly table: Array<Handle | undefined> = [];
  private readonly freeIndexes: number[] = [];
  private readonly byLink = new Map<string, Handle>();
  private readonly gone = new Uint32Array(64);
  /** Readable by bytes that are unread, though their files are not, and nobody is reading them. */
  private readonly stale = new Set<Handle>();
  private live = 0;

  /** @param onRelease called once for each handle that was adopted, when it is gone and no call uses it */
  constructor(addon: KeeperAddon, keeper: Keeper, onRelease: (handle: Handle) => void) {
    this.addon = addon;
    this.keeper = keeper;
    this.onRelease = onRelease;
  }

  get count(): number {
    return this.live;
  }

  /** A handle that no process has yet. */
  create(file: OpenFile, options: HandleOptions): Handle {
    const index = this.freeIndexes.pop() ?? this.table.length;
    const handle = new Handle(file, options, index);
    this.table[index] = handle;
    this.live++;
    return handle;
  }

  /** Takes back a handle that was not adopted; its file is the creator's again. */
  discard(handle: Handle): void {
    const late = this.keeper.adopt(handle.token, handle.index);
    if (late >= 0) fs.closeSync(late);
    this.forget(handle);
  }

  /** The process holds it now, as `link`. @returns false when the keeper has not seen it, or when `link` cannot be it */
  adopt(handle: Handle, link: string): boolean {
    if (!link.startsWith('socket:') || this.byLink.has(link)) return false;
    const socket = this.keeper.adopt(handle.token, handle.index);
    if (socket < 0) return false;
    handle.socket = socket;
    handle.link = link;
    this.byLink.set(link, handle);
    handle.file.onPollChange = () => this.pollChanged(handle);
    this.pollChanged(handle);
    return true;
  }

  /** The handle that the token at `at` names, if all of the token is right. */
  find(frame: Buffer, at: number): Handle | null {
    const handle = this.table[frame.readUInt32LE(at)];
    if (handle === undefined || handle.socket < 0) return null;
    const token = handle.token;
    for (let i = TOKEN_RANDOM; i < TOKEN_BYTES; i += 4) {
      if (token.readInt32LE(i) !== frame.readInt32LE(at + i)) return null;
    }
    return handle;
  }

  behind(link: string): Handle | null {
    return this.byLink.get(link) ?? null;
  }

  /** How many bytes the next reader of this handle should take out: none while it is readable. */
  takeUnread(handle: Handle): number {
    if (handle.unread === 0 || handle.file.pollMask & POLLIN) return 0;
    const bytes = handle.unread;
    handle.unread = 0;
    this.stale.delete(handle);
    return bytes;
  }

  /**
   * Handles of a process that have stopped being readable without a read: events that were answered otherwise. A process
   * is told of each once; @returns usually null
   */
  takeStale(pid: number): Handle[] | null {
    if (this.stale.size === 0) return null;
    const found = [...this.stale].filter((handle) => handle.pid === pid);
    for (const handle of found) this.stale.delete(handle);
    return found;
  }

  /** A process died before it may have taken out `bytes`. */
  giveBackUnread(handle: Handle, bytes: number): void {
    if (handle.socket >= 0 && this.addon.unread(handle.socket) > 0) handle.unread += bytes;
  }

  begin(handle: Handle): void {
    handle.calls++;
  }

  end(handle: Handle): void {
    if (--handle.calls === 0 && handle.hungUp) this.release(handle);
  }

  /** Releases what has been closed. Before every call, so that a close comes before what its program does next. */
  sweep(): void {
    for (;;) {
      const count = this.keeper.hungUp(this.gone);
      if (count === 0) return;
      for (let i = 0; i < count; i++) this.hangUp(this.table[this.gone[i]!]!);
    }
  }

  /** Now and then. */
  prune(): void {
    this.keeper.prune();
  }

  /** Everything is closed: the server stops. */
  close(): void {
    for (const handle of this.table) {
      if (handle !== undefined && handle.socket >= 0) this.hangUp(handle);
    }
    this.keeper.close();
  }

  private pollChanged(handle: Handle): void {
    const { socket, file, unread } = handle;
    const readable = (file.pollMask & POLLIN) !== 0;
    if (readable || unread === 0) this.stale.delete(handle);
    else this.stale.add(handle);
    if (socket >= 0 && readable && unread < MOST_UNREAD && this.addon.wake(socket) > 0) handle.unread++;
  }

  private hangUp(handle: Handle): void {
    fs.closeSync(handle.socket);
    handle.socket = -1;
    handle.hungUp = true;
    handle.file.onPollChange = null;
    this.stale.delete(handle);
    this.byLink.delete(handle.link);
    if (handle.calls === 0) this.release(handle);
  }

  private release(handle: Handle): void {
    this.forget(handle);
    this.onRelease(handle);
  }

  private forget(handle: Handle): void {
    this.table[handle.index] = undefined;
    this.freeIndexes.push(handle.index);
    this.live--;
  }
}
