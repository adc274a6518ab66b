import { describe, expect, it } from 'vitest';
import {
  HwptGetDirtyBitmap,
  HwptSetDirtyTracking,
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
} from '../abi/iommufd.ts';
import { MOCK_FLAGS_DEVICE_NO_DIRTY } from '../abi/iommufd-test.ts';
import type { MockPagingDomain } from '../drivers/mock/paging-domain.ts';
import { HwptPaging } from './hwpt-paging.ts';
import { MockProgram } from './test-command/testing.ts';

const IOVA = 0x100_0000n;
const DIRTY_TRACKING = 2;
const NO_CLEAR = 1;

function setup(flags = DIRTY_TRACKING) {
  const program = new MockProgram('linux-6.12');
  const ioasId = program.ioas();
  const { idevId } = program.device(ioasId);
  const hwptId = program.hwpt(idevId, ioasId, flags);
  const domain = program.context.objects.get(hwptId, HwptPaging, 'id').domain as MockPagingDomain;
  program.map(ioasId, IOVA, 0x4000n);
  const track = (on: number) => program.err(IOMMU_HWPT_SET_DIRTY_TRACKING, HwptSetDirtyTracking, { hwptId, flags: on });
  const good = { hwptId, iova: IOVA, length: 0x4000n, pageSize: 0x800n };
  const err = (values: object) => program.err(IOMMU_HWPT_GET_DIRTY_BITMAP, HwptGetDirtyBitmap, { ...good, ...values });
  /** The first byte of the bitmap: 2 KiB pages of the first 16 KiB. */
  const get = (values: object = {}) => {
    const data = program.put(new Uint8Array(8), 0x400);
    program.ok(IOMMU_HWPT_GET_DIRTY_BITMAP, HwptGetDirtyBitmap, { ...good, ...values, data });
    const bitmap = new Uint8Array(8);
    program.process.memory.read(Number(data), bitmap);
    return bitmap[0]!;
  };
  return { program, ioasId, hwptId, domain, track, err, get };
}

describe('HWPT_SET_DIRTY_TRACKING', () => {
  it('knows one flag, and paging HWPTs with DIRTY_TRACKING', () => {
    const { program, hwptId, ioasId, track } = setup();
    expect(track(2)).toBe('EOPNOTSUPP');
    const on = (id: number) =>
      program.err(IOMMU_HWPT_SET_DIRTY_TRACKING, HwptSetDirtyTracking, { hwptId: id, flags: 1 });
    expect([on(hwptId), on(ioasId), setup(0).track(1)]).toEqual(['', 'ENOENT', 'EOPNOTSUPP']);
  });

  it('forgets what was written before it is switched on', () => {
    const { domain, track, get } = setup();
    domain.setDirty(IOVA);
    expect([track(1), get()]).toEqual(['', 0]);
    domain.setDirty(IOVA);
    expect([track(0), get()]).toEqual(['', 1]);
  });

  it('is not there for devices whose IOMMU cannot track', () => {
    const { program, hwptId } = setup();
    expect(program.device(program.ioas(), MOCK_FLAGS_DEVICE_NO_DIRTY).stdevId).toBeGreaterThan(0);
    expect(() => program.device(hwptId, MOCK_FLAGS_DEVICE_NO_DIRTY)).toThrow(/EINVAL/);
  });
});

describe('HWPT_GET_DIRTY_BITMAP', () => {
  it('checks flags, HWPT, numbers and alignment, then whether writes are tracked', () => {
    const { err, ioasId } = setup();
    expect([err({ flags: 2 }), err({ reserved: 1 }), err({ hwptId: ioasId })]).toEqual([
      'EOPNOTSUPP',
      'EOPNOTSUPP',
      'ENOENT',
    ]);
    expect([err({ length: 2n ** 64n - 0x800n }), err({ length: 0n })]).toEqual(['EOVERFLOW', 'EOVERFLOW']);
    expect([err({ iova: IOVA + 1n }), err({ length: 0x400n }), err({ pageSize: 0n })]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ]);
    expect(err({ pageSize: 0x8000n })).toBe('EINVAL');
    expect(setup(0).err({})).toBe('EOPNOTSUPP');
  });

  it('tells and forgets what was written, or tells it again', () => {
    const { domain, track, get } = setup();
    track(1);
    domain.setDirty(IOVA + 0x800n);
    domain.setDirty(IOVA + 0x3800n);
    expect([get({ flags: NO_CLEAR }), get({ flags: NO_CLEAR }), get(), get()]).toEqual([0x82, 0x82, 0x82, 0]);
  });

  it('counts pages of page_size from iova on', () => {
    const { domain, track, get } = setup();
    track(1);
    domain.setDirty(IOVA + 0x2800n);
    expect(get({ flags: NO_CLEAR, pageSize: 0x1000n })).toBe(4);
    expect(get({ flags: NO_CLEAR, iova: IOVA + 0x2000n, length: 0x2000n, pageSize: 0x800n })).toBe(2);
    expect(get({ flags: NO_CLEAR, length: 0x2000n })).toBe(0);
  });

  it('goes over areas up to the first IOVA that is not mapped', () => {
    const { program, ioasId, domain, track, get } = setup();
    program.map(ioasId, IOVA + 0x4000n, 0x1000n);
    program.map(ioasId, IOVA + 0x8000n, 0x1000n);
    track(1);
    for (const offset of [0n, 0x4000n, 0x8000n]) domain.setDirty(IOVA + offset);
    expect(get({ flags: NO_CLEAR, length: 0x10000n, pageSize: 0x2000n })).toBe(0b101);
  });
});
