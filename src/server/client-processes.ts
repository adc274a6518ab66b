/** The processes that talk to us, each known by one program image: an exec makes another one of the same PID. */
import fs from 'node:fs';
import type { UserAccount } from '../iommufd/process-account.ts';
import type { PageSource } from '../memory/process-memory.ts';
import { AccountTable } from './account-table.ts';
import { ClientAccount } from './client-account.ts';
import type { KeeperAddon } from './keeper.ts';
import { MemoryFiles } from './memory-files.ts';
import { RemoteMemory } from './process-memory.ts';

export class ClientImage {
  readonly pid: number;
  readonly memory: RemoteMemory;
  readonly account: ClientAccount;
  /** Connections of its threads. With none it may still have memory in use by devices, until it dies. */
  connections = 0;
  /** Descriptor of /proc/PID: stays with this process when the number is used again. */
  private proc: number;
  private readonly files: MemoryFiles;

  constructor(addon: KeeperAddon, pid: number, files: MemoryFiles, users: Map<number, UserAccount>) {
    this.pid = pid;
    this.files = files;
    this.proc = fs.openSync(`/proc/${pid}`, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      this.memory = new RemoteMemory(addon, pid, this.path, files);
      this.account = new ClientAccount(pid, this.path, users);
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

  /** A descriptor that is `link`; -1 when the process has none. */
  descriptorOf(link: string): number {
    try {
      const found = fs.readdirSync(`${this.path}/fd`).find((fd) => this.describe(Number(fd)) === link);
      return Number(found ?? -1);
    } catch {
      return -1;
    }
  }

  /** The file behind descriptor `fd`, as memory; null when closed. */
  memoryFile(fd: number): PageSource | null {
    return this.files.behind(`${this.path}/fd/${fd}`);
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
    this.account.close();
  }
}

export class ClientProcesses {
  private readonly addon: KeeperAddon;
  private readonly images = new Map<number, ClientImage>();
  private readonly files: MemoryFiles;
  private readonly users = new Map<number, UserAccount>();
  private table: AccountTable | null = null;

  constructor(addon: KeeperAddon) {
    this.addon = addon;
    this.files = new MemoryFiles(addon);
  }

  /** From now on programs find what has been pinned for them in the file at `path`. */
  showAccounts(path: string): void {
    this.table = new AccountTable(path);
  }

  /** Brings it up to date. */
  publishAccounts(): void {
    this.table?.publish(accountsOf(this.images.values()));
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
    this.files.sweep();
  }

  close(): void {
    for (const image of this.images.values()) image.close();
    this.images.clear();
    this.files.close();
    this.table?.close();
    this.table = null;
  }

  private forgetIfGone(image: ClientImage): void {
    if (image.connections > 0 || image.alive) return;
    image.close();
    if (this.images.get(image.pid) === image) this.images.delete(image.pid);
  }

  private open(pid: number): ClientImage | null {
    try {
      return new ClientImage(this.addon, pid, this.files, this.users);
    } catch {
      return null;
    }
  }
}

function* accountsOf(images: Iterable<ClientImage>): Generator<ClientAccount> {
  for (const { account } of images) yield account;
}
