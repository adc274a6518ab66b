/** A program that pages for its devices, in a process of its own; and what is left when it is killed while a device waits. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { buildExample } from '../../src/cli/build-example.ts';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { Server } from '../../src/server/server.ts';
import type { TraceEvent } from '../../src/trace/events.ts';

const errors: unknown[] = [];
let onEvent: (event: TraceEvent) => void = () => {};
const tracer = { on: true, emit: (event: TraceEvent) => onEvent(event) };
const machine = new Machine(parseMachine(preset('page-faults').machine), { dialect: dialect('linux-7.1'), tracer });
const atRest = machine.leftovers();
const server = new Server({ machine, tracer, onInternalError: (error) => errors.push(error) });
let program: string;

beforeAll(async () => {
  await server.start();
  program = buildExample('page-faults', []);
}, 60_000);
afterAll(() => server.stop());

/** @param killAt when this DMA has begun to wait, of all devices */
async function run(killAt = 0): Promise<{ output: string; status: number | null; signal: string | null }> {
  const child = spawn(program, {
    env: { ...process.env, ...server.environment() },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let waited = 0;
  onEvent = (event) => {
    if (event.type !== 'dma' || (event.via !== 'stalled' && event.via !== 'page-request')) return;
    if (++waited === killAt) process.kill(child.pid!, 'SIGKILL');
  };
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  const [status, signal] = await once(child, 'close');
  await vi.waitFor(() => {
    expect(server.clients).toEqual({ processes: 0, connections: 0, handles: 0, eventFds: 0 });
    expect(machine.leftovers()).toEqual(atRest);
  }, 5000);
  return { output, status, signal };
}

describe('a program that pages for its devices', () => {
  it('brings each page as a device asks for it, whether that stalls or requests', { timeout: 30_000 }, async () => {
    const { output, status } = await run();
    expect(output).not.toMatch(/^not ok|Bail out/m);
    expect([status, errors]).toEqual([0, []]);
  });

  it.each([1, 5, 18, 20, 25])(
    'leaves nothing when it is killed while a device waits, at %i',
    { timeout: 30_000 },
    async (at) => {
      expect((await run(at)).signal).toBe('SIGKILL');
      expect(errors).toEqual([]);
    },
  );

  it('finds the devices as usable as before', { timeout: 30_000 }, async () => {
    expect((await run()).status).toBe(0);
  });
});
