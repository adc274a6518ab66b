import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildShim } from './build-shim.ts';
import { loadKeeper } from './keeper.ts';
import { covering, listed, Mappings } from './mappings.ts';

const MAPS = `\
00400000-00402000 r-xp 00000000 08:01 131 /usr/bin/program
00402000-00404000 rw-p 00000000 08:01 131 /usr/bin/program with spaces (deleted)
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000001000-7f0000003000 rw-s 00005000 00:01 7 /dev/zero (deleted)
7f0000003000-7f0000004000 ---p 00000000 00:00 0
7f0000010000-7f0000011000 rw-s 00000000 00:06 9 /dev/dri/card0
7f0000011000-7f0000012000 rw-s 00000000 00:06 9 /dev/shm/ram
7f0000020000-7f0000021000 rw-s 00000000 00:01 12 /memfd:uiommufd-region (deleted)
7f0000021000-7f0000022000 rw-s 00000000 00:01 13 /memfd:ram (deleted)
7ffff7fc0000-7ffff7fc4000 r--p 00000000 00:00 0                          [vvar]
7ffff7fc4000-7ffff7fc6000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;

describe('what can be pinned, by /proc/PID/maps', () => {
  it.each([
    ['a whole mapping', 0x7f0000000000, 0x1000, true, true],
    ['several that touch', 0x7f0000000000, 0x3000, true, true],
    ['a part that starts and ends within pages', 0x400ff8, 0x10, false, true],
    ['memory that is read only, to be written', 0x401ff8, 0x10, true, false],
    ['the same, to be read', 0x401ff8, 0x10, false, true],
    ['memory without access', 0x7f0000002000, 0x2000, false, false],
    ['a hole at the start', 0x403ff0, 0x20, false, false],
    ['a hole in the middle', 0x403000, 0x7f0000000000 - 0x402000, false, false],
    ['nothing at all', 0x1000, 0x1000, false, false],
    ['beyond the last', 0x7ffffffff000, 0x1000, false, false],
    ['a device', 0x7f0000010000, 0x1000, true, false],
    ['shared memory, which lives under /dev too', 0x7f0000011000, 0x1000, true, true],
    ['a region of ours that it has mapped', 0x7f0000020000, 0x1000, true, false],
    ['a memfd of its own', 0x7f0000021000, 0x1000, true, true],
    ['[vvar]', 0x7ffff7fc0000, 0x1000, false, false],
    ['[vdso]', 0x7ffff7fc4000, 0x1000, false, true],
  ])('%s', (_, from, length, writable, expected) => {
    expect(covering(listed(MAPS), from, from + length, writable) !== null).toBe(expected);
  });

  it('tells shared files, and where in them a mapping starts, from private memory', () => {
    expect(covering(listed(MAPS), 0x7f0000000800, 0x7f0000001800, true)).toMatchObject([
      { start: 0x7f0000000000, end: 0x7f0000001000, offset: 0, file: '' },
      { start: 0x7f0000001000, end: 0x7f0000003000, offset: 0x5000, file: '00:01 7' },
    ]);
    expect(covering(listed(MAPS), 0x402000, 0x403000, true)?.[0]).toMatchObject({
      file: '',
      start: 0x402000,
      end: 0x404000,
    });
  });
});

/** Before Linux 6.11 the kernel can only be asked for the text. */
const addon = loadKeeper(buildShim().keeper);
const maps = fs.openSync('/proc/self/maps', 'r');
const asked = addon.findMapping(maps, 0, new Float64Array(8), new Uint8Array(0)) === 1;
fs.closeSync(maps);

describe.runIf(asked)('the kernel, asked for one mapping at a time,', () => {
  it('says the same as its text', () => {
    const mappings = new Mappings(addon, '/proc/self');
    const text = fs.readFileSync('/proc/self/maps', 'latin1');
    const inText = listed(text);
    let same = 0;
    for (const [, start] of text.matchAll(/^([0-9a-f]+)-/gm)) {
      const address = Number.parseInt(start!, 16);
      const [seen, expected] = [mappings.now(address), inText(address)];
      // Our own heap may have changed in between; [vsyscall] is none of the process's.
      if (seen?.end !== expected!.end) continue;
      // A name is not told of what is certainly memory.
      expect({ ...seen, name: '' }).toEqual({ ...expected, name: '' });
      if (seen.name !== '') expect(seen.name).toBe(expected!.name);
      same++;
    }
    expect(same).toBeGreaterThan(20);
    mappings.close();
  });

  it('tells devices from memory', () => {
    const device = /^([0-9a-f]+)-([0-9a-f]+) .*\[vvar\]$/m.exec(fs.readFileSync('/proc/self/maps', 'latin1'));
    if (!device) return;
    const [start, end] = [Number.parseInt(device[1]!, 16), Number.parseInt(device[2]!, 16)];
    const mappings = new Mappings(addon, '/proc/self');
    expect(mappings.now(start)?.name).toBe('[vvar]');
    expect(covering(mappings.now, start, end, false)).toBe(null);
    mappings.close();
  });
});
