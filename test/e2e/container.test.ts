/** VFIO clients that know of containers and groups only, on both files that are a container. */
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

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-container-'));
const program = path.join(folder, 'container');

beforeAll(() => {
  const source = path.join(import.meta.dirname, 'container.c');
  const headers = path.join(import.meta.dirname, '../../examples/uapi');
  const flags = ['-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-I', headers, '-include', 'stdbool.h'];
  expect(spawnSync('cc', [...flags, '-o', program, source], { encoding: 'utf8' }).stderr).toBe('');
});

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

describe.each(['linux-7.1', 'linux-6.12', 'viommu-v2'])('a container and groups, %s', (abi) => {
  it.each(['/dev/vfio/vfio', '/dev/iommu'])('carry DMA, interrupts and mapped registers: %s', async (container) => {
    const machine = new Machine(parseMachine(preset('two-smmus').machine), { dialect: dialect(abi) });
    const server = new Server({ machine, directory: folder });
    await server.start();
    try {
      const child = spawn(program, [container], { env: { ...process.env, ...server.environment() } });
      let told = '';
      child.stderr.on('data', (text) => {
        told += text;
      });
      const [status] = await once(child, 'close');
      expect([status, told]).toEqual([0, '']);
      await vi.waitFor(() => expect(Object.values(machine.leftovers()).some((count) => count !== 0)).toBe(false), 5000);
    } finally {
      await server.stop();
    }
  });
});
