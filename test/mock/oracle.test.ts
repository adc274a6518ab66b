/**
 * ioctl-stream.c makes a reproducible stream of ioctls; the vectors hold what real kernels with CONFIG_IOMMUFD_TEST answered.
 * Under a server with the machine `mock` it must print the same lines.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { Server } from '../../src/server/server.ts';
import { hasCompiler } from '../abi/layout.ts';

const here = path.dirname(fileURLToPath(import.meta.url));

/** Recorded lines by seed. */
function recorded(release: string): Map<string, string[]> {
  const text = gunzipSync(fs.readFileSync(path.join(here, `../vectors/iommufd-${release}.txt.gz`))).toString();
  const [, ...parts] = text.split(/^##SEED (\d+)\n/m);
  const seeds = parts.filter((_, index) => index % 2 === 0);
  return new Map(seeds.map((seed, index) => [seed, parts[2 * index + 1]!.trimEnd().split('\n')]));
}

describe.skipIf(!hasCompiler() || process.platform !== 'linux')('a stream of ioctls on the mock machine', () => {
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-oracle-'));
  const program = path.join(folder, 'ioctl-stream');

  beforeAll(() => {
    const source = path.join(here, 'ioctl-stream.c');
    const { status, stderr } = spawnSync(process.env.CC ?? 'cc', ['-O1', '-w', '-o', program, source]);
    if (status !== 0) throw new Error(String(stderr));
  });

  afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

  for (const release of ['linux-7.1', 'linux-6.12']) {
    describe(`with --abi ${release}`, () => {
      const machine = new MockMachine({ dialect: dialect(release) });
      const errors: unknown[] = [];
      const server = new Server({ machine, directory: folder, onInternalError: (error) => errors.push(error) });

      beforeAll(() => server.start());
      afterAll(() => server.stop());

      it.each([...recorded(release)])('gets the answers of a real kernel for seed %s', async (seed, lines) => {
        const child = spawn(program, [seed, '400'], { env: { ...process.env, ...server.environment() } });
        let output = '';
        child.stdout.on('data', (chunk) => {
          output += chunk;
        });
        await once(child, 'close');
        expect(output.trimEnd().split('\n')).toEqual(lines);
        await vi.waitFor(() => expect(new Set(Object.values(machine.leftovers()))).toEqual(new Set([0])), 5000);
        expect(errors).toEqual([]);
      });
    });
  }
});
