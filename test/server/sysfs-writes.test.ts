/** What scripts of VMMs write to sysfs, by each of the ways in which shells and tools write. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { runProgram } from '../../src/server/run.ts';
import { Server } from '../../src/server/server.ts';

let folder: string;
let server: Server;

beforeEach(async () => {
  folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-sysfs-'));
  server = new Server({ machine: new Machine(parseMachine(preset('two-smmus').machine)), directory: folder });
  await server.start();
});
afterEach(async () => {
  await server.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

const has = (command: string): boolean => spawnSync(command, ['-c', 'true']).status === 0;

/** Lines that the script prints on `log`, its descriptor 3. */
async function printed(shell: string, script: string): Promise<string[]> {
  const log = path.join(folder, 'log');
  const full = `exec 3>${log} 2>/dev/null; cd /sys/bus/pci/devices/0000:01:00.0\n${script}`;
  await runProgram(server, shell, ['-c', full]);
  return fs.readFileSync(log, 'utf8').trimEnd().split('\n');
}

describe.each(['bash', 'dash'].filter(has))('a script of %s', (shell) => {
  it('takes a function from vfio-pci and gives it back', async () => {
    const lines = await printed(
      shell,
      `there() { for path in driver vfio-dev /dev/vfio/0 /dev/vfio/devices/vfio0; do [ -e $path ] && echo $path >&3; done; }
      driver() { read -r first < uevent; echo $first >&3; }
      driver; echo 0000:01:00.0 > driver/unbind; there; driver; echo unbound >&3
      echo > driver_override; echo 0000:01:00.0 > /sys/bus/pci/drivers/vfio-pci/bind || echo refused >&3
      echo 8086 2021 > /sys/bus/pci/drivers/vfio-pci/new_id && there; driver`,
    );
    const there = ['driver', 'vfio-dev', '/dev/vfio/0', '/dev/vfio/devices/vfio0'];
    const [driver, none] = ['DRIVER=vfio-pci', 'PCI_CLASS=88000'];
    expect(lines).toEqual([driver, none, 'unbound', 'refused', ...there, driver]);
  });

  it('sees what is refused, and goes on', async () => {
    const script = `echo 2 > reset || echo no >&3; echo 1 > reset && echo yes >&3
      exec 5<>/dev/vfio/devices/vfio0; echo 0000:01:00.0 > driver/unbind || echo open >&3
      exec 5<&-; printf 0000:01:00.0 > driver/unbind && echo closed >&3; echo text >&3`;
    expect(await printed(shell, script)).toEqual(['no', 'yes', 'open', 'closed', 'text']);
  });

  it('writes by tools, and reads back', async () => {
    const script = `/bin/echo one > driver_override && cat driver_override >&3
      echo two | tee driver_override >&3; cat driver_override >&3
      echo 0000:07:00.0 | tee driver/unbind >/dev/null || echo refused >&3`;
    expect(await printed(shell, script)).toEqual(['one', 'two', 'two', 'refused']);
  });
});

const setsBusMaster = (how: string): string => `state() { od -An -tx1 -j4 -N1 config >&3; }; state; ${how}; state`;

describe('config is configuration space as it is, for a program that', () => {
  it.each([
    ['reads all of it', 'cat config | wc -c >&3; stat -c %s config >&3', ['4096', '4096']],
    ['reads with streams that libc opens again (od, hexdump)', 'od -An -tx2 -N4 config >&3', [' 8086 2021']],
    ['seeks (dd, libvirt)', 'dd if=config bs=2 skip=1 count=1 | od -An -tx2 >&3', [' 2021']],
    ['writes', setsBusMaster("printf '\\x04' | dd of=config bs=1 seek=4 conv=notrunc"), [' 00', ' 04']],
    ['looks at what it has opened', 'exec 4<config; stat -c "%F %s" - <&4 >&3', ['regular file 4096']],
    ['copies it', 'cp config $LOG.copy; wc -c < $LOG.copy >&3', ['4096']],
  ])('%s', async (_, script, expected) =>
    expect(await printed('bash', `LOG=${folder}/log\n${script}`)).toEqual(expected),
  );

  it.skipIf(spawnSync('setpci', ['--version']).status !== 0)('is setpci, whose change VFIO and lspci see', async () => {
    const script = `${setsBusMaster('setpci -s 01:00.0 COMMAND=4:4')}
      lspci -s 01:00.0 -vv | grep -o BusMaster. >&3; echo $(setpci -s 00:01.0 SECONDARY_BUS) >&3`;
    expect(await printed('bash', script)).toEqual([' 00', ' 04', 'BusMaster+', '01']);
  });

  it.skipIf(spawnSync('c++', ['--version']).status !== 0)('is written in C++', async () => {
    const source = `#include <fstream>
      #include <iostream>
      int main() { std::ifstream f("config", std::ios::binary); f.seekg(2); std::cout << std::hex << f.get() << f.get(); }`;
    const program = path.join(folder, 'stream');
    spawnSync('c++', ['-x', 'c++', '-o', program, '-'], { input: source });
    expect(await printed('bash', `${program} >&3`)).toEqual(['2120']);
  });
});
