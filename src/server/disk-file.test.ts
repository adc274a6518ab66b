import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DiskFile } from './disk-file.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'uiommufd-disk-'));
const file = path.join(folder, 'disk.img');

afterEach(() => rmSync(file, { force: true }));
process.on('exit', () => rmSync(folder, { recursive: true }));

function disk(bytes: number): DiskFile {
  writeFileSync(file, new Uint8Array(bytes).fill(7));
  return new DiskFile(file);
}

describe('a disk in a file', () => {
  it('has its size and its bytes', () => {
    const store = disk(4096);
    expect(store.bytes).toBe(4096);
    const into = new Uint8Array(3);
    expect(store.read(4093, into)).toBe(true);
    expect(into).toEqual(Uint8Array.of(7, 7, 7));
  });

  it('is written where it is told to', () => {
    const store = disk(4096);
    expect(store.write(100, Uint8Array.of(1, 2))).toBe(true);
    expect(store.flush()).toBe(true);
    expect([...readFileSync(file).subarray(99, 103)]).toEqual([7, 1, 2, 7]);
  });

  it('is cleared, more than a buffer at once, and keeps what is discarded', () => {
    const store = disk(3 * 2 ** 20);
    expect(store.zero(1, 2.5 * 2 ** 20)).toBe(true);
    store.discard();
    const bytes = readFileSync(file);
    expect([bytes[0], bytes.findIndex((byte, at) => at > 0 && byte !== 0), bytes.length]).toEqual([
      7,
      2.5 * 2 ** 20 + 1,
      3 * 2 ** 20,
    ]);
  });

  it('fails when the file has become shorter', () => {
    const store = disk(4096);
    truncateSync(file, 10);
    expect(store.read(0, new Uint8Array(11))).toBe(false);
  });

  it('is refused when there is no such file', () => {
    expect(() => new DiskFile(file)).toThrow('ENOENT');
  });
});
