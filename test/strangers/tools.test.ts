/** Tools that look at a machine's devices, or prepare them: what they print is what people and scripts read. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { installed, unless, visit } from './stranger.ts';

describe.skipIf(!installed('lspci'))(unless('lspci', 'lspci'), () => {
  it('shows the functions behind their root ports, with their drivers and capabilities', async () => {
    const { text } = await visit(
      'two-smmus-nvme',
      'lspci -nnk 2>/dev/null; lspci -vv -s 01:00.0 2>/dev/null; lspci -t',
    );
    expect(text).toMatch(/^01:00.0 .*\[0108\]: .*\[1b36:0d3b\]/m);
    expect(text.match(/Kernel driver in use: vfio-pci/g)).toHaveLength(3);
    for (const capability of ['Express (v2) Endpoint', 'MSI-X: Enable- Count=33', 'Address Translation Service']) {
      expect(text).toContain(capability);
    }
    expect(text).toContain('+-01.0-[01]----00.0');
  });
});

describe('find', () => {
  it('finds the groups as scripts ask for them', async () => {
    const { text } = await visit('two-smmus', 'find /sys/kernel/iommu_groups/ -type l | sort');
    expect(text).toBe([0, 1].map((n) => `/sys/kernel/iommu_groups/${n}/devices/0000:0${n + 1}:00.0\n`).join(''));
  });
});

describe.skipIf(!installed('udevadm'))(unless('udevadm', 'udevadm'), () => {
  it('finds a device by its path and by its node', async () => {
    const { text } = await visit(
      'two-smmus',
      'udevadm info /sys/bus/pci/devices/0000:01:00.0; udevadm info -n /dev/vfio/devices/vfio1; udevadm info /dev/vfio/0',
    );
    for (const line of ['PCI_ID=8086:2021', 'SUBSYSTEM=vfio-dev', 'MAJOR=511', 'DEVNAME=/dev/vfio/0']) {
      expect(text).toContain(`E: ${line}\n`);
    }
  });
});

describe.skipIf(!installed('dpdk-devbind.py'))(unless('dpdk-devbind.py', 'dpdk-devbind.py'), () => {
  it('takes a device from vfio-pci and gives it back', async () => {
    const bind = 'dpdk-devbind.py';
    const script = `${bind} -u 0000:01:00.0; ${bind} -s; ${bind} -b vfio-pci 0000:01:00.0; ${bind} -s`;
    const { text } = await visit('two-smmus', `(${script}) 2>&1 | grep "^0000:01"`);
    const [without, bound] = text.split('\n');
    expect(without).toMatch(/unused=vfio-pci$/);
    expect(without).not.toContain('drv=');
    expect(bound).toMatch(/drv=vfio-pci unused=$/);
  });
});

describe.skipIf(!installed('python3'))(unless('python3', 'python3'), () => {
  it('makes the calls from a script of 30 lines', async () => {
    const { text } = await visit('two-smmus', `python3 ${import.meta.dirname}/iommu.py`);
    expect(text).toBe('0000:01:00.0 8680 0x1000\nDevice or resource busy\n');
  });
});

/** Containers may forbid a program to trace another. */
const traces = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;
const debugs = /exited normally/.test(spawnSync('gdb', ['-batch', '-ex', 'run', 'true'], { encoding: 'utf8' }).stdout);

describe.skipIf(!traces)(traces ? 'strace' : 'strace (skipped: it is not installed, or may not trace here)', () => {
  it('sees the calls of a program as those that carry them, and changes nothing', async () => {
    const { text } = await visit('two-smmus', `strace -f -o /dev/null python3 ${import.meta.dirname}/iommu.py`);
    expect(text).toMatch(/^0000:01:00.0 8680/);
  });
});

const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-strangers-'));
afterAll(() => fs.rmSync(folder, { recursive: true }));

/** A program that loads a register of a mapped BAR, compiled with `flags`; null where that cannot be. */
function compiled(name: string, ...flags: string[]): string | null {
  const output = path.join(folder, name);
  const uapi = path.join(import.meta.dirname, '../../examples/uapi');
  const source = path.join(import.meta.dirname, 'version.c');
  return spawnSync('cc', [...flags, `-I${uapi}`, source, '-o', output]).status === 0 ? output : null;
}

describe.each([
  ['gdb', debugs, 'gdb -batch -ex "handle SIGSEGV nostop noprint pass" -ex run'],
  [
    'valgrind',
    installed('valgrind'),
    'valgrind -q --error-exitcode=9 --vex-iropt-register-updates=allregs-at-mem-access',
  ],
])('%s', (tool, works, command) => {
  const program = compiled('plain', '-g');
  it.skipIf(!program || !works)(
    `runs a program that loads registers${works ? '' : ` (skipped: ${tool} is not installed, or may not trace here)`}`,
    async () => {
      expect((await visit('two-smmus', `${command} ${program}`)).text).toContain('version 0x32\n');
    },
    60_000,
  );
});

describe.each(['address', 'undefined'])('the %s sanitizer', (sanitizer) => {
  const program = compiled(sanitizer, `-fsanitize=${sanitizer}`);
  it.skipIf(!program)('is content with our library in front of its own', async () => {
    expect(await visit('two-smmus', program!)).toMatchObject({ status: 0, text: 'version 0x32\n' });
  });
});
