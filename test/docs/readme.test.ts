/** README: what it says that a newcomer can do, done. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { Server } from '../../src/server/server.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const README = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8');
const compiler = process.env.CC ?? 'cc';

describe('README', () => {
  it("keeps npm's banner out of files", () => {
    const redirected = README.split('\n').filter((line) => /^npm start .* > /.test(line));
    expect(redirected).not.toEqual([]);
    for (const line of redirected) expect(line).toMatch(/^npm start -s -- /);
  });

  const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-readme-'));
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  it.skipIf(spawnSync(compiler, ['--version']).status !== 0)('has a program that prints what it says', async () => {
    const [, source] = /^```c\n([\s\S]*?)^```$/m.exec(README)!;
    const [, command, prints] = /\(`cc (.*?) -o ioas && .*?` prints `(.*?)`\)/.exec(README)!;
    const program = path.join(folder, 'ioas');
    fs.writeFileSync(`${program}.c`, source!);
    const args = command!.split(' ').map((word) => (word === 'ioas.c' ? `${program}.c` : word));
    const { status, stderr } = spawnSync(compiler, [...args, '-o', program], { cwd: ROOT, encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
    const server = new Server({ machine: new Machine(parseMachine(preset('two-smmus').machine)) });
    await server.start();
    try {
      const child = spawn(program, { env: { ...process.env, ...server.environment() } });
      let output = '';
      child.stdout.on('data', (text) => {
        output += text;
      });
      await once(child, 'close');
      expect(output).toBe(`${prints}\n`);
    } finally {
      await server.stop();
    }
  });
});
