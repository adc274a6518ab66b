import { describe, expect, it } from 'vitest';
import { FailurePoints } from '../drivers/failure-points.ts';
import { TestProcess } from '../iommufd/testing.ts';
import { FailNthFile } from './fail-nth-file.ts';

function opened() {
  const failures = new FailurePoints();
  const file = new FailNthFile(failures);
  const process = new TestProcess();
  const address = BigInt(process.memory.base);
  const write = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    process.memory.write(Number(address), bytes);
    return file.write(process, address, bytes.length);
  };
  const read = (position: bigint | null, count = 64) => {
    const bytes = new Uint8Array(file.read(process, address, count, position));
    process.memory.read(Number(address), bytes);
    return new TextDecoder().decode(bytes);
  };
  return { failures, write, read };
}

describe('/proc/self/task/TID/fail-nth', () => {
  it('tells how many allocations are left up to the one that fails', () => {
    const { failures, write, read } = opened();
    expect(read(0n)).toBe('0\n');
    expect(write('12')).toBe(2);
    failures.during(() => failures.pass('something'));
    expect(read(0n)).toBe('11\n');
    expect(write('0\n')).toBe(2);
    expect([read(0n), failures.remaining]).toEqual(['0\n', 0]);
  });

  it('is read on by read(2), and from a position by pread(2)', () => {
    const { write, read } = opened();
    write('0x10');
    expect([read(null, 1), read(null), read(null), read(1n), read(9n)]).toEqual(['1', '6\n', '', '6\n', '']);
  });

  it.each(['', '-1', 'two', '4294967296', '1 2'])('takes no %j', (text) => {
    expect(() => opened().write(text)).toThrow('EINVAL');
  });
});
