import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from 'tsdown';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { runProgram } from '../../src/server/run.ts';
import { Server } from '../../src/server/server.ts';
import { TestMachine } from './machine.ts';

const parent = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-run-'));
const machine = new TestMachine();
const server = new Server({ machine, directory: parent });

beforeAll(() => server.start());
afterAll(async () => {
  await server.stop();
  expect(fs.readdirSync(parent)).toEqual([]);
  fs.rmSync(parent, { recursive: true });
});

describe('runProgram', () => {
  it('gives the exit status', async () => {
    expect(await runProgram(server, '/bin/sh', ['-c', 'exit 7'])).toEqual({ status: 7, signal: null });
  });

  it('gives the signal that ended the program', async () => {
    expect(await runProgram(server, '/bin/sh', ['-c', 'kill -SEGV $$'])).toEqual({ status: null, signal: 'SIGSEGV' });
  });

  it('runs in the folder and environment given', async () => {
    const script = 'test $(pwd -P) = /usr && test "$X" = y && test -c /dev/toy/a';
    const options = { cwd: '/usr', env: { ...process.env, X: 'y' } };
    expect(await runProgram(server, '/bin/sh', ['-c', script], options)).toEqual({ status: 0, signal: null });
  });

  it('gives the program the limit of files and the ignored signals that it was to have', async () => {
    const script = 'test "$(ulimit -Sn)" = 300 && grep -q "^SigIgn:.*1001$" /proc/$$/status && kill -HUP $$ && exit 5';
    const start = { files: 300, ignored: 0x1001n };
    expect(await runProgram(server, 'sh', ['-c', script], { start })).toEqual({ status: 5, signal: null });
    await expect(runProgram(server, 'no-such-program', [], { start })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('rejects for a program that cannot be started', async () => {
    await expect(runProgram(server, '/none', [])).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it.each(['SIGTERM', 'SIGHUP', 'SIGUSR2', 'SIGINT', 'SIGQUIT'] as const)('passes %s on', async (signal) => {
    const ready = path.join(parent, signal);
    const script = `trap 'exit 9' ${signal.slice(3)}; : > ${ready}; while :; do sleep 0.02; done`;
    const result = runProgram(server, '/bin/sh', ['-c', script]);
    while (!fs.existsSync(ready)) await new Promise((resolve) => setTimeout(resolve, 5));
    process.emit(signal, signal);
    expect(await result).toEqual({ status: 9, signal: null });
    fs.rmSync(ready);
  });

  it('leaves no signal handlers', async () => {
    const handlers = (): number => process.listenerCount('SIGQUIT') + process.listenerCount('SIGHUP');
    const before = handlers();
    await runProgram(server, '/bin/true', []);
    expect(handlers()).toBe(before);
  });
});

describe('a server', () => {
  it('starts once, and again after a stop', async () => {
    await expect(server.start()).rejects.toThrow('started already');
    const other = new Server({ machine: new TestMachine(), directory: parent });
    for (let i = 0; i < 2; i++) {
      await other.start();
      await other.stop();
      await other.stop();
    }
    expect(() => other.environment()).toThrow('not running');
    expect(fs.readdirSync(parent)).toHaveLength(1);
  });

  it("keeps other preloaded libraries, but for another server's", () => {
    vi.stubEnv('LD_PRELOAD', '/outer/libuiommufd-shim.so /lib/other.so:/lib/more.so');
    const { LD_PRELOAD } = server.environment();
    vi.unstubAllEnvs();
    expect(LD_PRELOAD).toBe(`${server.folder}/libuiommufd-shim.so:/lib/other.so:/lib/more.so`);
  });

  it('says where to point it when LD_PRELOAD could not name its folder', async () => {
    const spaced = path.join(parent, 'a folder');
    fs.mkdirSync(spaced);
    await expect(new Server({ machine: new TestMachine(), directory: spaced }).start()).rejects.toThrow('spaces');
    fs.rmdirSync(spaced);
  });

  it('refuses to lay out a file that the machine does not own', async () => {
    const stray = new TestMachine();
    Object.assign(stray, { sysfs: [{ path: '/sys/bus/toy/../../etc', kind: 'dir' }] });
    await expect(new Server({ machine: stray, directory: parent }).start()).rejects.toThrow('not under a root');
    expect(fs.readdirSync(parent)).toHaveLength(1);
  });

  it("does not disturb another: each one's programs see their own handles only", async () => {
    const other = new Server({ machine: new TestMachine(), directory: parent });
    await other.start();
    const inner = Object.entries(other.environment())
      .map(([key, value]) => `${key}=${value}`)
      .join(' ');
    const script = `exec 3<>/dev/toy/a
      test "$(stat -c %F - <&3)" = "character special file" || exit 1
      test "$(${inner} stat -c %F - <&3)" = socket || exit 2
      ${inner} sh -c 'echo hi 1<>/dev/toy/b'`;
    expect(await runProgram(server, '/bin/sh', ['-c', script])).toEqual({ status: 0, signal: null });
    await other.stop();
  });

  it('ends calls under way, releases files and removes its folder at stop', async () => {
    const toys = new TestMachine();
    const stopping = new Server({ machine: toys, directory: parent });
    await stopping.start();
    const script = 'exec 3<>/dev/toy/a; echo ready; read x; printf y >&3';
    const child = spawn('/bin/sh', ['-c', script], { env: { ...process.env, ...stopping.environment() } });
    await once(child.stdout!, 'data');
    expect(toys.alive).toBe(1);
    await stopping.stop();
    expect(toys.alive).toBe(0);
    child.stdin!.end('\n');
    const [status] = await once(child, 'close');
    expect(status).not.toBe(0);
    expect(fs.readdirSync(parent)).toHaveLength(1);
  });
});

describe('the private folder', () => {
  // As in an installed package: bundled below the package's root, with shim/ beside.
  const root = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-package-'));
  beforeAll(async () => {
    const entry = path.join(import.meta.dirname, 'serve.ts');
    await build({ entry, outDir: path.join(root, 'dist'), config: false, dts: false, logLevel: 'silent' });
    fs.writeFileSync(path.join(root, 'package.json'), '{"name":"uiommufd","type":"module"}');
    fs.cpSync(path.join(import.meta.dirname, '../../shim'), path.join(root, 'shim'), { recursive: true });
  });
  afterAll(() => fs.rmSync(root, { recursive: true }));

  it.each(['SIGKILL', 'SIGTERM', 'exit'] as const)('goes when the server ends by %s', async (end) => {
    const script = fs.readdirSync(path.join(root, 'dist')).find((name) => name.startsWith('serve.'))!;
    const args = [path.join(root, 'dist', script), parent];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = await once(child.stdout!, 'data');
    const folder = String(line).trim();
    expect(fs.existsSync(folder)).toBe(true);
    if (end === 'exit') child.stdin!.end();
    else child.kill(end);
    await once(child, 'exit');
    await expect.poll(() => fs.existsSync(folder), { timeout: 5000 }).toBe(false);
  });
});
