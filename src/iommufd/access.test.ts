import { describe, expect, it } from 'vitest';
import { IOMMU_IOAS_COPY, IOMMU_IOAS_UNMAP, IoasCopy, IoasUnmap } from '../abi/iommufd.ts';
import { Access } from './access.ts';
import { Ioas } from './ioas.ts';
import { errnoName, errnoOf, Program } from './testing.ts';

const IOVA = 0x100000n;
const FIXED_READABLE = 5;

function setup(unmapped?: (access: () => Access) => (start: bigint, length: bigint) => void) {
  const program = new Program();
  const ioasId = program.ioas();
  const ioas = program.context.objects.get(ioasId, Ioas, 'id');
  let access: Access;
  const options = unmapped ? { pins: true, unmapped: unmapped(() => access) } : { pins: true };
  access = Access.create(program.context, options);
  access.attach(ioas);
  const err = (run: () => void) =>
    errnoName(
      errnoOf(() => {
        run();
        return 0;
      }),
    );
  const unmap = (length = 0x2000n) => program.err(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova: IOVA, length });
  return { program, ioasId, ioas, access, err, unmap };
}

describe('an access', () => {
  it('has an ID of its own, keeps its IOAS, and gives both back', () => {
    const { program, ioasId, ioas, access } = setup();
    expect([access.id, ioas.users]).toEqual([2, 1]);
    access.close();
    expect([ioas.users, program.ioas()]).toEqual([0, 2]);
    expect(program.context.objects.find(ioasId)).toBe(ioas);
  });

  it('makes the IOAS page-aligned while it is there, if it may pin', () => {
    const { program, ioas, access, err } = setup();
    expect(ioas.table.alignment).toBe(0x1000n);
    access.close();
    expect(ioas.table.alignment).toBe(1n);
    program.map(ioas.id, IOVA, 0x800n);
    const other = Access.create(program.context, { pins: true });
    expect(err(() => other.attach(ioas))).toBe('EADDRINUSE');
    expect(ioas.table.alignment).toBe(1n);
    other.close();
    const reader = Access.create(program.context, { pins: false });
    reader.attach(ioas);
    reader.close();
  });

  it('pins the pages of a range, and each once however often', () => {
    const { program, ioasId, access } = setup();
    program.map(ioasId, IOVA, 0x2000n);
    program.map(ioasId, IOVA + 0x2000n, 0x1000n, 0x8000n);
    expect(program.pinned.pinnedFrames).toBe(0);
    access.pin(IOVA + 0x1000n, 0x2000n, true);
    access.pin(IOVA + 0x1000n, 0x1000n, false);
    expect(program.pinned.pinnedFrames).toBe(2);
    const frames: number[] = [];
    access.forEachFrame(IOVA + 0x1000n, 0x2000n, (frame) => frames.push(frame));
    expect(frames[1]! - frames[0]!).toBe(7);
    access.unpin(IOVA + 0x1000n, 0x2000n);
    expect(program.pinned.pinnedFrames).toBe(1);
    access.unpin(IOVA + 0x1000n, 0x1000n);
    expect(program.pinned.pinnedFrames).toBe(0);
  });

  it('refuses gaps, what overflows, and uses that an area does not allow, and then has pinned nothing', () => {
    const { program, ioasId, access, err } = setup();
    program.map(ioasId, IOVA, 0x1000n);
    const pin = (iova: bigint, length: bigint, write = false) => err(() => access.pin(iova, length, write));
    expect([pin(IOVA, 0n), pin(IOVA, 2n ** 64n - 1n), pin(IOVA, 0x2000n)]).toEqual(['EINVAL', 'EOVERFLOW', 'ENOENT']);
    const copy = { flags: FIXED_READABLE, dstIoasId: ioasId, srcIoasId: ioasId, length: 0x1000n, srcIova: IOVA };
    program.ok(IOMMU_IOAS_COPY, IoasCopy, { ...copy, dstIova: IOVA + 0x1000n });
    expect([pin(IOVA, 0x2000n, true), pin(IOVA, 0x2000n)]).toEqual(['EPERM', '']);
    access.unpin(IOVA, 0x2000n);
    expect(program.pinned.pinnedFrames).toBe(0);
    access.attach(null);
    expect(pin(IOVA, 0x1000n)).toBe('ENOENT');
  });

  it('pins from the start of a page only', () => {
    const { program, ioasId, access, err } = setup();
    program.map(ioasId, IOVA, 0x2000n);
    expect(err(() => access.pin(IOVA + 0x800n, 0x800n, false))).toBe('EINVAL');
    expect(err(() => access.pin(IOVA, 0x1800n, false))).toBe('');
    expect(program.pinned.pinnedFrames).toBe(2);
  });

  it('copies memory both ways, across areas', () => {
    const { program, ioasId, access, err } = setup();
    program.map(ioasId, IOVA, 0x1000n);
    program.map(ioasId, IOVA + 0x1000n, 0x1000n, 0x5000n);
    access.copy(IOVA + 0xffen, Uint8Array.of(1, 2, 3, 4), true);
    const { bytes } = program.process.memory;
    expect([bytes[0xffe], bytes[0xfff], bytes[0x5000], bytes[0x5001]]).toEqual([1, 2, 3, 4]);
    const read = new Uint8Array(4);
    access.copy(IOVA + 0xffen, read, false);
    expect([...read]).toEqual([1, 2, 3, 4]);
    expect(err(() => access.copy(IOVA + 0x1ffen, read, false))).toBe('ENOENT');
  });

  it('is asked for its pins by an unmap, which then happens', () => {
    const asked: bigint[][] = [];
    const { program, ioasId, unmap, access } = setup((get) => (start, length) => {
      asked.push([start, length]);
      if (length === 0x2000n) get().unpin(IOVA, 0x1000n);
    });
    program.map(ioasId, IOVA, 0x2000n);
    access.pin(IOVA, 0x1000n, true);
    expect(unmap()).toBe('');
    expect(asked).toEqual([[IOVA, 0x2000n]]);
    expect(program.pinned.pinnedFrames).toBe(0);
  });

  it('that does not answer ends the unmap with EDEADLK, and gets no new pins there', () => {
    const { program, ioasId, unmap, access, err } = setup(() => () => {});
    program.map(ioasId, IOVA, 0x2000n);
    access.pin(IOVA, 0x1000n, true);
    expect(unmap()).toBe('EDEADLK');
    expect(err(() => access.pin(IOVA, 0x1000n, true))).toBe('EINVAL');
    expect(err(() => access.copy(IOVA, new Uint8Array(1), false))).toBe('EINVAL');
    access.unpin(IOVA, 0x1000n);
    expect(unmap()).toBe('');
  });

  it("of iommufd's own is not asked: EBUSY", () => {
    const { program, ioasId, unmap, access } = setup();
    program.map(ioasId, IOVA, 0x2000n);
    access.pin(IOVA, 0x1000n, false);
    expect(unmap()).toBe('EBUSY');
    access.unpin(IOVA, 0x1000n);
    expect(unmap()).toBe('');
  });

  it('changes to another IOAS by its ID after giving its pins back', () => {
    const left: bigint[][] = [];
    const { program, access, err, ioas } = setup(() => (start, length) => left.push([start, length]));
    const other = program.ioas();
    access.replace(other);
    expect(left).toEqual([[0n, 2n ** 64n - 1n]]);
    expect([ioas.users, program.context.objects.get(other, Ioas, 'id').users]).toEqual([0, 1]);
    expect(err(() => access.replace(99))).toBe('ENOENT');
    access.attach(null);
    expect(err(() => access.replace(other))).toBe('ENOENT');
    access.close();
    program.close();
  });

  it('of a driver keeps the iommufd when its descriptor closes', () => {
    const { program, access } = setup(() => () => {});
    program.close();
    expect(program.context.objects.size).toBe(2);
    access.close();
    expect(program.context.objects.size).toBe(0);
  });
});
