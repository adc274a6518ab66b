/** The preload library of AArch64, and programs on it, where this machine can compile and run them. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_DIALECT, dialect } from '../../src/abi/dialects.ts';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { SHIM_FLAGS } from '../../src/server/build-shim.ts';
import { Server } from '../../src/server/server.ts';

const COMPILER = 'aarch64-linux-gnu-gcc';
const EMULATORS = ['qemu-aarch64-static', 'qemu-aarch64'];
const LIBRARIES = '/usr/aarch64-linux-gnu';

const works = (command: string): boolean => spawnSync(command, ['--version']).status === 0;
const emulator = EMULATORS.find(works);
const can = emulator !== undefined && works(COMPILER) && fs.existsSync(LIBRARIES);

const ROOT = path.join(import.meta.dirname, '../..');
const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-arm64-'));
const shim = path.join(folder, 'libuiommufd-shim.so');
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

function compile(output: string, ...args: string[]): void {
  const { stderr } = spawnSync(COMPILER, [...args, '-o', output], { encoding: 'utf8', cwd: ROOT });
  expect(stderr).toBe('');
}

/** @returns what it printed, with its exit status at the end */
async function run(on: string, program: string, ...args: string[]): Promise<string> {
  const machine = new Machine(parseMachine(preset(on).machine), { dialect: dialect(DEFAULT_DIALECT) });
  const server = new Server({ machine, directory: folder });
  await server.start();
  const config = path.join(folder, 'config');
  fs.symlinkSync(path.join(server.folder, 'config'), config);
  try {
    // The emulator is linked statically and untouched; the program that it runs has our library.
    const { LD_PRELOAD: _x86, ...env } = { ...process.env, ...server.environment() };
    const child = spawn(emulator!, ['-L', LIBRARIES, '-E', `LD_PRELOAD=${shim}`, program, ...args], { env });
    let told = '';
    const hear = (text: Buffer): void => void (told += text);
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    const [status] = await once(child, 'close');
    return `${told}status ${status}`;
  } finally {
    fs.rmSync(config);
    await server.stop();
  }
}

describe.skipIf(!can)(`on AArch64 (needs ${COMPILER} and ${EMULATORS.join(' or ')})`, () => {
  beforeAll(() => {
    const sources = fs.readdirSync(path.join(ROOT, 'shim')).filter((file) => file.endsWith('.c'));
    compile(shim, ...SHIM_FLAGS, '-Werror', ...sources.map((file) => `shim/${file}`), '-ldl', '-pthread');
  }, 60_000);

  it.each([
    ['two-smmus', 'two-smmus', 58],
    ['cmdqv', 'grace', 38],
  ])('the example %s passes on %s', async (example, on, checks) => {
    const program = path.join(folder, example);
    compile(program, '-O2', '-Iexamples/uapi', `examples/${example}.c`);
    const told = await run(on, program);
    expect(told.split('\n').filter((line) => !/^(ok|#) /.test(line))).toEqual([`1..${checks}`, 'status 0']);
  });

  it.each(['/dev/vfio/vfio', '/dev/iommu'])('%s carries DMA, interrupts and mapped registers', async (container) => {
    const program = path.join(folder, 'container');
    const flags = ['-D_GNU_SOURCE', '-O2', '-Iexamples/uapi', '-include', 'stdbool.h'];
    compile(program, ...flags, 'test/e2e/container.c');
    expect(await run('two-smmus', program, container)).toBe('status 0');
  });
});
