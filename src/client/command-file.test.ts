import { describe, expect, it } from 'vitest';
import { struct, u32 } from '../abi/struct.ts';
import { takes, takesNumber, withCommands } from './command-file.ts';
import { Refusal } from './refusal.ts';
import type { System, UserMemory } from './system.ts';

const Thing = struct('thing', 12, { size: u32(0), value: u32(4), outValue: u32(8) });
const Other = struct('other', 8, { argsz: u32(0), size: u32(4) });

interface Seen {
  readonly command: number;
  readonly argument: bigint;
  readonly bytes: number[];
}

const BASE = 0x1000n;

/** A system with one descriptor, whose ioctls `answer` makes; it keeps what they were given. */
function fake(answer: (bytes: Uint8Array) => number = () => 0) {
  const seen: Seen[] = [];
  const allocated = new Set<UserMemory>();
  const system: System = {
    open: () => 3,
    close: (fd) => (fd < 0 ? -9 : 0),
    ioctl: (fd, command, argument) => {
      if (fd < 0) return -9;
      const memory = [...allocated].find(({ address }) => address === argument);
      seen.push({ command, argument, bytes: [...(memory?.bytes.subarray(0, 16) ?? [])] });
      return memory ? answer(memory.bytes) : -14;
    },
    read: () => 0,
    write: (_fd, _address, count) => count,
    pread: () => -29,
    pwrite: () => -29,
    allocate: (length) => {
      const memory = { address: BASE * BigInt(allocated.size + 1), bytes: new Uint8Array(length) };
      allocated.add(memory);
      return memory;
    },
    release: (memory) => {
      allocated.delete(memory);
    },
  };
  const File = withCommands({ thing: takes(7, Thing), other: takes(8, Other), number: takesNumber(9) });
  return { file: new File(system, 3), seen, allocated };
}

describe('a command', () => {
  it('puts the size of the struct into its size field, and fields where the layout has them', async () => {
    const { file, seen } = fake();
    await file.thing({ value: 0x0102 });
    expect(seen[0]).toMatchObject({ command: 7, bytes: [12, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] });
  });

  it('takes argsz for the size where a struct has both', async () => {
    const { file, seen } = fake();
    await file.other({ size: 5 });
    expect(seen[0]!.bytes.slice(0, 8)).toEqual([8, 0, 0, 0, 5, 0, 0, 0]);
  });

  it('gives the struct back as the call left it, with what the call returned', async () => {
    const { file } = fake((bytes) => {
      bytes[8] = 42;
      return 5;
    });
    expect(await file.thing()).toMatchObject({ outValue: 42, result: 5 });
  });

  it('keeps answers apart', async () => {
    const { file } = fake((bytes) => {
      bytes[8] = bytes[4]!;
      return 0;
    });
    const [first, second] = [await file.thing({ value: 1 }), await file.thing({ value: 2 })];
    expect([first.outValue, second.outValue]).toEqual([1, 2]);
  });

  it('has a tail behind the struct, counted in the size and filled by the call', async () => {
    const { file, seen } = fake((bytes) => {
      bytes[13] = 9;
      return 0;
    });
    const tail = Uint8Array.of(1, 2, 3, 4);
    await file.thing({}, { tail });
    expect(seen[0]!.bytes).toEqual([16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    expect([...tail]).toEqual([1, 9, 3, 4]);
  });

  it('can be given a wrong size and a wrong address', async () => {
    const { file, seen } = fake();
    await file.thing({ size: 99 });
    await expect(file.thing({}, { address: 16n })).rejects.toMatchObject({ code: 'EFAULT' });
    expect([seen[0]!.bytes[0], seen[1]!.argument]).toEqual([99, 16n]);
  });

  it('throws its errno, with what it told all the same', async () => {
    const { file } = fake((bytes) => {
      bytes[8] = 3;
      return -90;
    });
    const refusal = (await file.thing().catch((error: unknown) => error)) as Refusal;
    expect(refusal).toBeInstanceOf(Refusal);
    expect([refusal.code, new Thing(refusal.answer!.bytes).outValue]).toEqual(['EMSGSIZE', 3]);
  });

  it('uses its memory again, and gives it back when the file is closed', async () => {
    const { file, allocated } = fake();
    for (let n = 0; n < 5; n++) await file.thing();
    await Promise.all([file.thing(), file.other()]);
    expect(allocated.size).toBe(2);
    file.close();
    expect(allocated.size).toBe(0);
  });

  it('is of a file that is open: its number may be another file afterwards', async () => {
    const { file, seen, allocated } = fake();
    const underWay = file.thing();
    file.close();
    await underWay;
    expect(allocated.size).toBe(0);
    await expect(file.thing()).rejects.toMatchObject({ code: 'EBADF' });
    expect(() => file.close()).toThrow('EBADF');
    expect([seen.length, allocated.size]).toEqual([1, 0]);
  });

  it('passes a number as it is', async () => {
    const { file, seen } = fake();
    await file.number(4).catch(() => {});
    expect(seen[0]).toMatchObject({ command: 9, argument: 4n });
  });
});
