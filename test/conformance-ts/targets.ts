/** Where the suite runs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import path from 'node:path';
import { Server } from '../../src/server/server.ts';
import { choiceText, type EngineChoice, engine, makeMachine } from './engine.ts';
import { until } from './event-fd.ts';
import { type Result, runAll, type Target } from './results.ts';

export const CHOICES: readonly EngineChoice[] = [
  { machine: 'mock', abi: 'linux-7.1' },
  { machine: 'two-smmus', abi: 'linux-7.1' },
  { machine: 'two-smmus', abi: 'viommu-v2' },
  { machine: 'two-smmus', abi: 'linux-7.1', cmdqv: true },
  { machine: 'two-smmus', abi: 'viommu-v2', cmdqv: true },
];

export async function inProcess(choice: EngineChoice): Promise<Target> {
  const results: Result[] = [];
  for await (const result of runAll(engine(choice))) results.push(result);
  return { name: `engine (${choiceText(choice)})`, results };
}

/** A process of its own under a server. @returns also what it left behind, when it has ended */
export async function throughShim(choice: EngineChoice): Promise<Target & { left: Record<string, number> }> {
  const directory = mkdtempSync(path.join(tmpdir(), 'uiommufd-conformance-'));
  const machine = makeMachine(choice);
  const server = new Server({ machine, directory });
  await server.start();
  try {
    const results = await runNative(choice.abi, server.environment());
    // The server hears of the last descriptors when it gets round to it.
    await until(async () => Object.values(machine.leftovers()).every((count) => count === 0)).catch(() => {});
    return { name: `shim (${choiceText(choice)})`, results, left: machine.leftovers() };
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Why the suite cannot run on the kernel of this machine; null when it can. */
export const noKernel = (): string | null =>
  existsSync('/dev/iommu') ? null : `this machine (Linux ${release()}) has no /dev/iommu`;

export async function onKernel(): Promise<Target> {
  return { name: `kernel (Linux ${release()})`, results: await runNative('linux-7.1', {}) };
}

async function runNative(abi: string, environment: NodeJS.ProcessEnv): Promise<Result[]> {
  const main = path.join(import.meta.dirname, 'native-main.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', main, abi], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    output += part;
  });
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (status !== 0)
    throw new Error(`the suite's process ended with ${signal ?? status} after ${output.split('\n').at(-2)}`);
  return output
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Result);
}
