/** The processes that talk to us, each known by one program image: an exec makes another one of the same PID. */
import fs from 'node:fs';
import type { KeeperAddon } from './keeper.ts';
import { RemoteMemory } from './process-memory.ts';

export class ClientImage {
  readonly pid: number;
  readonly memory: RemoteMemory;
  /** Connections of its threads. With none it may still have memory in use by devices, until it dies. */
  connections = 0;
  /** Descriptor of /proc/PID: stays with this process when the number is used again. */
  private proc: number;

  constructor(addon: KeeperAddon, pid: number) {
    this.pid = pid;
    this.proc = fs.openSync(`/proc/${pid}`, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      this.memory = new RemoteMemory(addon, pid, this.path);
    } catch (error) {
      fs.closeSync(this.proc);
      throw error;
    }
  }

  private get path(): string {
    return `/proc/self/fd/${this.proc}`;
  }

  /** What descriptor `fd` is, as its link in /proc says: 'socket:[1234]'; '' when closed. */
  describe(fd: number): string {
    try {
      return fs.readlinkSync(`${this.path}/fd/${fd}`);
    } catch {
      return '';
    }
  }

  /** Does it show `bytes` at `address`? */
  shows(address: number, bytes: Uint8Array): boolean {
    const seen = Buffer.alloc(bytes.length);
    return this.memory.read(address, seen) && seen.equals(bytes);
  }

  get alive(): boolean {
    return this.memory.alive && fs.existsSync(`${this.path}/stat`);
  }

  close(): void {
    if (this.proc >= 0) fs.closeSync(this.proc);
    this.proc = -1;
    this.memory.close();
  }
}

export class ClientProcesses {
  private readonly addon: KeeperAddon;
  private readonly images = new Map<number, ClientImage>();

  constructor(addon: KeeperAddon) {
    this.addon = addon;
  }

  get count(): number {
    this.sweep();
    return this.images.size;
  }

  /** The image that shows `nonce` at `address`, if it is PID's; null when the claim is false. Counts a connection. */
  identify(pid: number, address: number, nonce: Uint8Array): ClientImage | null {
    let image = this.images.get(pid);
    if (!image?.shows(address, nonce)) {
      const fresh = this.open(pid);
      if (!fresh?.shows(address, nonce)) {
        fresh?.close();
        return null;
      }
      image?.close();
      image = fresh;
      this.images.set(pid, image);
    }
    image.connections++;
    return image;
  }

  disconnect(image: ClientImage): void {
    image.connections--;
    this.forgetIfGone(image);
  }

  /** Forgets processes that have died since their last connection closed. */
  sweep(): void {
    for (const image of this.images.values()) this.forgetIfGone(image);
  }

  close(): void {
    for (const image of this.images.values()) image.close();
    this.images.clear();
  }

  private forgetIfGone(image: ClientImage): void {
    if (image.connections > 0 || image.alive) return;
    image.close();
    if (this.images.get(image.pid) === image) this.images.delete(image.pid);
  }

  private open(pid: number): ClientImage | null {
    try {
      return new ClientImage(this.addon, pid);
    } catch {
      return null;
    }
  }
}
