import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { OpenedFile } from './command-file.ts';
import { koffiSystem } from './koffi.ts';

const O_RDWR = 2;
const O_RDWR_CREAT_TMPFILE = 0o20200002;

describe.skipIf(process.platform !== 'linux')('the system calls of this program', () => {
  const system = koffiSystem(koffi);

  it('answer with a descriptor, or a negative errno', () => {
    const fd = system.open('/dev/null', O_RDWR);
    expect(fd).toBeGreaterThan(2);
    expect([system.close(fd), system.close(fd)]).toEqual([0, -9]);
    expect(system.open('/dev/there is no such file', O_RDWR)).toBe(-2);
  });

  it('reach the memory that they are told', async () => {
    const fd = system.open('/dev/shm', O_RDWR_CREAT_TMPFILE);
    const file = new OpenedFile(system, fd);
    expect(await file.write(Uint8Array.of(1, 2, 3, 4))).toBe(4);
    expect([...(await file.read(8, 1n))]).toEqual([2, 3, 4]);
    expect(await file.write(Uint8Array.of(9), 3n)).toBe(1);
    expect([...(await file.read(8, 3n))]).toEqual([9]);
    await expect(file.callNumber(0x3b80)).rejects.toMatchObject({ code: 'ENOTTY' });
    file.close();
  });

  it('give memory of zeros at page boundaries', () => {
    const memory = system.allocate(5000);
    expect([memory.bytes.length, memory.address % 4096n]).toEqual([5000, 0n]);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    system.release(memory);
  });
});
