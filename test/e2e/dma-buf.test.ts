/** Peer to peer DMA through a dma-buf of a BAR, by a program in a process of its own. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { Server } from '../../src/server/server.ts';

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-dma-buf-'));
const program = path.join(folder, 'dma-buf');

beforeAll(() => {
  const examples = path.join(import.meta.dirname, '../../examples');
  const flags = ['-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-I', examples, '-I', path.join(examples, 'uapi')];
  const source = path.join(import.meta.dirname, 'dma-buf.c');
  expect(spawnSync('cc', [...flags, '-o', program, source], { encoding: 'utf8' }).stderr).toBe('');
});

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

describe('peer to peer DMA', () => {
  it.each([
    ['linux-7.1', []],
    ['linux-6.19', []],
    ['linux-6.18', ['absent']],
  ])('of a program that exports a BAR as a dma-buf, %s', { timeout: 30_000 }, async (abi, args) => {
    const machine = new Machine(parseMachine(preset('two-smmus').machine), { dialect: dialect(abi) });
    const server = new Server({ machine, directory: folder });
    await server.start();
    try {
      const child = spawn(program, args, { env: { ...process.env, ...server.environment() } });
      let told = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (text) => {
          told += text;
        });
      }
      const [status] = await once(child, 'close');
      expect([status, told.match(/^(not ok|Bail out).*/gm)]).toEqual([0, null]);
      await vi.waitFor(() => expect(Object.values(machine.leftovers()).some((count) => count !== 0)).toBe(false), 5000);
    } finally {
      await server.stop();
    }
  });
});
