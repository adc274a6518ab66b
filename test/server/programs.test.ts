import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
const shell = (script: string): Promise<string> => harness.outputOf('/bin/sh', '-c', script);

beforeAll(() => harness.server.start());
afterAll(() => harness.stop());
afterEach(() => harness.nothingIsLeft());

describe('ordinary programs see our files', () => {
  it.each([
    ['cat /sys/devices/toy0/vendor', '0x8086\n'],
    ['cat < /sys/bus/toy/devices/0000:01:00.0/vendor', '0x8086\n'],
    ['ls /sys/bus/toy/devices /dev/toy', '/dev/toy:\na\nb\n\n/sys/bus/toy/devices:\n0000:01:00.0\n'],
    ['readlink /sys/bus/toy/devices/0000:01:00.0', '../../../devices/toy0\n'],
    ['readlink -f /sys/bus/toy/devices/0000:01:00.0', '/sys/devices/toy0\n'],
    ['realpath /sys/bus/toy/devices/0000:01:00.0/bus', '/sys/bus/toy\n'],
    [
      'cd /sys/bus/toy/devices && echo * && cd -P 0000:01:00.0 && pwd -P && cat vendor',
      '0000:01:00.0\n/sys/devices/toy0\n0x8086\n',
    ],
    ['cd /sys/devices/toy0 && /bin/pwd', '/sys/devices/toy0\n'],
    ['cd /dev/toy && ls a ./b', './b\na\n'],
    [
      'stat -c "%F %t:%T %a" /dev/toy/a /dev/toy/b',
      'character special file f0:7 660\ncharacter special file f0:12c 600\n',
    ],
    ['cd /dev/toy && stat -c %F a', 'character special file\n'],
    [
      'test -c /dev/toy/a && test -d /sys/bus/toy && test -L /sys/devices/toy0/bus && test -e /dev/toy && echo yes',
      'yes\n',
    ],
    [
      'find /dev/toy /sys/devices/toy0 | sort',
      '/dev/toy\n/dev/toy/a\n/dev/toy/b\n/sys/devices/toy0\n/sys/devices/toy0/bus\n/sys/devices/toy0/empty\n/sys/devices/toy0/vendor\n',
    ],
    ['exec 3<>/dev/toy/a; ls -l /proc/self/fd/3 > /dev/null && printf hello >&3 && head -c 5 <&3', 'hello'],
    ['cat /sys/devices/toy0/vendor | (read x; echo got $x)', 'got 0x8086\n'],
    ['for d in /dev /sys/bus /sys/devices; do ls $d | grep toy; done', 'toy\ntoy\ntoy0\n'],
    ['cd /dev && echo to* && find . -maxdepth 1 -name "to*" -type d && ls -d ./toy/', 'toy\n./toy\n./toy/\n'],
    ['ls /dev | sort | uniq -d; ls -U / /etc >/dev/null && ls -a /dev | head -2', '.\n..\n'],
  ])('%s', async (script, expected) => expect(await shell(script)).toBe(expected));

  it('ls -la shows devices and links, and complains of nothing', async () => {
    const listing = await shell('ls -la /dev/toy /sys/devices/toy0 /sys/bus/toy/devices');
    expect(listing).toMatch(/^crw-rw---- .* 240, +7 .* a$/m);
    expect(listing).toMatch(/^lrwxrwxrwx .* 0000:01:00\.0 -> \.\.\/\.\.\/\.\.\/devices\/toy0$/m);
    expect(listing).toMatch(/^-r--r--r-- .* vendor$/m);
  });
});

describe('what is not ours is untouched', () => {
  it.each([
    'ls -la /usr',
    'ls -l /dev/null /etc/passwd; stat -c "%F %n" /dev/null /dev/tty /',
    'printf "b\\na\\n" | sort | tee /dev/stderr | wc -l; exit 3',
    'cat /none; readlink /proc/self/exe; cd /usr/bin/.. && pwd -P; realpath /proc/self/cwd/../usr//bin',
    'find /etc -maxdepth 1 | sort | md5sum; ls -la /sys/class | md5sum; sh -c "kill -TERM \\$\\$"; echo $?',
  ])('%s', async (script) => {
    const args = ['-c', script];
    const { status, stdout, stderr } = spawnSync('/bin/sh', args, { encoding: 'utf8' });
    expect(await harness.run('/bin/sh', ...args)).toEqual({ status, signal: null, stdout, stderr });
  });

  it.skipIf(spawnSync('python3', ['-c', '1']).status !== 0)('python3 works, and opens what is ours', async () => {
    const script = `
import os, fcntl, subprocess, glob, pathlib
assert 'toy' in os.listdir('/dev') and {'toy', 'null'} <= {e.name for e in os.scandir('/dev')}
assert [e.name for e in os.scandir('/dev/toy')] and sorted(os.listdir('/dev/toy')) == ['a', 'b']
assert glob.glob('/sys/bus/toy/devices/*') == ['/sys/bus/toy/devices/0000:01:00.0']
assert pathlib.Path('/sys/bus/toy/devices/0000:01:00.0').resolve() == pathlib.Path('/sys/devices/toy0')
assert open('/sys/devices/toy0/vendor').read() == '0x8086\\n'
fd = os.open('/dev/toy/a', os.O_RDWR)
assert fcntl.ioctl(fd, 0x4001, 5) == 5
assert os.path.exists('/usr') and not os.path.exists('/dev/toy/c')
print(subprocess.run(['cat', '/sys/devices/toy0/vendor'], capture_output=True, text=True).stdout, end='')`;
    expect(await harness.outputOf('python3', '-c', script)).toBe('0x8086\n');
  });

  it('Node works, which makes some of its calls by their numbers', async () => {
    const script = `const fs = require('fs');
      if (!fs.statSync('/dev/toy/a').isCharacterDevice()) throw new Error('no device');
      process.stdout.write(fs.readFileSync('/sys/bus/toy/devices/0000:01:00.0/vendor'));`;
    expect(await harness.outputOf(process.execPath, '-e', script)).toBe('0x8086\n');
  });
});

describe('the trace', () => {
  it("has every open, read, write and close, with the program's own view of them", async () => {
    harness.trace.length = 0;
    await shell('(exec 2>&-; printf hello > /dev/toy/b); exec 3<>/dev/toy/a; printf hi >&3');
    const seen = harness.trace.map((e) => (e.type === 'file' ? `${e.call} ${e.file} ${e.length}` : e.type));
    // The first is opened with O_TRUNC, which the toy refuses.
    expect(seen).toEqual(['open /dev/toy/b 0', 'open /dev/toy/a 0', 'write /dev/toy/a 2', 'close /dev/toy/a 0']);
    expect(harness.trace[0]).toMatchObject({ result: -16, reason: '/dev/toy/b is never truncated' });
  });
});

describe("the server's folder", () => {
  it('is found by a program that keeps LD_PRELOAD and nothing else of its environment', async () => {
    expect(await shell('exec env -i "LD_PRELOAD=$LD_PRELOAD" /bin/cat /sys/devices/toy0/vendor')).toBe('0x8086\n');
  });

  it('belongs to its user alone', () => {
    const { folder } = harness.server;
    expect(fs.statSync(folder).mode & 0o777).toBe(0o700);
    expect(fs.statSync(path.join(folder, 'config')).mode & 0o777).toBe(0o600);
  });
});
