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
  /** For LD_PRELOAD: the shim looks for its configuration beside the name by which it is loaded. */
  readonly library: string;
  private readonly janitor;

  /**
   * @param library the shim, compiled
   * @param parent where to make it; by default the user's runtime folder, or the temporary one
   */
  constructor(library: string, parent?: string) {
    this.path = makeFolder(parent);
    this.root = path.join(this.path, 'root');
    this.library = path.join(this.path, path.basename(library));
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
    fs.symlinkSync(library, this.library);
  }

  /** Lays the machine's files out, and writes the configuration. */
  fill(machine: ServedMachine, shim: ShimConfig, addon: KeeperAddon): void {
    for (const entry of machine.sysfs) this.place(machine, entry);
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
    fs.writeFileSync(path.join(this.path, 'config'), `${lines.join('\n')}\n`, { mode: 0o600 });
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

  /** @returns its line in the configuration: inode, numbers, type and permissions, size, path */
  private placeNode(machine: ServedMachine, node: DeviceNode, addon: KeeperAddon): string {
    const at = this.locate(machine, node.path);
    const type = node.regular ? constants.S_IFREG : constants.S_IFCHR;
    const mode = node.mode ?? 0o600;
    fs.mkdirSync(path.dirname(at), { recursive: true });
    const made = addon.makeNode(at, mode);
    if (made < 0) throw new Error(`cannot make ${at}: ${errnoName(made)}`);
    const shown = `${node.major} ${node.minor} ${(type | mode).toString(8)} ${node.size ?? 0}`;
    return `node ${fs.lstatSync(at).ino} ${shown} ${node.path}`;
  }

  private locate(machine: ServedMachine, at: string): string {
    const owned = machine.ownedRoots.some((root) => at === root || at.startsWith(`${root}/`));
    if (!owned || path.normalize(at) !== at) throw new Error(`${at} is not under a root that the machine owns`);
    return path.join(this.root, at);
  }
}

/** Throws one sentence when there is no place. */
function makeFolder(parent: string | undefined): string {
  const { XDG_RUNTIME_DIR: runtime } = process.env;
  const places = parent === undefined ? [...(runtime ? [runtime] : []), tmpdir()] : [parent];
  const why: string[] = [];
  for (const place of places) {
    try {
      const at = fs.realpathSync(place);
      if (!/[\s:]/.test(at)) return fs.mkdtempSync(path.join(at, 'uiommufd-'));
      why.push(`LD_PRELOAD cannot name a folder with spaces or colons, as '${at}'`);
    } catch (error) {
      // XDG_RUNTIME_DIR may be gone, or another user's, as under sudo.
      why.push((error as Error).message);
    }
  }
  throw new Error(`no folder for this run's files (set TMPDIR): ${why.join('; ')}`);
}
