import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildShim } from './build-shim.ts';
import { loadKeeper } from './keeper.ts';
import { MemoryFiles } from './memory-files.ts';

const FOLDER = '/dev/shm';

/** A tmpfs is where such files can be made without memfd_create(2), which Node does not have. */
describe.runIf(fs.existsSync(FOLDER))('files that are memory', () => {
  let folder: string;
  let fd: number;
  let files: MemoryFiles;
  const at = (descriptor: number) => `/proc/self/fd/${descriptor}`;

  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(FOLDER, 'uiommufd-test-'));
    fd = fs.openSync(path.join(folder, 'file'), 'w+');
    fs.ftruncateSync(fd, 8192);
    files = new MemoryFiles(loadKeeper(buildShim().keeper));
  });
  afterEach(() => {
    files.close();
    fs.closeSync(fd);
    fs.rmSync(folder, { recursive: true });
  });

  it('are read and written as their owner does', () => {
    const file = files.behind(at(fd))!;
    expect(file.write(4095, Uint8Array.of(1, 2))).toBe(true);
    const seen = new Uint8Array(4);
    fs.readSync(fd, seen, 0, 4, 4094);
    expect([...seen]).toEqual([0, 1, 2, 0]);
    fs.writeSync(fd, Uint8Array.of(9), 0, 1, 0);
    expect([file.read(0, seen), seen[0]]).toEqual([true, 9]);
  });

  it('can be pinned up to their end, which may move', () => {
    const file = files.behind(at(fd))!;
    expect(file.resolve(4096, 4096, true)).toEqual([{ object: file, page: 1, frames: 1 }]);
    expect([file.resolve(4096, 4097, true), file.read(8190, new Uint8Array(3))]).toEqual([null, false]);
    fs.ftruncateSync(fd, 16384);
    expect([file.resolve(4096, 4097, true) !== null, file.read(8190, new Uint8Array(3))]).toEqual([true, true]);
    fs.ftruncateSync(fd, 0);
    expect([file.read(0, new Uint8Array(1)), file.write(5000, new Uint8Array(1))]).toEqual([false, false]);
  });

  it('are one, whichever descriptor they come from, until nobody holds them', () => {
    const other = fs.openSync(path.join(folder, 'file'), 'r');
    const file = files.behind(at(fd))!;
    expect(files.behind(at(other))).toBe(file);
    fs.closeSync(other);
    file.hold!();
    files.sweep();
    expect(files.count).toBe(1);
    file.drop!();
    files.sweep();
    expect([files.count, file.read(0, new Uint8Array(1))]).toEqual([0, false]);
  });

  it('are told from other files and from closed descriptors', () => {
    const device = fs.openSync('/dev/null', 'r');
    expect(files.behind(at(device))?.resolve(0, 4096, false)).toBe(null);
    fs.closeSync(device);
    expect(files.behind(at(device))).toBe(null);
    expect(files.count).toBe(0);
  });

  describe('as windows of 1 GiB', () => {
    const window = (bytes: number) => files.behind(at(fd))!.openWindow!(0, bytes)!;
    const inFile = (position: number): number => {
      const byte = new Uint8Array(1);
      expect(fs.readSync(fd, byte, 0, 1, position)).toBe(1);
      return byte[0]!;
    };

    it('are read and written in place', () => {
      const open = window(8192);
      expect(open.words.length).toBe(2 ** 28);
      fs.writeSync(fd, Uint8Array.of(0x78, 0x56, 0x34, 0x12), 0, 4, 4096);
      expect(open.words[1024]).toBe(0x12345678);
      open.words[2047] = 0xab000000;
      expect(inFile(8191)).toBe(0xab);
      open.close();
      expect(open.words[1024]).toBe(0);
      expect(inFile(8191)).toBe(0xab);
    });

    it('go on as zeros of ours beyond what is asked for, and can be extended', () => {
      const open = window(4096);
      open.words[1024] = 7;
      expect(inFile(4096)).toBe(0);
      fs.ftruncateSync(fd, 2 ** 21);
      expect(open.extend(2 ** 21)).toBe(true);
      expect(open.words[1024]).toBe(0);
      open.words[1024] = 9;
      expect(inFile(4096)).toBe(9);
      open.close();
    });

    it('read as zeros where the file has been cut short, and keep what is written there', () => {
      fs.ftruncateSync(fd, 2 ** 20);
      const open = window(2 ** 20);
      open.words.fill(5, 0, 2 ** 18);
      fs.ftruncateSync(fd, 8192);
      expect([open.words[2047], open.words[2048], open.words[2 ** 18 - 1]]).toEqual([5, 0, 0]);
      open.words[2048] = 6;
      fs.ftruncateSync(fd, 0);
      expect([open.words[0], open.words[2047], open.words[2048]]).toEqual([0, 0, 6]);
      open.close();
    });

    it('can be as many as the file has GiB, and are used again, empty', () => {
      fs.ftruncateSync(fd, 3 * 2 ** 30);
      const file = files.behind(at(fd))!;
      for (let round = 0; round < 400; round++) {
        const windows = [0, 1, 2].map((gigabyte) => file.openWindow!(gigabyte, 4096)!);
        expect(windows[2]!.words[1024]).toBe(0);
        windows[2]!.words[1024] = 1;
        windows[2]!.words[0] = round;
        expect(inFile(2 ** 31)).toBe(round & 0xff);
        for (const open of windows) open.close();
      }
    });

    it('are refused when their file has been closed', () => {
      const file = files.behind(at(fd))!;
      files.sweep();
      expect(file.openWindow!(0, 4096)).toBe(null);
    });
  });
});
