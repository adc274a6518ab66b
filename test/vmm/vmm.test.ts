/** `npm run vmm` without QEMU: a shell script stands in for it, and says what a guest would. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { cpioArchive } from '../../scripts/vmm/cpio.ts';
import { initramfs } from '../../scripts/vmm/initramfs.ts';
import { judge } from '../../scripts/vmm/judge.ts';
import { runGuest } from '../../scripts/vmm/run-guest.ts';
import { scenarioFor } from '../../scripts/vmm/scenarios.ts';
import { DEFAULT_DIALECT, dialect } from '../../src/abi/dialects.ts';
import { SILENT } from '../../src/trace/events.ts';
import { hasCompiler } from '../abi/layout.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'uiommufd-vmm-'));
afterAll(() => rmSync(folder, { recursive: true }));

const DEFAULT = dialect(DEFAULT_DIALECT);
const OK = 'guest: ok 0000:00:02.0 has a namespace, /dev/nvme0n1';
const DONE = 'guest: done, all ok';

/** A QEMU that runs `script`, prints `lines`, and ends with `status`. */
function standIn({ lines = [] as readonly string[], status = 0, script = '' }): string {
  const qemu = path.join(folder, 'qemu-system-x86_64');
  const said = lines.map((line) => `printf '%s\\r\\n' '${line}'`).join('\n');
  const version = `[ "$1" = --version ] && exec echo 'QEMU emulator version 7.2'`;
  writeFileSync(qemu, `#!/bin/sh\n${version}\n${script}\n${said}\nexit ${status}\n`);
  chmodSync(qemu, 0o755);
  return qemu;
}

/** The sentences that are not good, and every line of the console. */
async function boot(qemu: string, seconds = 20) {
  const lines: string[] = [];
  const onLine = (line: string): void => void lines.push(line);
  const machine = 'two-smmus-nvme-x86';
  const outcome = await runGuest({ qemu, arguments: [], machine, dialect: DEFAULT, tracer: SILENT, seconds, onLine });
  const bad = judge(outcome, 1).filter(({ good }) => !good);
  return { bad: bad.map(({ sentence }) => sentence.replace(/ after \d.*/, '')), lines };
}

describe.skipIf(!hasCompiler())('a guest (needs a C compiler)', () => {
  it('that says that all is well and ends passes', async () => {
    const { bad, lines } = await boot(standIn({ lines: [OK, DONE] }));
    expect(bad).toEqual([]);
    expect(lines).toEqual([OK, DONE]);
  });

  it.each([
    ['one of its checks fails', [`guest: not ok it reads the same`, OK, DONE], '1 checks of the guest hold, 1 do not'],
    ['a function is missing', [DONE], '0 of 1 functions had a namespace'],
    ['it stops half-way', [OK], 'the guest did not come to its end'],
  ])('fails when %s', async (_when, lines, sentence) => {
    expect((await boot(standIn({ lines }))).bad).toEqual([sentence]);
  });

  it('fails when QEMU does, or takes too long', async () => {
    const lines = [OK, DONE];
    expect((await boot(standIn({ lines, status: 3 }))).bad).toEqual(['QEMU: exit status 3']);
    expect((await boot(standIn({ lines, script: 'exec sleep 60' }), 0.3)).bad).toContain('QEMU: timeout');
  });

  it('is shown the machine: the group of its function, and the container', async () => {
    const script = 'basename "$(readlink /sys/bus/pci/devices/0000:01:00.0/iommu_group)"; ls /dev/vfio';
    expect((await boot(standIn({ lines: [OK, DONE], script }))).lines).toEqual([
      '0',
      '0',
      '1',
      'devices',
      'vfio',
      OK,
      DONE,
    ]);
  });
});

describe.skipIf(!hasCompiler())('npm run vmm (needs a C compiler)', () => {
  const vmm = (...more: string[]) => {
    const qemu = standIn({ lines: [OK, DONE] });
    const args = [
      '--import',
      'tsx',
      'scripts/vmm.ts',
      '--qemu',
      qemu,
      '--kernel',
      '/dev/null',
      '--initrd',
      '/dev/null',
      ...more,
    ];
    return spawnSync(process.execPath, args, { encoding: 'utf8', cwd: path.join(import.meta.dirname, '../..') });
  };

  it('shows what it found, and ends with 0 when all is well', () => {
    const { status, stdout } = vmm();
    expect(stdout).toContain('yes 1 checks of the guest hold, 0 do not');
    expect(stdout).toContain('yes left behind: nothing');
    expect(status).toBe(0);
  });

  it('ends with 2 and a sentence when it cannot begin', () => {
    const { status, stderr } = vmm('--scenario', 'nested');
    expect([status, stderr]).toEqual([2, 'vmm: scenario nested needs --firmware\n']);
  });
});

describe('the scenario', () => {
  it.each([
    ['/usr/bin/qemu-system-x86_64', 'QEMU emulator version 7.2.19', 'type1'],
    ['build/qemu-system-aarch64', 'QEMU emulator version 9.2.0', 'nested'],
    ['build/qemu-system-aarch64', 'QEMU emulator version 9.0.90', 'nested-v2'],
  ])('of %s, %s, is %s', (qemu, version, scenario) => {
    expect(scenarioFor(qemu, version)).toBe(scenario);
  });
});

describe('the initial root file system', () => {
  /** A module as far as we look at it. */
  const module = (depends: string): string => `\0license=GPL\0depends=${depends}\0name=x\0`;

  it('has modules in an order in which each finds what it needs', () => {
    const modules = path.join(folder, 'modules');
    mkdirSync(path.join(modules, 'kernel/drivers'), { recursive: true });
    const put = (name: string, depends: string): void =>
      writeFileSync(path.join(modules, 'kernel/drivers', `${name}.ko`), module(depends));
    put('nvme', 'nvme-core');
    put('nvme-core', 't10-pi,crc64');
    put('t10-pi', 'crc64');
    put('other', '');
    writeFileSync(path.join(modules, 'modules.builtin'), 'kernel/lib/crc64.ko\n');
    const archive = gunzipSync(initramfs('/dev/null', modules)).toString('latin1');
    expect(archive).toContain('t10-pi.ko\nnvme-core.ko\nnvme.ko\n');
    expect(archive).not.toContain('other.ko');
  });

  const hasCpio = spawnSync('cpio', ['--version']).status === 0;
  it.skipIf(!hasCpio)('is an archive that cpio unpacks (needs cpio)', () => {
    const out = path.join(folder, 'out');
    mkdirSync(out);
    const entries = [
      { path: 'bin/tool', bytes: Buffer.from('abc'), executable: true },
      { path: 'a/b/c', bytes: Buffer.alloc(5000, 7) },
    ];
    execFileSync('cpio', ['-id', '--quiet'], { cwd: out, input: cpioArchive(entries) });
    expect(readFileSync(path.join(out, 'bin/tool'), 'utf8')).toBe('abc');
    expect(readFileSync(path.join(out, 'a/b/c')).equals(Buffer.alloc(5000, 7))).toBe(true);
    expect(execFileSync('stat', ['-c', '%a', path.join(out, 'bin/tool')], { encoding: 'utf8' })).toBe('755\n');
  });
});
