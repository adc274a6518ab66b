import { describe, expect, it } from 'vitest';
import {
  Destroy,
  HwptAlloc,
  HwptGetDirtyBitmap,
  HwptSetDirtyTracking,
  IOMMU_DESTROY,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  IOMMU_IOAS_IOVA_RANGES,
  IOMMU_IOAS_UNMAP,
  IOMMU_VDEVICE_ALLOC,
  IOMMU_VEVENTQ_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IoasIovaRanges,
  IoasUnmap,
  VdeviceAlloc,
  VeventqAlloc,
  ViommuAlloc,
} from '../../abi/iommufd.ts';
import * as abi from '../../abi/iommufd-test.ts';
import { Program } from '../testing.ts';
import { MockProgram } from './testing.ts';

const IOVA = 0x100_0000n;
const PINS = abi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES;

function attached(devFlags = 0) {
  const program = new MockProgram();
  const ioasId = program.ioas();
  const device = program.device(ioasId, devFlags);
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, ioasId, ...device, destroy };
}

describe('IOMMU_TEST_CMD', () => {
  it('exists with the mock driver only', () => {
    expect(new Program().err(abi.IOMMU_TEST_CMD, abi.TestCmd, {})).toBe('ENOTTY');
    expect(new MockProgram().err(abi.IOMMU_TEST_CMD, abi.TestCmd, { op: 99 })).toBe('EOPNOTSUPP');
  });

  it('has the operations of its release only', () => {
    const old = new MockProgram('linux-6.12');
    expect(old.testErr(abi.IOMMU_TEST_OP_DEV_CHECK_CACHE, 1, abi.TestCheckDevCache, {})).toBe('EOPNOTSUPP');
    expect(old.testErr(abi.IOMMU_TEST_OP_TRIGGER_IOPF, 1, abi.TestTriggerIopf, {})).toBe('ENOENT');
  });

  it('knows a memory limit, which must hold one item', () => {
    const program = new MockProgram();
    const limit = (value: number) =>
      program.testErr(abi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, 0, abi.TestMemoryLimit, { limit: value });
    expect([limit(11), limit(12)]).toEqual(['EINVAL', '']);
  });
});

describe('ADD_RESERVED', () => {
  it('reserves IOVAs of an IOAS as long as that lives', () => {
    const program = new MockProgram();
    const ioasId = program.ioas();
    const add = (start: bigint, length: bigint, id = ioasId) =>
      program.testErr(abi.IOMMU_TEST_OP_ADD_RESERVED, id, abi.TestAddReserved, { start, length });
    expect([add(0n, 0n), add(2n, 2n ** 64n - 1n), add(0n, 1n, 99)]).toEqual(['EINVAL', 'EOVERFLOW', 'ENOENT']);
    expect(add(0x1000n, 0x1000n)).toBe('');
    const list = { ioasId, numIovas: 8, allowedIovas: BigInt(program.scratch + 0x200) };
    expect(program.ok(IOMMU_IOAS_IOVA_RANGES, IoasIovaRanges, list).numIovas).toBe(2);
    program.map(ioasId, 0x10000n, 0x1000n);
    expect(add(0x10000n, 1n)).toBe('EADDRINUSE');
  });
});

describe('MOCK_DOMAIN', () => {
  it('makes a device, its binding and an automatic domain, and DESTROY ends all three', () => {
    const { program, ioasId, stdevId, idevId, hwptId, destroy } = attached();
    expect([ioasId, stdevId, idevId, hwptId]).toEqual([1, 2, 3, 4]);
    expect(destroy(idevId)).toBe('EBUSY');
    expect(destroy(stdevId)).toBe('');
    expect([destroy(idevId), destroy(hwptId), destroy(ioasId)]).toEqual(['ENOENT', 'ENOENT', '']);
    expect(program.mock.resources).toEqual({ devices: 0, domains: 0, viommus: 0 });
  });

  it('keeps nothing of a refusal', () => {
    const { program, ioasId } = attached();
    const { size } = program.context.objects;
    const make = (id: number, devFlags = 0) =>
      program.testErr(abi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, id, abi.TestMockDomain, { devFlags });
    expect([make(99), make(ioasId, 2), make(3)]).toEqual(['ENOENT', 'EINVAL', 'EINVAL']);
    expect([program.context.objects.size, program.mock.resources.devices]).toEqual([size, 1]);
  });

  it('takes no flags without _FLAGS', () => {
    const { program, ioasId } = attached();
    const values = { devFlags: 2 };
    expect(program.testErr(abi.IOMMU_TEST_OP_MOCK_DOMAIN, ioasId, abi.TestMockDomain, values)).toBe('');
  });

  it('ends with its iommufd', () => {
    const { program, ioasId } = attached();
    program.map(ioasId, IOVA, 0x1000n);
    program.close();
    expect([program.context.objects.size, program.pinned.pinnedFrames]).toEqual([0, 0]);
    expect(program.mock.resources).toEqual({ devices: 0, domains: 0, viommus: 0 });
  });

  it('can be attached to something else', () => {
    const { program, stdevId, hwptId } = attached();
    const other = program.ioas();
    const op = abi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
    const { ptId } = program.test(op, stdevId, abi.TestMockDomainReplace, { ptId: other });
    expect(ptId).not.toBe(hwptId);
    expect(program.testErr(op, stdevId, abi.TestMockDomainReplace, { ptId: hwptId })).toBe('ENOENT');
    expect(program.testErr(op, other, abi.TestMockDomainReplace, { ptId })).toBe('ENOENT');
  });
});

describe('MD_CHECK_MAP and MD_CHECK_REFS', () => {
  it('say whether IOVAs lead to the memory at an address', () => {
    const { program, ioasId, hwptId } = attached();
    program.map(ioasId, IOVA, 0x3000n, 0x1800n);
    const check = (values: object, id = hwptId) =>
      program.testErr(abi.IOMMU_TEST_OP_MD_CHECK_MAP, id, abi.TestCheckMap, {
        iova: IOVA,
        length: 0x3000n,
        uptr: program.base + 0x1800n,
        ...values,
      });
    expect([check({}), check({}, ioasId)]).toEqual(['', 'ENOENT']);
    expect([check({ uptr: program.base + 0x1000n }), check({ length: 0x3800n })]).toEqual(['EINVAL', 'EINVAL']);
    expect([check({ iova: IOVA + 1n }), check({ uptr: 0x1000n })]).toEqual(['EINVAL', 'EFAULT']);
    // What is wrong before the memory ends counts first.
    expect(check({ iova: IOVA + 0x800n, length: 2n ** 40n })).toBe('EINVAL');
  });

  it('count how many pieces of mapped memory pin a page', () => {
    const { program, ioasId } = attached();
    const refs = (count: number, length = 0x2000n, uptr = program.base) =>
      program.testErr(abi.IOMMU_TEST_OP_MD_CHECK_REFS, 0, abi.TestCheckRefs, { length, uptr, refs: count });
    expect([refs(0), refs(1)]).toEqual(['', 'EIO']);
    program.map(ioasId, IOVA, 0x2000n);
    expect([refs(1), refs(1, 0x3000n), refs(0, 0x1000n, program.base + 0x2000n)]).toEqual(['', 'EIO', '']);
    program.map(ioasId, IOVA + 0x4000n, 0x1000n);
    expect([refs(2, 0x1000n), refs(2)]).toEqual(['', 'EIO']);
    expect([refs(0, 0x800n), refs(0, 0x1000n, 0n)]).toEqual(['EINVAL', 'EFAULT']);
  });
});

describe('a test access', () => {
  it('pins memory until it is told to stop, or the memory is unmapped', async () => {
    const { program, ioasId } = attached();
    program.map(ioasId, IOVA, 0x4000n);
    const fd = await program.access(ioasId, PINS);
    const pin = (values: object) =>
      program.test(abi.IOMMU_TEST_OP_ACCESS_PAGES, fd, abi.TestAccessPages, { iova: IOVA, length: 0x2000n, ...values })
        .outAccessPagesId;
    const end = (accessPagesId: number) =>
      program.testErr(abi.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, fd, abi.TestDestroyAccessPages, { accessPagesId });
    expect([pin({}), pin({ uptr: program.base }), pin({ flags: 1 })]).toEqual([0, 1, 2]);
    expect([end(1), end(1)]).toEqual(['', 'ENOENT']);
    program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova: IOVA, length: 0x4000n });
    expect([end(0), end(2), program.pinned.pinnedFrames]).toEqual(['ENOENT', 'ENOENT', 0]);
  });

  it('is named by its descriptor, and checks what it is asked for', async () => {
    const { program, ioasId } = attached();
    program.map(ioasId, IOVA, 0x1000n);
    const [fd, reader] = [await program.access(ioasId, PINS), await program.access(ioasId, 0)];
    const pin = (id: number, values: object = {}) =>
      program.testErr(abi.IOMMU_TEST_OP_ACCESS_PAGES, id, abi.TestAccessPages, {
        iova: IOVA,
        length: 0x1000n,
        ...values,
      });
    expect([pin(99), pin(reader), pin(fd, { flags: 2 })]).toEqual(['EBADFD', 'EOPNOTSUPP', 'EOPNOTSUPP']);
    expect([pin(fd, { length: 2n ** 25n }), pin(fd, { uptr: program.base + 0x1000n })]).toEqual(['ENOMEM', 'EBADE']);
    const create = (id: number, flags: number) =>
      program.okAsync(abi.IOMMU_TEST_CMD, abi.TestCmd, {
        op: abi.IOMMU_TEST_OP_CREATE_ACCESS,
        id,
        payload: new Uint8Array(48).fill(flags, 4, 5),
      } as never);
    await expect(create(ioasId, 2)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(create(99, 0)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('reads and writes memory', async () => {
    const { program, ioasId } = attached();
    program.map(ioasId, IOVA, 0x1000n);
    const fd = await program.access(ioasId, 0);
    const rw = (values: object) =>
      program.testErr(abi.IOMMU_TEST_OP_ACCESS_RW, fd, abi.TestAccessRw, { iova: IOVA + 5n, length: 3n, ...values });
    expect(rw({ flags: abi.MOCK_ACCESS_RW_WRITE, uptr: program.put(Uint8Array.of(7, 8, 9), 0x600) })).toBe('');
    expect([...program.process.memory.bytes.subarray(4, 9)]).toEqual([0, 7, 8, 9, 0]);
    // For fuzzers: area 0, offset 6.
    expect(rw({ flags: abi.MOCK_FLAGS_ACCESS_SYZ, iova: 6n << 32n, uptr: BigInt(program.scratch + 0x700) })).toBe('');
    const read = new Uint8Array(3);
    program.process.memory.read(program.scratch + 0x700, read);
    expect([...read]).toEqual([8, 9, 0]);
    expect([rw({ flags: 2 }), rw({ uptr: 1n }), rw({ iova: 0n, uptr: program.base })]).toEqual([
      'EOPNOTSUPP',
      'EFAULT',
      'ENOENT',
    ]);
  });

  it('moves to another IOAS, and gives everything back when its descriptor closes', async () => {
    const { program, ioasId, destroy } = attached();
    program.map(ioasId, IOVA, 0x1000n);
    const other = program.ioas();
    const fd = await program.access(other, PINS);
    const op = abi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS;
    expect(program.testErr(op, fd, abi.TestAccessReplaceIoas, { ioasId: 99 })).toBe('ENOENT');
    program.test(op, fd, abi.TestAccessReplaceIoas, { ioasId });
    expect(destroy(other)).toBe('');
    program.test(abi.IOMMU_TEST_OP_ACCESS_PAGES, fd, abi.TestAccessPages, { iova: IOVA, length: 0x1000n });
    const file = program.process.fileOf(fd)!;
    expect(() => file.ioctl(program.process, 0, 0n)).toThrow(/ENOTTY/);
    program.process.closeFd(fd);
    program.close();
    expect([program.context.objects.size, program.pinned.pinnedFrames]).toEqual([0, 0]);
  });
});

describe('DIRTY', () => {
  it('writes for a device while writes are tracked', () => {
    const { program, ioasId, idevId } = attached();
    const hwptId = program.hwpt(idevId, ioasId, 2);
    program.map(ioasId, IOVA, 0x4000n);
    const values = { iova: IOVA, length: 0x4000n, pageSize: 0x1000n, uptr: program.put(Uint8Array.of(0b1010), 0x600) };
    const dirty = (more: object) =>
      program.testErr(abi.IOMMU_TEST_OP_DIRTY, hwptId, abi.TestDirty, { ...values, ...more });
    expect(dirty({})).toBe('EINVAL');
    program.ok(IOMMU_HWPT_SET_DIRTY_TRACKING, HwptSetDirtyTracking, { hwptId, flags: 1 });
    expect([dirty({ uptr: 0n }), dirty({ pageSize: 0x3000n }), dirty({ uptr: 8n })]).toEqual([
      'EINVAL',
      'EINVAL',
      'EFAULT',
    ]);
    expect(program.test(abi.IOMMU_TEST_OP_DIRTY, hwptId, abi.TestDirty, values).outNrDirty).toBe(2n);
    expect(HwptGetDirtyBitmap.size).toBe(48);
  });
});

describe('PASID operations', () => {
  it('attach, replace, check and detach', () => {
    const { program, ioasId, idevId, stdevId, destroy } = attached(abi.MOCK_FLAGS_DEVICE_PASID);
    const [a, b] = [program.hwpt(idevId, ioasId, 8), program.hwpt(idevId, ioasId, 8)];
    const { stdevId: other } = program.device(a, abi.MOCK_FLAGS_DEVICE_PASID);
    const op = (number: number, layout: typeof abi.TestPasidAttach, values: object, id = other) =>
      program.testErr(number, id, layout, { pasid: 5, ...values });
    const attach = (ptId: number, id = other) => op(abi.IOMMU_TEST_OP_PASID_ATTACH, abi.TestPasidAttach, { ptId }, id);
    const replace = (ptId: number) => op(abi.IOMMU_TEST_OP_PASID_REPLACE, abi.TestPasidAttach, { ptId });
    const check = (hwptId: number) =>
      program.testErr(abi.IOMMU_TEST_OP_PASID_CHECK_HWPT, other, abi.TestPasidCheck, { pasid: 5, hwptId });
    const detach = () => program.testErr(abi.IOMMU_TEST_OP_PASID_DETACH, other, abi.TestPasidDetach, { pasid: 5 });
    expect([check(0), replace(a), attach(a, stdevId)]).toEqual(['', 'EINVAL', 'EINVAL']);
    expect([attach(a), check(a), check(b), check(0), check(ioasId)]).toEqual(['', '', 'EINVAL', 'EINVAL', 'EINVAL']);
    expect([replace(b), check(b), destroy(b)]).toEqual(['', '', 'EBUSY']);
    expect([detach(), check(0), detach(), destroy(b)]).toEqual(['', '', '', '']);
  });
});

describe('TRIGGER_VEVENT and the checks of caches', () => {
  it('need a vDEVICE, and a queue to put the event in', async () => {
    const { program, ioasId, idevId: devId, stdevId } = attached();
    const trigger = () => program.testErr(abi.IOMMU_TEST_OP_TRIGGER_VEVENT, 0, abi.TestTriggerVevent, { devId });
    expect(trigger()).toBe('ENOENT');
    const hwptId = program.hwpt(devId, ioasId, 1);
    const viommu = { devId, hwptId, type: abi.IOMMU_VIOMMU_TYPE_SELFTEST };
    const { outViommuId: viommuId } = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, viommu);
    program.ok(IOMMU_VDEVICE_ALLOC, VdeviceAlloc, { viommuId, devId, virtId: 0x99n });
    const dataUptr = program.put(new Uint8Array(Uint32Array.of(abi.IOMMU_TEST_IOTLB_DEFAULT, 0).buffer), 0x600);
    const nested = { devId, ptId: viommuId, dataType: abi.IOMMU_HWPT_DATA_SELFTEST, dataLen: 8, dataUptr };
    const { outHwptId: ptId } = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, nested);
    program.test(abi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, stdevId, abi.TestMockDomainReplace, { ptId });
    expect(trigger()).toBe('EOPNOTSUPP');
    const queue = { viommuId, type: abi.IOMMU_VEVENTQ_TYPE_SELFTEST, veventqDepth: 2 };
    const { outVeventqFd: fd } = await program.okAsync(IOMMU_VEVENTQ_ALLOC, VeventqAlloc, queue);
    expect(trigger()).toBe('');
    expect([...(program.read(fd, 64) as Uint8Array)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0x99, 0, 0, 0]);

    const iotlb = (id: number, value: number) =>
      program.testErr(abi.IOMMU_TEST_OP_MD_CHECK_IOTLB, ptId, abi.TestCheckIotlb, { id, iotlb: value });
    expect([iotlb(3, abi.IOMMU_TEST_IOTLB_DEFAULT), iotlb(3, 0), iotlb(4, 0)]).toEqual(['', 'EINVAL', 'EINVAL']);
    const cache = (id: number, value: number) =>
      program.testErr(abi.IOMMU_TEST_OP_DEV_CHECK_CACHE, devId, abi.TestCheckDevCache, { id, cache: value });
    expect([cache(0, abi.IOMMU_TEST_DEV_CACHE_DEFAULT), cache(0, 0), cache(4, 0)]).toEqual(['', 'EINVAL', 'EINVAL']);
  });
});
