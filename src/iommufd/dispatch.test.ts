import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DIALECTS, dialect } from '../abi/dialects.ts';
import { Destroy, IOMMU_DESTROY, IOMMU_IOAS_ALLOC, IoasAlloc } from '../abi/iommufd.ts';
import type { IoctlEvent } from '../trace/events.ts';
import { IommufdDevice } from './device.ts';
import { errnoName, errnoOf, Program, RecordingTracer } from './testing.ts';
import { FakeDevice, FakeIommu } from './testing-driver.ts';

const EVERY = [...dialect('linux-7.1').commands.values()];

/** Calls with raw bytes at the program's scratch address. */
function raw(program: Program, command: number, bytes: Uint8Array): string {
  program.process.memory.write(program.scratch, bytes);
  return errnoName(errnoOf(() => program.context.ioctl(program.process, command, BigInt(program.scratch)) as number));
}

function sized(size: number, length: number, tail = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  new DataView(bytes.buffer).setUint32(0, size, true);
  bytes[length - 1] = tail;
  return bytes;
}

describe('every command of Linux 7.1', () => {
  it.each(EVERY.map((c) => [c.name, c] as const))(
    '%s refuses a size below its minimum and a tail that is not zero',
    (_, c) => {
      const program = new Program();
      expect(raw(program, c.command, sized(c.minimumSize - 1, c.size + 1, 0xff))).toBe('EINVAL');
      expect(raw(program, c.command, sized(c.size + 1, c.size + 1, 0xff))).toBe('E2BIG');
    },
  );

  it.each(EVERY.map((c) => [c.name, c] as const))(
    '%s gives the same answer to a longer struct with a zero tail',
    (_, c) => {
      const program = new Program();
      const answer = raw(program, c.command, sized(c.size, c.size));
      expect(raw(program, c.command, sized(c.size + 1, c.size + 1))).toBe(answer);
      expect(raw(program, c.command, sized(c.size + 5000, c.size))).toBe('EFAULT');
    },
  );
});

describe('every dialect', () => {
  it.each(DIALECTS.map((d) => [d.name, d] as const))('%s has a handler for each command', (_, d) => {
    const program = new Program({ abi: d.name });
    for (const c of d.commands.values()) expect(raw(program, c.command, sized(c.size, c.size))).not.toBe('ENOTTY');
  });
});

describe('an ioctl', () => {
  it('is ENOTTY when its number is unknown, and EFAULT when the struct cannot be read', () => {
    const program = new Program();
    const at = (command: number, address: bigint) =>
      errnoName(errnoOf(() => program.context.ioctl(program.process, command, address) as number));
    expect(at(0x3b7f, 0n)).toBe('ENOTTY');
    expect(at(0x3b95, 0n)).toBe('ENOTTY');
    expect(at(IOMMU_DESTROY, 0n)).toBe('EFAULT');
    expect(at(IOMMU_DESTROY, 2n ** 64n - 2n)).toBe('EFAULT');
    expect(at(IOMMU_DESTROY | 0x40000000, BigInt(program.scratch))).toBe('ENOTTY');
    expect(at(0x0080, BigInt(program.scratch))).toBe('ENOTTY');
  });

  it('of a later release is ENOTTY', () => {
    const program = new Program({ abi: 'linux-6.2' });
    expect(raw(program, 0x3b89, sized(48, 48))).toBe('ENOTTY');
  });

  it('sees zeros where the caller gave a shorter struct, and writes back no more than that', () => {
    const program = new Program();
    const { memory } = program.process;
    memory.write(program.scratch, new Uint8Array(64).fill(0xee));
    memory.write(program.scratch, sized(12, 12));
    expect(
      errnoOf(() => program.context.ioctl(program.process, IOMMU_IOAS_ALLOC, BigInt(program.scratch)) as number),
    ).toBe(0);
    const after = new Uint8Array(16);
    memory.read(program.scratch, after);
    expect([...after.subarray(8)]).toEqual([1, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]);
  });

  it('prefers a byte that is not zero to a page that is not there', () => {
    const program = new Program();
    const bytes = sized(100_000, 12);
    expect(raw(program, IOMMU_DESTROY, Uint8Array.of(...bytes, 1))).toBe('E2BIG');
    expect(raw(program, IOMMU_DESTROY, Uint8Array.of(...bytes, 0))).toBe('EFAULT');
  });

  it('does not create an object when its answer cannot be written', () => {
    const program = new Program();
    program.process.memory.write(program.scratch, sized(12, 12));
    program.process.memory.protect(program.scratch, 4096);
    const call = () => program.context.ioctl(program.process, IOMMU_IOAS_ALLOC, BigInt(program.scratch)) as number;
    expect(errnoName(errnoOf(call))).toBe('EFAULT');
    expect(program.context.objects.size).toBe(0);
  });

  it('that gives no answer works in read-only memory', () => {
    const program = new Program();
    const id = program.ioas();
    const destroy = new Destroy();
    destroy.size = 8;
    destroy.id = id;
    program.process.memory.write(program.scratch, destroy.bytes);
    program.process.memory.protect(program.scratch, 4096);
    expect(program.context.ioctl(program.process, IOMMU_DESTROY, BigInt(program.scratch))).toBe(0);
  });
});

describe('the trace', () => {
  it('has every call, with the struct before and after, and why it was refused', () => {
    const tracer = new RecordingTracer();
    const program = new Program({ tracer });
    program.ok(IOMMU_IOAS_ALLOC, IoasAlloc);
    program.err(IOMMU_DESTROY, Destroy, { id: 7 });
    errnoOf(() => program.context.ioctl(program.process, 0x1234, 0n) as number);
    const [alloc, destroy, unknown] = tracer.events as IoctlEvent[];
    expect(alloc).toMatchObject({ type: 'ioctl', pid: 42, file: '/dev/iommu', struct: 'iommu_ioas_alloc', result: 0 });
    expect([new IoasAlloc(alloc!.before).outIoasId, new IoasAlloc(alloc!.after).outIoasId]).toEqual([0, 1]);
    expect(destroy).toMatchObject({ struct: 'iommu_destroy', result: -2, reason: 'id 7 does not exist' });
    expect(unknown).toMatchObject({ struct: '', result: -25, command: 0x1234 });
    expect(unknown!.before).toHaveLength(0);
  });
});

describe('random bytes', () => {
  it('as any struct of any dialect are answered with an errno, and close leaves nothing', () => {
    const commands = DIALECTS.flatMap((d) => [...d.commands.values()].map((c) => [d.name, c.command, c.size] as const));
    const small = fc.oneof(fc.nat(8), fc.constantFrom(0x1000, 0xffffffff, 0xfa4e));
    const call = fc.tuple(fc.constantFrom(...commands), fc.array(small, { minLength: 16, maxLength: 16 }));
    fc.assert(
      fc.property(fc.array(call, { maxLength: 40 }), (calls) => {
        const program = new Program({ abi: calls[0]?.[0][0] ?? 'linux-7.1' });
        const iommu = new FakeIommu({ nestOnParent: true });
        const devices = [1, 2].map((streamId) =>
          IommufdDevice.bind(program.context, new FakeDevice(iommu, { streamId }), 'vfio'),
        );
        program.ioas();
        const parent = program.context.dialect.accepted.hwptAllocFlags & 1 ? program.hwpt(devices[0]!.id, 3, 1) : 3;
        devices[0]!.attach(parent);
        for (const [[, command, size], words] of calls) {
          const bytes = new Uint8Array(Uint32Array.of(size, ...words.slice(1)).buffer);
          program.process.memory.write(program.scratch, bytes);
          try {
            const result = program.context.ioctl(program.process, command, BigInt(program.scratch));
            if (typeof result !== 'number') result.catch(() => {});
          } catch (error) {
            expect((error as Error).name).toBe('Errno');
          }
        }
        for (const device of devices) {
          device.detach();
          device.unbind();
        }
        program.close();
        expect(program.pinned.pinnedFrames).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
