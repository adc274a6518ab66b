/** The guest's initial root file system: busybox, the kernel modules of the NVMe driver, and guest-init.sh. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type ArchiveEntry, cpioArchive } from './cpio.ts';

/**
 * @param busybox a static busybox of the guest's architecture
 * @param modules folder of the guest kernel's modules (lib/modules/RELEASE), or null when the driver is built in
 */
export function initramfs(busybox: string, modules: string | null): Buffer {
  const files = modules === null ? [] : withDependencies(modules, 'nvme');
  const order = files.map(insertable).join('\n');
  const entries: ArchiveEntry[] = [
    { path: 'init', bytes: readFileSync(join(import.meta.dirname, 'guest-init.sh')), executable: true },
    { path: 'bin/busybox', bytes: readFileSync(busybox), executable: true },
    { path: 'modules/order', bytes: Buffer.from(`${order}\n`) },
    ...files.map((file) => ({ path: `modules/${insertable(file)}`, bytes: unpacked(file) })),
  ];
  return gzipSync(cpioArchive(entries), { level: 1 });
}

/** The files of module `name` and of all that it depends on, in the order in which they can be inserted. */
function withDependencies(folder: string, name: string): string[] {
  const paths = new Map(moduleFiles(folder).map((file) => [moduleName(file), file]));
  const builtIn = builtInModules(folder);
  const order: string[] = [];
  const add = (module: string): void => {
    if (builtIn.has(module)) return;
    const file = paths.get(module);
    if (!file)
      throw new Error(`module ${module} is not in ${folder}, which should be lib/modules/RELEASE of the guest`);
    if (order.includes(file)) return;
    for (const needed of dependencies(file)) add(needed);
    order.push(file);
  };
  add(name);
  return order;
}

/** What the kernel has inside, as its package lists it. */
function builtInModules(folder: string): Set<string> {
  const list = join(folder, 'modules.builtin');
  if (!existsSync(list)) return new Set();
  return new Set(readFileSync(list, 'utf8').trimEnd().split('\n').map(moduleName));
}

function moduleFiles(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => MODULE.test(name)).map((name) => join(folder, name));
}

/** Newer distributions compress their modules. */
const MODULE = /\.ko(\.xz|\.zst|\.gz)?$/;
const DECOMPRESSORS: Readonly<Record<string, string>> = { '.xz': 'xz', '.zst': 'zstd', '.gz': 'gzip' };

function unpacked(file: string): Buffer {
  const tool = DECOMPRESSORS[extname(file)];
  return tool ? execFileSync(tool, ['-dc', file], { maxBuffer: 2 ** 30 }) : readFileSync(file);
}

/** The module's file in the guest: without compression, which not every kernel can undo. */
const insertable = (file: string): string => basename(file).replace(MODULE, '.ko');

const moduleName = (file: string): string => basename(file).replace(MODULE, '').replaceAll('-', '_');

/** From the module's own information section: zero-terminated "key=value" strings. */
function dependencies(file: string): string[] {
  const bytes = unpacked(file);
  const start = bytes.indexOf('\0depends=') + '\0depends='.length;
  const list = bytes.toString('latin1', start, bytes.indexOf(0, start));
  return list === '' ? [] : list.split(',').map((name) => name.replaceAll('-', '_'));
}
