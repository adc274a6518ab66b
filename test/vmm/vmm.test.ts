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
import { QueueWitness } from '../../scripts/vmm/queue-witness.ts';
import { runGuest } from '../../scripts/vmm/run-guest.ts';
import { scenarioFor } from '../../scripts/vmm/scenarios.ts';
import { DEFAULT_DIALECT, dialect } from '../../src/abi/dialects.ts';
import { SILENT, type TraceEvent } from '../../src/trace/events.ts';
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

describe('of a guest with command queues of its own, the trace', () => {
  const TLBI_NH_VA = 0x12;
  const CFGI_STE = 0x03;
  const command = (iommu: string, queue: string | undefined, opcode = TLBI_NH_VA, error = ''): TraceEvent => {
    return { type: 'command', iommu, ...(queue && { queue }), architecture: 'smmuv3', words: [opcode, 0, 0, 0], error };
  };
  const store: TraceEvent = {
    ...{ type: 'file', pid: 1, file: '/dev/iommu', call: 'store', offset: 4, length: 4, result: 4, reason: '' },
  };
  const ioctl = (struct: string): TraceEvent => {
    const bytes = new Uint8Array();
    const rest = { pid: 1, file: '/dev/iommu', command: 0, before: bytes, after: bytes, result: 0, reason: '' };
    return { type: 'ioctl', struct, ...rest };
  };
  /** Two SMMUs' guest queues, each with an invalidation that a store let run. */
  const right = [command('a', 'VINTF1/LVCMDQ0'), store, command('b', 'VINTF1/LVCMDQ1'), store];
  const bad = (...events: TraceEvent[]): string[] => {
    const witness = new QueueWitness(2);
    for (const event of events) witness.sink(event);
    return witness.findings().flatMap(({ good, sentence }) => (good ? [] : [sentence]));
  };

  it('shows that they were used, whatever the host does with its own', () => {
    const host = [command('a', 'VINTF0/LVCMDQ0'), ioctl('iommu_ioas_unmap')];
    const configuration = [command('a', undefined, CFGI_STE), ioctl('iommu_hwpt_invalidate')];
    expect(bad(...right, ...host, ...configuration)).toEqual([]);
  });

  it.each([
    [
      'no queue of one SMMU was used',
      [right[0]!, store],
      ["commands that the guest's own queues consumed: a VINTF1/LVCMDQ0 1"],
    ],
    [
      'the VMM forwarded invalidations',
      [...right, command('a', undefined), ioctl('iommu_hwpt_invalidate')],
      ['HWPT_INVALIDATE: 1 calls, with 1 of such invalidations'],
    ],
    [
      'a queue ran within an ioctl',
      [...right, command('a', 'VINTF1/LVCMDQ0'), ioctl('iommu_destroy')],
      ['1 of the invalidations came within an ioctl, the others with a store to a mapped page'],
    ],
    [
      'a command was in error',
      [...right, command('a', 'VINTF1/LVCMDQ0', 0x30, 'CERROR_ILL'), store],
      ['2 of them are invalidations, 1 are in error'],
    ],
  ])('tells when %s', (_when, events, sentences) => {
    expect(bad(...events)).toEqual(sentences);
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

  const hasXz = spawnSync('xz', ['--version']).status === 0;
  it.skipIf(!hasXz)('has modules without the compression that newer distributions give them (needs xz)', () => {
    const modules = path.join(folder, 'compressed');
    mkdirSync(modules);
    for (const [name, depends] of [
      ['nvme', 'nvme-core'],
      ['nvme-core', ''],
    ] as const) {
      writeFileSync(path.join(modules, `${name}.ko.xz`), execFileSync('xz', ['-c'], { input: module(depends) }));
    }
    const archive = gunzipSync(initramfs('/dev/null', modules)).toString('latin1');
    expect(archive).toContain('nvme-core.ko\nnvme.ko\n');
    expect(archive).toContain(module('nvme-core'));
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
