import { describe, expect, it } from 'vitest';
import { GUEST_BASE } from '../guest/ram.ts';
import { READ, WRITE } from './host-space.ts';
import type { Leaf } from './shadow-space.ts';
import { recordedSpace } from './testing.ts';

const leaf = (iova: bigint, offset: bigint, length = 0x1000n, prot = READ | WRITE): Leaf => ({
  iova,
  gpa: GUEST_BASE + offset,
  length,
  prot,
});

describe('the mirror of a device', () => {
  it('has the host map a leaf once, and again only when something about it changes', () => {
    const { host, space } = recordedSpace();
    space.set(leaf(0x5000n, 0x2000n));
    space.set(leaf(0x5000n, 0x2000n));
    expect(host.take()).toEqual(['map 5000 -> RAM + 2000, 1000 bytes, 3']);
    space.set(leaf(0x5000n, 0x2000n, 0x1000n, READ));
    expect(host.take()).toEqual(['unmap 5000, 1000 bytes', 'map 5000 -> RAM + 2000, 1000 bytes, 1']);
  });

  it('unmaps leaves as they were mapped, whatever part of them goes', () => {
    const { host, space } = recordedSpace();
    space.set(leaf(0x1_0000n, 0n, 0x4000n));
    space.set(leaf(0x2_0000n, 0n));
    host.take();
    space.clear({ start: 0x1_1000n, last: 0x1_1fffn });
    expect(host.take()).toEqual(['unmap 10000, 4000 bytes']);
    expect(space.mirrored).toEqual([leaf(0x2_0000n, 0n)]);
  });

  it('maps of a leaf what is RAM, and takes one without any for nothing to map', () => {
    const { host, space } = recordedSpace(0x8000);
    expect(space.set(leaf(0x10_0000n, -0x1000n, 0x10_000n))).toBe(true);
    expect(host.take()).toEqual(['map 101000 -> RAM + 0, 8000 bytes, 3']);
    expect(space.set(leaf(0x20_0000n, 0x8000n))).toBe(true);
    expect(host.take()).toEqual([]);
  });

  it('says when the host refuses a leaf, and has nothing there then', () => {
    const { host, space } = recordedSpace();
    space.set(leaf(0x5000n, 0x2000n));
    host.refuses = true;
    expect(space.set(leaf(0x5000n, 0x3000n))).toBe(false);
    expect(space.mirrored).toEqual([]);
  });

  it('becomes what it is to be with as few calls as that needs', () => {
    const { host, space } = recordedSpace();
    for (const iova of [0x1000n, 0x2000n, 0x3000n]) space.set(leaf(iova, iova));
    host.take();
    space.only([leaf(0x2000n, 0x2000n), leaf(0x4000n, 0x1000n)]);
    expect(host.take()).toEqual([
      'unmap 1000, 1000 bytes',
      'unmap 3000, 1000 bytes',
      'map 4000 -> RAM + 1000, 1000 bytes, 3',
    ]);
  });

  it('widens a range to the whole of the leaves at its ends', () => {
    const { space } = recordedSpace();
    space.set(leaf(0x1_0000n, 0n, 0x4000n));
    space.set(leaf(0x2_0000n, 0n, 0x4000n));
    expect(space.withWholeLeaves({ start: 0x1_1000n, last: 0x2_0fffn })).toEqual({ start: 0x1_0000n, last: 0x2_3fffn });
    expect(space.withWholeLeaves({ start: 0n, last: 0xfffn })).toEqual({ start: 0n, last: 0xfffn });
  });
});
