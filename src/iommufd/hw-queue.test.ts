import { describe, expect, it } from 'vitest';
import {
  Destroy,
  HwQueueAlloc,
  IOMMU_DESTROY,
  IOMMU_HW_QUEUE_ALLOC,
  IOMMU_IOAS_UNMAP,
  IOMMU_VIOMMU_ALLOC,
  IoasUnmap,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import { IOMMU_HW_QUEUE_TYPE_SELFTEST, IOMMU_VIOMMU_TYPE_SELFTEST } from '../abi/iommufd-test.ts';
import { MockProgram } from './test-command/testing.ts';

const IOVA = 0x100_0000n;

function setup() {
  const program = new MockProgram();
  const ioasId = program.ioas();
  const { idevId: devId } = program.device(ioasId);
  const hwptId = program.hwpt(devId, ioasId, 1);
  const viommu = { devId, hwptId, type: IOMMU_VIOMMU_TYPE_SELFTEST };
  const { outViommuId: viommuId } = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, viommu);
  program.map(ioasId, IOVA, 0x4000n);
  const good = { viommuId, type: IOMMU_HW_QUEUE_TYPE_SELFTEST, nestingParentIova: IOVA, length: 0x1000n };
  const alloc = (values: object = {}) =>
    program.ok(IOMMU_HW_QUEUE_ALLOC, HwQueueAlloc, { ...good, ...values }).outHwQueueId;
  const err = (values: object) => program.err(IOMMU_HW_QUEUE_ALLOC, HwQueueAlloc, { ...good, ...values });
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  const unmap = () => program.err(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova: IOVA, length: 0x4000n });
  return { program, ioasId, viommuId, alloc, err, destroy, unmap };
}

describe('HW_QUEUE_ALLOC', () => {
  it('checks flags and type, length, vIOMMU, and the driver, in this order', () => {
    const { err } = setup();
    expect(err({ flags: 1, length: 0n })).toBe('EOPNOTSUPP');
    expect(err({ type: 0, length: 0n })).toBe('EOPNOTSUPP');
    expect(err({ length: 0n, viommuId: 99 })).toBe('EINVAL');
    expect(err({ length: 2n ** 64n - 1n, viommuId: 99 })).toBe('EOVERFLOW');
    expect(err({ viommuId: 99 })).toBe('ENOENT');
    expect(err({ type: 1 })).toBe('EOPNOTSUPP');
    expect(err({ index: 2 })).toBe('EINVAL');
    expect(err({ index: 1 })).toBe('EIO');
  });

  it('needs memory that the nesting parent maps whole, and keeps nothing of a refusal', () => {
    const { program, err } = setup();
    const { pinnedFrames } = program.pinned;
    const { size } = program.context.objects;
    expect(err({ nestingParentIova: IOVA + 0x4000n })).toBe('ENOENT');
    expect(err({ length: 0x5000n })).toBe('ENOENT');
    expect(err({ nestingParentIova: 0n, length: 2n ** 64n - 1n })).toBe('ERANGE');
    expect([program.pinned.pinnedFrames, program.context.objects.size]).toEqual([pinnedFrames, size]);
  });

  it('takes two IDs: its own, and one of the access that pins the memory', () => {
    const { program, alloc } = setup();
    const id = alloc();
    expect(program.ioas()).toBe(id + 2);
    expect(program.context.objects.counts()).toMatchObject({ 'hw-queue': 1, access: 1 });
  });

  it('takes whole pages around any address', () => {
    const { alloc } = setup();
    expect(alloc({ nestingParentIova: IOVA + 0x1800n, length: 0x1000n })).toBeGreaterThan(0);
  });

  it('needs memory that is contiguous physically', () => {
    const { program, ioasId, err } = setup();
    program.map(ioasId, IOVA + 0x4000n, 0x1000n, 0x9000n);
    expect(err({ nestingParentIova: IOVA + 0x3000n, length: 0x2000n })).toBe('EFAULT');
    expect(err({ nestingParentIova: IOVA + 0x2000n, length: 0x2000n })).toBe('');
  });
});

describe('a HW queue', () => {
  it('keeps its memory mapped', () => {
    const { alloc, destroy, unmap } = setup();
    const id = alloc();
    expect(unmap()).toBe('EBUSY');
    expect(destroy(id)).toBe('');
    expect(unmap()).toBe('');
  });

  it('uses its vIOMMU, and the queue before it', () => {
    const { alloc, err, destroy, viommuId } = setup();
    const first = alloc();
    const second = alloc({ index: 1, nestingParentIova: IOVA + 0x1000n });
    expect(err({ index: 1 })).toBe('EEXIST');
    expect([destroy(viommuId), destroy(first), destroy(second), destroy(first), destroy(viommuId)]).toEqual([
      'EBUSY',
      'EBUSY',
      '',
      '',
      '',
    ]);
  });

  it('ends with its iommufd, and nothing is left', () => {
    const { program, alloc } = setup();
    alloc();
    alloc({ index: 1 });
    program.close();
    expect([program.context.objects.size, program.pinned.pinnedFrames]).toEqual([0, 0]);
    expect(program.mock.resources).toEqual({ devices: 0, domains: 0, viommus: 0 });
  });
});
