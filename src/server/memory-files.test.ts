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
});
