import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { takeStartState } from './start-state.ts';

const root = path.join(import.meta.dirname, '../..');

it('what bin/uiommufd has kept is taken out of the environment', () => {
  const env = { UIOMMUFD_STARTED: '77 0000000000000003', OTHER: 'x' };
  expect(takeStartState(env)).toEqual({ files: 77, ignored: 3n });
  expect(env).toEqual({ OTHER: 'x' });
});

it('a limit that is what it was, or is no number, is left alone', () => {
  const now = /^Max open files +(\S+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'))![1];
  expect(takeStartState({ UIOMMUFD_STARTED: `${now} 0` }).files).toBe(null);
  expect(takeStartState({ UIOMMUFD_STARTED: 'unlimited 0' }).files).toBe(null);
});

it('without it, or with what it never writes, no signal is ignored', () => {
  expect(takeStartState({}).ignored).toBe(0n);
  expect(takeStartState({ UIOMMUFD_STARTED: '12 zz; rm' }).ignored).toBe(0n);
});

it('bin/uiommufd keeps the limit and the ignored signals, wherever it is called from', () => {
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-bin-'));
  fs.mkdirSync(path.join(folder, 'bin'));
  fs.mkdirSync(path.join(folder, 'dist'));
  fs.copyFileSync(path.join(root, 'bin/uiommufd'), path.join(folder, 'bin/uiommufd'));
  fs.symlinkSync('bin/uiommufd', path.join(folder, 'link'));
  const shown = 'console.log(process.env.UIOMMUFD_STARTED, process.argv.slice(2).join("|"))';
  fs.writeFileSync(path.join(folder, 'dist/cli.js'), shown);
  const script = `ulimit -Sn 512; trap '' HUP; exec ${path.join(folder, 'link')} 'a b' c`;
  const { stdout, stderr } = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
  expect([stdout, stderr]).toEqual([expect.stringMatching(/^512 0*[0-9a-f]*[13579bdf] a b\|c\n$/), '']);
  fs.rmSync(folder, { recursive: true });
});
