/**
 * From the write of a register that starts a copy until the program has read the eventfd of its interrupt: through shim
 * and server, the copy and its message (MSI-X) translated by the SMMU. Wanted: a median of at most 200 us.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, sampled } from '../../bench/harness.ts';
import { Machine } from '../host/machine.ts';
import { parseMachine } from '../host/machine-description.ts';
import { preset } from '../host/presets.ts';
import { compileOnce, packageRoot } from './compile.ts';
import { Server } from './server.ts';

const folder = compileOnce({
  sources: path.join(packageRoot(), 'test/server'),
  flags: ['-D_GNU_SOURCE', '-O2', `-I${path.join(packageRoot(), 'examples/uapi')}`],
  outputs: { interrupt: ['interrupt.c'] },
  onCompile: () => {},
});
const server = new Server({ machine: new Machine(parseMachine(preset('two-smmus').machine)) });
await server.start();
const child = spawn(path.join(folder, 'interrupt'), {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: { ...process.env, ...server.environment() },
});
const [output, [status]] = await Promise.all([text(child.stdout), once(child, 'close')]);
await server.stop();
if (status !== 0) throw new Error(output);

describe('an interrupt by MSI-X', () => {
  const nanoseconds = output.trim().split('\n').map(Number);
  sampled(
    'from the register to the eventfd',
    nanoseconds.map((time) => time / 1e6),
  );
});
