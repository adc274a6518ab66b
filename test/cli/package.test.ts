import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);
let folder: string;

/** The tarball that would be published, installed where nothing else is. */
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'package-test-'));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: ROOT });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf('[\n')));
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline'];
  await run('npm', ['install', ...quiet, path.join(folder, filename)], { cwd: folder });
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const script = (text: string) => run(process.execPath, ['--input-type=module', '-e', text], { cwd: folder });

describe('the published package, installed in an empty folder', () => {
  it('runs a program', async () => {
    const { stdout, stderr } = await run('npx', ['uiommufd', 'run', '--', 'ls', '/dev/vfio/devices'], { cwd: folder });
    expect({ stdout, stderr: stderr.replace(/^npm warn .*\n/gm, '') }).toEqual({
      stdout: 'vfio0\nvfio1\n',
      stderr: '',
    });
    await expect(run('npx', ['uiommufd', 'run', '--', 'sh', '-c', 'exit 5'], { cwd: folder })).rejects.toMatchObject({
      code: 5,
    });
  }, 120_000);

  it('has the library, the uAPI and the schema', async () => {
    const { stdout } = await script(`
      import { createRequire } from 'node:module';
      import { Machine, Server } from 'uiommufd';
      import { IoasMap } from 'uiommufd/abi';
      import { Iommufd } from 'uiommufd/client';
      const schema = createRequire(import.meta.url)('uiommufd/machine.schema.json');
      console.log(typeof Machine, typeof Server, IoasMap.size, typeof Iommufd.open, schema.type);
    `);
    expect(stdout).toBe('function function 40 function object\n');
  });
});
