/** Looks at a program before it is run: the shim reaches only those that make their system calls through libc. */
import fs from 'node:fs';
import path from 'node:path';

/** Where execvp(3) finds it; null: nowhere. */
export function findProgram(command: string, env: NodeJS.ProcessEnv, cwd = process.cwd()): string | null {
  const folders = command.includes('/') ? [''] : (env.PATH ?? '/bin:/usr/bin').split(':');
  for (const folder of folders) {
    const file = path.resolve(cwd, folder, command);
    try {
      fs.accessSync(file, fs.constants.X_OK);
      if (fs.statSync(file).isFile()) return file;
    } catch {
      // In one of the other folders, perhaps.
    }
  }
  return null;
}

/** Why the shim cannot work in the program in `file`, as the end of a sentence that the program's name begins; null: it can. */
export function outOfReach(file: string, depth = 0): string | null {
  let bytes: Buffer;
  try {
    const { mode, uid, gid } = fs.statSync(file);
    if ((mode & 0o4000 && uid !== process.getuid!()) || (mode & 0o2000 && gid !== process.getgid!())) {
      return 'runs with the rights of another user, so the system loads no library of ours into it';
    }
    bytes = head(file);
  } catch {
    return null;
  }
  const interpreter = /^#! *(\S+)/.exec(bytes.toString('latin1', 0, 256))?.[1];
  if (interpreter !== undefined) return depth < 4 ? outOfReach(interpreter, depth + 1) : null;
  return bytes.length >= 64 && bytes.readUInt32BE(0) === ELF_MAGIC ? aboutElf(bytes) : null;
}

const HEAD_BYTES = 1 << 16;
const ELF_MAGIC = 0x7f454c46;
const PT_INTERP = 3;
const PT_NOTE = 4;
/** e_machine of elf.h, by what Node calls it. */
const MACHINES: Partial<Record<string, number>> = { x64: 62, arm64: 183, riscv64: 243 };

/** ELF(5), 64 bits, little-endian. */
function aboutElf(elf: Buffer): string | null {
  const [is64, isLittle] = [elf[4] === 2, elf[5] === 1];
  if (!is64 || !isLittle || elf.readUInt16LE(18) !== (MACHINES[process.arch] ?? elf.readUInt16LE(18))) {
    return 'is for another kind of processor than the shim';
  }
  const loader = segments(elf, PT_INTERP)[0];
  if (loader === undefined) return 'is statically linked, so no library of ours can be loaded into it';
  if (segments(elf, PT_NOTE).some((notes) => notes.includes('\0Go\0'))) {
    return 'is written in Go, which makes its system calls without libc';
  }
  // The shim is built for the libc that Node uses.
  const [its, ours] = [libcOf(loader), libcOf(segments(head(process.execPath), PT_INTERP)[0] ?? '')];
  return its === ours ? null : `uses ${its} and the shim ${ours}`;
}

const libcOf = (loader: string): string => (loader.includes('/ld-musl-') ? 'musl' : 'glibc');

/** Contents of the segments of a type, those within the head of the file. */
function segments(elf: Buffer, type: number): string[] {
  const found: string[] = [];
  const [table, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  for (let at = table; at < table + size * count && at + 56 <= elf.length; at += size) {
    if (elf.readUInt32LE(at) !== type) continue;
    const [offset, length] = [Number(elf.readBigUInt64LE(at + 8)), Number(elf.readBigUInt64LE(at + 32))];
    found.push(elf.toString('latin1', offset, offset + length));
  }
  return found;
}

function head(file: string): Buffer {
  const fd = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(HEAD_BYTES);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, HEAD_BYTES, 0));
  } finally {
    fs.closeSync(fd);
  }
}
