import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { fail } from '../../src/abi/errno.ts';
import type { ClientProcess, Mapping, OpenFile } from '../../src/iommufd/file.ts';
import type { ServedMachine } from '../../src/server/served-machine.ts';
import { Server } from '../../src/server/server.ts';

const PEEK = 0x100;
const LAST_ACCESS = 0x200;
const FORGET = 0x300;
const BYTES = 3 * 4096;

/** Two pages of memory that stand for registers, and one that never answers. Tells what its last access was. */
class DeviceFile implements OpenFile {
  readonly kind = 'device';
  readonly device = { major: 240, minor: 1 };
  readonly pollMask = 0;
  onPollChange: (() => void) | null = null;
  readonly bytes = new Uint8Array(BYTES);
  readonly mappings = new Set<Mapping>();
  accesses = 0;
  last = 0;

  /** LAST_ACCESS: how many there were since FORGET * 65536 + write * 256 + bytes of the last. */
  ioctl(_caller: ClientProcess, command: number, arg: bigint): number {
    if (command === PEEK) return this.bytes[Number(arg)]!;
    if (command === LAST_ACCESS) return this.accesses * 65536 + this.last;
    if (command !== FORGET) throw fail('ENOTTY', `${command} is no command`);
    this.accesses = 0;
    return 0;
  }

  mmap(_caller: ClientProcess, length: bigint, _protection: number, _flags: number, offset: bigint): Mapping {
    const access = (at: number, bytes: Uint8Array, write: boolean): Uint8Array => {
      this.accesses++;
      this.last = (write ? 256 : 0) + bytes.length;
      const from = Number(offset) + at;
      if (from + bytes.length > 2 * 4096) throw fail('EIO', 'nothing answers here');
      return this.bytes.subarray(from, from + bytes.length);
    };
    const mapping: Mapping = {
      pages: {
        name: 'device',
        length: Math.ceil(Number(length) / 4096) * 4096,
        load: (at, into) => into.set(access(at, into, false)),
        store: (at, from) => access(at, from, true).set(from),
      },
      inUse: null,
      ended: () => this.mappings.delete(mapping),
    };
    this.mappings.add(mapping);
    return mapping;
  }

  read(): never {
    throw fail('EINVAL', 'cannot be read');
  }

  write(): never {
    throw fail('EINVAL', 'cannot be written');
  }

  release(): void {}
}

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-registers-'));
const file = new DeviceFile();
const machine: ServedMachine = {
  open: () => file,
  deviceNodes: [{ path: '/dev/registers', ...file.device }],
  sysfs: [],
  ownedRoots: ['/dev/registers'],
  settle: () => true,
};
const server = new Server({ machine, directory: folder });
const program = path.join(folder, 'registers');

beforeAll(async () => {
  const source = path.join(import.meta.dirname, 'registers.c');
  const flags = ['-D_GNU_SOURCE', '-O1', '-Wall', '-Wextra', '-pthread'];
  expect(spawnSync('cc', [...flags, '-o', program, source], { encoding: 'utf8' }).stderr).toBe('');
  await server.start();
});

afterAll(async () => {
  await server.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

async function run(
  scenario: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<{ status: number | null; signal: string | null; told: string }> {
  file.bytes.fill(0);
  const child = spawn(program, [scenario], { env: { ...process.env, ...server.environment(), ...environment } });
  let told = '';
  child.stderr.on('data', (text) => {
    told += text;
  });
  const [status, signal] = await once(child, 'close');
  await vi.waitFor(() => expect(file.mappings.size).toBe(0), 5000);
  return { status, signal, told };
}

it.each([
  ['act at once, in one access of the width of the instruction', 'widths'],
  ['are read and written by ordinary code: volatile, memcpy, memset, comparisons', 'code'],
  ['take every instruction that is known, with the results and flags of memory', 'instructions'],
  ['are a bus error where the device does not answer', 'bus-error'],
  ['can be mapped in part, and read-only', 'parts'],
  ['are there to the end of the last page', 'end-of-page'],
  ['can be protected together with memory around them', 'mixed'],
  ['are refused when there are too many, and then nothing changes', 'many'],
  ['can be mapped and unmapped by threads of a program that forks', 'threads'],
  ['fault where the other operand of the instruction does', 'half'],
  ['are gone after munmap, and what is mapped in their place is what it is', 'unmapped'],
  ['stay after the descriptor is closed, and for a forked child', 'fork'],
  ['leave the program its handler of SIGSEGV, set before or after', 'own-handler'],
  ['leave the program its signals, and it cannot shut out theirs', 'signals'],
  ['are reached by threads that block every signal', 'blocked'],
])('mapped registers %s', async (_, scenario) => {
  expect(await run(scenario)).toEqual({ status: 0, signal: null, told: '' });
});

const onX86 = it.runIf(process.arch === 'x64');

onX86('mapped registers are counted in by threads, with the atomics of C', async () => {
  expect(await run('atomics')).toEqual({ status: 0, signal: null, told: '' });
});

onX86.each([
  '',
  '-AVX512VL,-AVX512BW',
  '-AVX512VL,-AVX512BW,-RTM',
  '-AVX512VL,-AVX512BW,-AVX2,-AVX',
  '-AVX512VL,-AVX512BW,-AVX2,-AVX,-SSE4_2,-SSE4_1,-SSSE3',
])(
  "mapped registers are compared and searched by libc's functions, for a processor with glibc.cpu.hwcaps=%s",
  async (without) => {
    expect(await run('libc', { GLIBC_TUNABLES: `glibc.cpu.hwcaps=${without}` })).toEqual({
      status: 0,
      signal: null,
      told: '',
    });
  },
);

it("AArch64's loads and stores mean what they mean, on any machine", () => {
  const tried = path.join(folder, 'aarch64');
  const source = path.join(import.meta.dirname, 'aarch64.c');
  const flags = ['-D_GNU_SOURCE', '-O1', '-Wall', '-Wextra'];
  expect(spawnSync('cc', [...flags, '-o', tried, source], { encoding: 'utf8' }).stderr).toBe('');
  const { status, stderr } = spawnSync(tried, { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
});

it('an instruction that is not known ends the program, with a word about it', async () => {
  const { signal, told } = await run('unknown');
  expect([signal, told]).toEqual(['SIGSEGV', expect.stringMatching(/^uiommufd: 0f 0b|^uiommufd: .* cannot access/)]);
});
