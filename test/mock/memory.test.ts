import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { Server } from '../../src/server/server.ts';

const here = path.dirname(fileURLToPath(import.meta.url));

describe('memory of programs on the mock machine', () => {
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-memory-'));
  const program = path.join(folder, 'memory');
  const machine = new MockMachine({ dialect: dialect('linux-7.1') });
  const errors: unknown[] = [];
  const server = new Server({ machine, directory: folder, onInternalError: (error) => errors.push(error) });

  beforeAll(async () => {
    const source = path.join(here, 'memory.c');
    const { status, stderr } = spawnSync(process.env.CC ?? 'cc', ['-O1', '-Wall', '-o', program, source]);
    if (status !== 0) throw new Error(String(stderr));
    await server.start();
  });
  afterAll(async () => {
    await server.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it.each([
    ['is one, by whichever address it is mapped', 'address'],
    ['is one, by address and by file, even when the descriptor is closed', 'file'],
    ['is one in huge pages too', 'hugetlb'],
    ['counts in VmPin, for the process itself and for others', 'counts'],
    ['cannot be pinned beyond RLIMIT_MEMLOCK without CAP_IPC_LOCK', 'limit'],
    ['may be cut short under the server, which lives on', 'cut'],
    ['goes on after the process that mapped it if it was shared, and is empty RAM if not', 'mapper-gone'],
  ])('%s', async (_, scenario) => {
    const child = spawn(program, [scenario], { env: { ...process.env, ...server.environment() } });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    const [status] = await once(child, 'close');
    expect([output, status]).toEqual(['', 0]);
    await vi.waitFor(() => expect(new Set(Object.values(machine.leftovers()))).toEqual(new Set([0])), 5000);
    expect(errors).toEqual([]);
  });
});
