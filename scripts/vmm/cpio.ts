/** An archive in cpio's "newc" format, which kernels unpack as their initial root file system. */

export interface ArchiveEntry {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly executable?: boolean;
}

const DIRECTORY = 0o040755;
const FILE = 0o100644;
const PROGRAM = 0o100755;

/** Folders are made as entries need them. */
export function cpioArchive(entries: readonly ArchiveEntry[]): Buffer {
  const folders = new Set<string>();
  for (const { path } of entries) {
    const parts = path.split('/');
    for (let i = 1; i < parts.length; i++) folders.add(parts.slice(0, i).join('/'));
  }
  const records = [...folders].map((folder) => [folder, DIRECTORY, new Uint8Array()] as const);
  const files = entries.map(({ path, bytes, executable }) => [path, executable ? PROGRAM : FILE, bytes] as const);
  const all = [...records, ...files, ['TRAILER!!!', 0, new Uint8Array()] as const];
  return Buffer.concat(all.flatMap(([path, mode, bytes], index) => record(path, mode, bytes, index + 1)));
}

/** Header, name and contents, the last two padded to 4 bytes. */
function record(path: string, mode: number, bytes: Uint8Array, inode: number): Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  const links = 1;
  // inode, mode, uid, gid, links, mtime, size, four device numbers, length of the name, checksum (none in this variant)
  const fields = [inode, mode, 0, 0, links, 0, bytes.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [header, name, padding(header.length + name.length), bytes, padding(bytes.length)];
}

const padding = (length: number): Uint8Array => new Uint8Array(-length & 3);
