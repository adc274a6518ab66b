/** Programs that the shim cannot be in: it says so where one is executed. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-programs-'));
let executes: string;
beforeAll(async () => {
  await harness.server.start();
  executes = harness.compile('executes');
});
afterAll(async () => {
  await harness.stop();
  fs.rmSync(folder, { recursive: true });
});

/** What the shim says of it. */
async function told(script: string, ...args: string[]): Promise<string[]> {
  const { stderr } = await harness.run('/bin/sh', '-c', script, ...args);
  return stderr.split('\n').filter((line) => line.startsWith('uiommufd: '));
}

function write(name: string, content: string | Buffer, mode = 0o755): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, content);
  fs.chmodSync(file, mode);
  return file;
}

const HERE = process.arch === 'arm64' ? 183 : 62;
const LOADER = { type: 3, text: '/lib64/ld-linux.so.2\0' };

/** An ELF file with the header fields and segments that matter, as elf(5) has them. */
function elf(
  name: string,
  segments: { type: number; text: string }[],
  { machine = HERE, bits = 2, headersAt = 64n } = {},
): string {
  const headers = 64 + 56 * segments.length;
  const bytes = Buffer.alloc(headers + segments.reduce((sum, { text }) => sum + text.length, 0));
  bytes.write('\x7fELF', 'latin1');
  bytes[4] = bits;
  bytes[5] = 1;
  bytes.writeUInt16LE(machine, 18);
  bytes.writeBigUInt64LE(headersAt, 32);
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

describe('of a program that is executed is told:', () => {
  it.each([
    ['nothing, of one that has a loader', () => elf('dynamic', [LOADER]), null],
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
    ['a script for such a one', () => write('script', `#! ${elf('static2', [])} -x\n`), 'is statically linked'],
    ['nothing, of a script for an ordinary one', () => write('script2', '#!/bin/sh\n'), null],
    ['nothing, of what is no program', () => write('text', 'hello'), null],
    ['nothing, of what may not be executed', () => write('plain', fs.readFileSync(elf('static3', [])), 0o644), null],
    ['nothing, of what is not there', () => path.join(folder, 'none'), null],
    ['nothing, of headers that lead nowhere', () => elf('far', [LOADER], { headersAt: 2n ** 63n }), null],
  ])('%s', async (_, make, expected) => {
    const file = make();
    expect(await told('"$0"; "$0"', file)).toEqual(
      expected === null ? [] : [expect.stringMatching(`^uiommufd: ${file} .*${expected}.*: it sees the real machine$`)],
    );
  });

  it('nothing, of ordinary programs', async () => {
    const { stderr } = await harness.run('/bin/sh', '-c', `ls /; env true; '${process.execPath}' -e 1`);
    expect(stderr).toBe('');
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

const SOURCE = `#include <stdio.h>
#include <stdlib.h>
int main(int n, char **a) { printf("%d %s %s %s", n, a[1], a[n - 1], getenv("MARK")); }`;
const source = write('static.c', SOURCE, 0o644);
const linked = path.join(folder, 'linked');
const canLink = spawnSync('cc', ['-static', '-o', linked, source]).status === 0;

describe.skipIf(!canLink)('a static program runs as it would, and is told of once (needs a static libc), by', () => {
  it.each([
    ...['execve', 'execv', 'execvp', 'execvpe', 'execl', 'execlp', 'execle', 'fexecve', 'execveat'],
    ...['posix_spawn', 'posix_spawnp', 'vfork'],
  ])('%s', async (form) => {
    const program = path.join(folder, form);
    fs.copyFileSync(linked, program);
    const names: Record<string, string> = { fexecve: '/proc/self/fd/\\d+', execveat: form };
    const of = names[form] ?? program;
    const expected = `^uiommufd: ${of} is statically linked, so no library of ours can be loaded into it: it sees the real machine\n$`;
    const [first, second] = [await harness.run(executes, form, folder), await harness.run(executes, form, folder)];
    expect(first).toMatchObject({ status: 0, stdout: '3 one two here', stderr: expect.stringMatching(expected) });
    expect(second).toMatchObject({ status: 0, stdout: '3 one two here', stderr: '' });
  });

  it('runs without a word where stderr is closed, full or broken', async () => {
    for (const how of ['2>&-', '2>/dev/full', '2> >(exec 2>&-)']) {
      const program = path.join(folder, `quiet${how.length}`);
      fs.copyFileSync(linked, program);
      const { status, stdout } = await harness.run('bash', '-c', `${program} one ${how}; sleep 0.1`);
      expect([how, status, stdout]).toEqual([how, 0, '2 one one (null)']);
    }
  });
});
