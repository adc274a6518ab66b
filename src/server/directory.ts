/**
 * The server's private folder: `root/` holds the files that programs are to see, at their paths; `config` tells the shim
 * what it must know. It is its user's alone, and is removed however the server ends.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs, { constants } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { KeeperAddon } from './keeper.ts';
import { errnoName } from './keeper.ts';
import type { DeviceNode, ServedMachine, SysfsEntry } from './served-machine.ts';

/** What the shim needs besides the files. Names are of abstract sockets. */
export interface ShimConfig {
  readonly calls: string;
  readonly keeper: string;
  readonly handles: string;
  readonly secret: Buffer;
}

export class PrivateDirectory {
  readonly path: string;
  readonly root: string;
  readonly config: string;
  private readonly janitor;

  /** @param parent where to make it; by default the user's runtime folder, or the temporary one */
  constructor(parent?: string) {
    this.path = fs.realpathSync(makeFolder(parent));
    this.root = path.join(this.path, 'root');
    this.config = path.join(this.path, 'config');
    // Ends when this process does, even by SIGKILL, and is in a session of its own: no Ctrl-C reaches it.
    this.janitor = spawn('/bin/sh', ['-c', 'read _; rm -rf -- "$0"', this.path], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      env: { PATH: process.env.PATH },
      cwd: '/',
    });
    this.janitor.unref();
    (this.janitor.stdin as unknown as { unref(): void }).unref();
    this.janitor.on('error', () => {});
    this.janitor.stdin.on('error', () => {});
    fs.mkdirSync(this.root);
  }

  /** Lays the machine's files out, and writes the configuration. */
  fill(machine: ServedMachine, shim: ShimConfig, addon: KeeperAddon): void {
    for (const entry of machine.sysfs) this.place(machine, entry);
    for (const entry of machine.sysfs) if (entry.kind === 'dir' && entry.merged) this.merge(entry.path);
    const nodes = machine.deviceNodes.map((node) => this.placeNode(machine, node, addon));
    const lines = [
      `root ${this.root}`,
      `device ${fs.statSync(this.root).dev}`,
      `server ${process.pid}`,
      `calls ${shim.calls}`,
      `keeper ${shim.keeper}`,
      `handles ${shim.handles}`,
      `secret ${shim.secret.toString('hex')}`,
      ...machine.ownedRoots.map((root) => `own ${root}`),
      ...nodes,
    ];
    fs.writeFileSync(this.config, `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  /** Has a file that fill() laid out, or a folder with all that is in it, vanish and come back: still the same one. */
  setVisible(file: string, visible: boolean): void {
    const shown = path.join(this.root, file);
    const hidden = path.join(this.path, 'hidden', encodeURIComponent(file));
    fs.mkdirSync(path.dirname(hidden), { recursive: true });
    if (visible) fs.renameSync(hidden, shown);
    else fs.renameSync(shown, hidden);
  }

  /** Has a file hold something else for those who open it from now on. */
  setContent(file: string, content: string): void {
    const at = path.join(this.root, file);
    const made = path.join(this.path, 'content');
    fs.writeFileSync(made, content);
    fs.chmodSync(made, fs.statSync(at).mode);
    fs.renameSync(made, at);
  }

  async remove(): Promise<void> {
    fs.rmSync(this.path, { recursive: true, force: true });
    if (this.janitor.pid === undefined || this.janitor.exitCode !== null || this.janitor.signalCode !== null) return;
    this.janitor.ref();
    const ended = once(this.janitor, 'exit');
    this.janitor.stdin.end();
    await ended;
  }

  private place(machine: ServedMachine, entry: SysfsEntry): void {
    const at = this.locate(machine, entry.path);
    if (entry.kind === 'dir') {
      fs.mkdirSync(at, { recursive: true });
      return;
    }
    fs.mkdirSync(path.dirname(at), { recursive: true });
    if (entry.kind === 'file') {
      fs.writeFileSync(at, entry.content);
      fs.chmodSync(at, entry.mode ?? 0o444);
      return;
    }
    const { target } = entry;
    fs.symlinkSync(path.isAbsolute(target) ? path.relative(path.dirname(entry.path), target) : target, at);
  }

  private merge(folder: string): void {
    const real = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
    const ours = new Set(fs.readdirSync(path.join(this.root, folder)));
    for (const name of real.filter((each) => !ours.has(each))) {
      fs.symlinkSync(path.join(folder, name), path.join(this.root, folder, name));
    }
  }

  /** @returns its line in the configuration: inode, numbers, type and permissions, path */
  private placeNode(machine: ServedMachine, node: DeviceNode, addon: KeeperAddon): string {
    const at = this.locate(machine, node.path);
    const type = node.regular ? constants.S_IFREG : constants.S_IFCHR;
    const mode = node.mode ?? 0o600;
    fs.mkdirSync(path.dirname(at), { recursive: true });
    const made = addon.makeNode(at, mode);
    if (made < 0) throw new Error(`cannot make ${at}: ${errnoName(made)}`);
    return `node ${fs.lstatSync(at).ino} ${node.major} ${node.minor} ${(type | mode).toString(8)} ${node.path}`;
  }

  private locate(machine: ServedMachine, at: string): string {
    const owned = machine.ownedRoots.some((root) => at === root || at.startsWith(`${root}/`));
    if (!owned || path.normalize(at) !== at) throw new Error(`${at} is not under a root that the machine owns`);
    return path.join(this.root, at);
  }
}

function makeFolder(parent: string | undefined): string {
  const runtime = process.env.XDG_RUNTIME_DIR;
  if (parent === undefined && runtime) {
    try {
      return fs.mkdtempSync(path.join(runtime, 'uiommufd-'));
    } catch {
      // Set, but gone or another user's, as under sudo.
    }
  }
  return fs.mkdtempSync(path.join(parent ?? tmpdir(), 'uiommufd-'));
}
