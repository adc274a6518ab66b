/** A guest's own command queue through a mapped page, driven by a program that knows nothing of this project. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { buildExample } from '../../src/cli/build-example.ts';
import { CMD_ATC_INV, CMD_TLBI_NH_ASID, CMD_TLBI_NH_VA } from '../../src/hardware/smmuv3/spec/commands.ts';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { RecordingTracer } from '../../src/iommufd/testing.ts';
import { Server } from '../../src/server/server.ts';
import type { TraceEvent } from '../../src/trace/events.ts';

async function run(abi: string): Promise<{ output: string; status: number | null; events: readonly TraceEvent[] }> {
  const tracer = new RecordingTracer();
  const machine = new Machine(parseMachine(preset('grace').machine), { dialect: dialect(abi), tracer });
  const errors: unknown[] = [];
  const server = new Server({ machine, tracer, onInternalError: (error) => errors.push(error) });
  await server.start();
  try {
    const program = buildExample('cmdqv', abi === 'viommu-v2' ? ['VIOMMU_V2'] : []);
    const env = { ...process.env, ...server.environment() };
    const child = spawn(program, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    const [status] = await once(child, 'close');
    await vi.waitFor(() => expect(Object.values(machine.leftovers()).every((count) => count === 0)).toBe(true), 5000);
    expect(errors).toEqual([]);
    return { output, status, events: tracer.events };
  } finally {
    await server.stop();
  }
}

/** What happens between the program's ioctls: a list for each time. */
function betweenIoctls(events: readonly TraceEvent[]): TraceEvent[][] {
  const lists: TraceEvent[][] = [[]];
  for (const event of events) {
    if (event.type === 'ioctl') lists.push([]);
    else lists.at(-1)!.push(event);
  }
  return lists;
}

const opcodes = (events: readonly TraceEvent[], queue: string): number[] =>
  events.flatMap((event) => (event.type === 'command' && event.queue === queue ? [event.words[0]! & 0xff] : []));

describe.each(['linux-7.1', 'linux-6.17', 'viommu-v2'])('a guest with a command queue of its own, %s', (abi) => {
  it('invalidates by stores to a mapped page, with no ioctl, and cannot reach beyond itself', async () => {
    const { output, status, events } = await run(abi);
    expect(output).not.toMatch(/^not ok|Bail out/m);
    expect(output).toMatch(/^1\.\.\d+$/m);
    expect(status).toBe(0);
    const issued = betweenIoctls(events).map((list) => opcodes(list, 'VINTF1/LVCMDQ0'));
    const tlbi = [CMD_TLBI_NH_ASID, CMD_TLBI_NH_VA, CMD_TLBI_NH_VA, CMD_TLBI_NH_ASID];
    expect(issued.some((list) => tlbi.every((opcode) => list.includes(opcode)))).toBe(true);
    expect(issued.flat()).toContain(CMD_ATC_INV);
  }, 30_000);
});
