import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findProgram, outOfReach } from './program-file.ts';

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-programs-'));
afterAll(() => fs.rmSync(folder, { recursive: true }));

function write(name: string, content: string | Buffer, mode = 0o755): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, content);
  fs.chmodSync(file, mode);
  return file;
}

const HERE = process.arch === 'arm64' ? 183 : 62;
const LOADER = { type: 3, text: '/lib64/ld-linux.so.2\0' };

/** An ELF file with the header fields and segments that matter, as elf(5) has them. */
function elf(name: string, segments: { type: number; text: string }[], { machine = HERE, bits = 2 } = {}): string {
  const headers = 64 + 56 * segments.length;
  const bytes = Buffer.alloc(headers + segments.reduce((sum, { text }) => sum + text.length, 0));
  bytes.write('\x7fELF', 'latin1');
  bytes[4] = bits;
  bytes[5] = 1;
  bytes.writeUInt16LE(machine, 18);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(segments.length, 56);
  let at = headers;
  segments.forEach(({ type, text }, i) => {
    bytes.writeUInt32LE(type, 64 + 56 * i);
    bytes.writeBigUInt64LE(BigInt(at), 64 + 56 * i + 8);
    bytes.writeBigUInt64LE(BigInt(text.length), 64 + 56 * i + 32);
    at += bytes.write(text, at, 'latin1');
  });
  return write(name, bytes);
}

describe('a program that the shim cannot reach is told:', () => {
  it.each([
    ['none, of one that has a loader', () => elf('dynamic', [LOADER]), null],
    ['statically linked', () => elf('static', [{ type: 1, text: 'code' }]), 'is statically linked'],
    ['Go', () => elf('go', [LOADER, { type: 4, text: '\x04\0\0\0\x53\0\0\0\x04\0\0\0Go\0\0id' }]), 'is written in Go'],
    [
      'of another libc',
      () => elf('musl', [{ type: 3, text: '/lib/ld-musl-x86_64.so.1\0' }]),
      'uses musl and the shim glibc',
    ],
    ['for another processor', () => elf('foreign', [LOADER], { machine: 40 }), 'another kind of processor'],
    ['of 32 bits', () => elf('narrow', [LOADER], { bits: 1 }), 'another kind of processor'],
    ['set-user-ID of another user', () => otherUsers(), 'rights of another user'],
    ['a script for such a one', () => write('script', `#!${elf('static2', [])} -x\n`), 'is statically linked'],
    ['none, of a script for an ordinary one', () => write('script2', '#!/bin/sh\n'), null],
    ['none, of what is no program', () => write('text', 'hello'), null],
    ['none, of what is not there', () => path.join(folder, 'none'), null],
  ])('%s', (_, file, expected) => {
    const why = outOfReach(file());
    if (expected === null) expect(why).toBe(null);
    else expect(why).toContain(expected);
  });

  it('none, of the program that runs this test', () => {
    expect(outOfReach(process.execPath)).toBe(null);
  });

  /** Only root can give a file away; others find /bin/su. */
  function otherUsers(): string {
    if (process.getuid!() !== 0) return '/bin/su';
    const file = elf('setuid', [LOADER]);
    fs.chownSync(file, 12345, 12345);
    fs.chmodSync(file, 0o4755);
    return file;
  }
});

describe('a program is found', () => {
  it('in the first folder of PATH that has it as a file that can be executed', () => {
    for (const name of ['a', 'b', 'c']) fs.mkdirSync(path.join(folder, name));
    fs.mkdirSync(path.join(folder, 'a/tool'));
    write('b/tool', '', 0o644);
    const right = write('c/tool', '');
    const env = { PATH: ['a', 'b', 'c'].map((name) => path.join(folder, name)).join(':') };
    // Root may execute what anyone may.
    expect(findProgram('tool', env)).toBe(right);
    expect(findProgram('other', env)).toBe(null);
  });

  it('by its path, from the folder that it is to run in', () => {
    const file = write('here', '');
    expect(findProgram('./here', {}, folder)).toBe(file);
    expect(findProgram(file, {})).toBe(file);
    expect(findProgram('./none', {}, folder)).toBe(null);
  });
});
