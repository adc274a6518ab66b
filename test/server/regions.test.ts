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

const READ_BYTE = 0x100;
const WRITE_BYTE = 0x200;
const IN_USE = 0x300;

/** A file with a region that its programs may map. */
class RegionFile implements OpenFile {
  readonly kind = 'region';
  readonly device = { major: 240, minor: 1 };
  readonly pollMask = 0;
  onPollChange: (() => void) | null = null;
  readonly region = { bytes: new Uint8Array(8192) };
  mapping: Mapping | null = null;
  endsBadly = false;

  constructor() {
    this.region.bytes[1] = 42;
  }

  ioctl(_caller: ClientProcess, command: number, arg: bigint): number {
    const { bytes } = this.region;
    if (command === READ_BYTE) return bytes[Number(arg)]!;
    if (command === WRITE_BYTE) {
      bytes[Number(arg)] = 99;
      return 0;
    }
    if (command !== IN_USE) throw fail('ENOTTY', `${command} is no command`);
    if (this.mapping?.inUse?.() === false) this.mapping = null;
    return this.mapping ? 1 : 0;
  }

  read(): never {
    throw fail('EINVAL', 'cannot be read');
  }

  write(): never {
    throw fail('EINVAL', 'cannot be written');
  }

  mmap(_caller: ClientProcess, _length: bigint, _protection: number, flags: number): Mapping {
    if (!(flags & 1)) throw fail('EINVAL', 'only a shared mapping is possible');
    if (!this.mapping) {
      const mapping: Mapping = {
        pages: this.region,
        inUse: null,
        ended: () => {
          if (this.mapping !== mapping) return;
          this.mapping = null;
          if (this.endsBadly) throw new TypeError('an invariant of ours is broken');
        },
      };
      this.mapping = mapping;
    }
    return this.mapping;
  }

  release(): void {}
}

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-regions-'));
const file = new RegionFile();
const machine: ServedMachine = {
  open: () => file,
  deviceNodes: [{ path: '/dev/region', ...file.device }],
  sysfs: [],
  ownedRoots: ['/dev/region'],
  settle: () => true,
};
const errors: unknown[] = [];
const server = new Server({ machine, directory: folder, onInternalError: (error) => errors.push(error) });
const program = path.join(folder, 'regions');

/** Exit status of the program, and what it says. */
async function run(): Promise<[number, string]> {
  const child = spawn(program, { env: { ...process.env, ...server.environment() } });
  let told = '';
  child.stderr.on('data', (text) => {
    told += text;
  });
  const [status] = await once(child, 'close');
  return [status, told];
}

beforeAll(async () => {
  const source = path.join(import.meta.dirname, 'regions.c');
  const built = spawnSync('cc', ['-D_GNU_SOURCE', '-Wall', '-Wextra', '-o', program, source], { encoding: 'utf8' });
  expect(built.stderr).toBe('');
  await server.start();
});

afterAll(async () => {
  await server.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

it('a program and the engine share a region while any process maps it', async () => {
  expect(await run()).toEqual([0, '']);
  await vi.waitFor(() => expect(file.mapping).toBeNull(), 5000);
  expect(file.region.bytes[8191]).toBe(7);
  expect(errors).toEqual([]);
});

it('a mistake of ours at the end of a mapping, which nobody calls for, is told, and the server goes on', async () => {
  file.endsBadly = true;
  expect(await run()).toEqual([0, '']);
  await vi.waitFor(() => expect(errors.length).toBeGreaterThan(0), 5000);
  expect(await run()).toEqual([0, '']);
});
