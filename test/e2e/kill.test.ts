/**
 * The client is killed at any point: after any event of a whole run of an example (an ioctl before its answer, a DMA in
 * the middle of a register write, a command on its way), and nothing of it is left on the machine.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { buildExample } from '../../src/cli/build-example.ts';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { Server } from '../../src/server/server.ts';
import type { TraceEvent, Tracer } from '../../src/trace/events.ts';

/** Calls `onEvent` with the number of each event, from 1 on. */
class CountingTracer implements Tracer {
  readonly on = true;
  count = 0;
  onEvent: (count: number) => void = () => {};

  emit(_event: TraceEvent): void {
    this.onEvent(++this.count);
  }
}

/** Steps: not too many for every change; primes, so that repeated runs of the same calls are hit at different places. */
const RUNS = ['linux-7.1', 'viommu-v2'].flatMap((abi) => [
  { abi, example: 'two-smmus', on: 'two-smmus', step: 47 },
  { abi, example: 'cmdqv', on: 'grace', step: 7 },
]);

describe.each(RUNS)('a client that is killed at any point, $example, $abi', ({ abi, example, on, step }) => {
  it('leaves no object, frame, connection or descriptor behind', { timeout: 120_000 }, async () => {
    const spoken = dialect(abi);
    const tracer = new CountingTracer();
    const machine = new Machine(parseMachine(preset(on).machine), { dialect: spoken, tracer });
    const atRest = machine.leftovers();
    expect(Object.values(atRest).every((count) => count === 0)).toBe(true);
    const errors: unknown[] = [];
    const server = new Server({ machine, tracer, onInternalError: (error) => errors.push(error) });
    await server.start();
    try {
      const program = buildExample(example, abi === 'viommu-v2' ? ['VIOMMU_V2'] : []);
      const run = async (killAt: number): Promise<number> => {
        tracer.count = 0;
        const child = spawn(program, { env: { ...process.env, ...server.environment() }, stdio: 'ignore' });
        tracer.onEvent = (count) => {
          if (count === killAt) process.kill(child.pid!, 'SIGKILL');
        };
        const [status, signal] = await once(child, 'exit');
        if (killAt <= tracer.count && killAt > 0) expect(signal).toBe('SIGKILL');
        else expect(status).toBe(0);
        await vi.waitFor(() => {
          expect(server.clients).toEqual({ processes: 0, connections: 0, handles: 0, eventFds: 0 });
          expect(machine.leftovers(), `killed at event ${killAt}`).toEqual(atRest);
        }, 5000);
        return tracer.count;
      };
      const events = await run(0);
      expect(events).toBeGreaterThan(20 * step);
      for (let killAt = 1; killAt < events; killAt += step) await run(killAt);
      expect(errors).toEqual([]);
      await run(0);
    } finally {
      await server.stop();
    }
  });
});
