import { describe, expect, it } from 'vitest';
import {
  HwptAlloc,
  IOMMU_HWPT_ALLOC,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_UNMAP,
  IoasMapFile,
  IoasUnmap,
} from '../abi/iommufd.ts';
import * as abi from '../abi/iommufd-test.ts';
import { HwptPaging } from './hwpt-paging.ts';
import { MockProgram } from './test-command/testing.ts';

const IOVA = 0x100_0000n;
const FIXED_RW = 7;
const LENGTH = 0x4000n;

async function setup() {
  const program = new MockProgram();
  const ioasId = program.ioas();
  const { hwptId, idevId } = program.device(ioasId);
  const { domain } = program.context.objects.get(hwptId, HwptPaging, 'id');
  const get = async (length: number): Promise<number> => {
    const payload = Object.assign(new abi.TestDmabufGet(new Uint8Array(48)), { length }).bytes;
    const cmd = Object.assign(new abi.TestCmd(), { size: 72, op: abi.IOMMU_TEST_OP_DMABUF_GET, payload });
    program.process.memory.write(program.scratch, cmd.bytes);
    return program.context.ioctl(program.process, abi.IOMMU_TEST_CMD, BigInt(program.scratch));
  };
  const fd = await get(Number(LENGTH));
  const revoke = (revoked: number, dmabufFd = fd) =>
    program.testErr(abi.IOMMU_TEST_OP_DMABUF_REVOKE, 0, abi.TestDmabufRevoke, { dmabufFd, revoked });
  const map = (values: object = {}) =>
    program.err(IOMMU_IOAS_MAP_FILE, IoasMapFile, {
      flags: FIXED_RW,
      ioasId,
      fd,
      start: 0n,
      length: LENGTH,
      iova: IOVA,
      ...values,
    });
  const unmap = () => program.err(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova: IOVA, length: LENGTH });
  return { program, ioasId, idevId, domain, get, fd, revoke, map, unmap };
}

describe('IOAS_MAP_FILE of a dma-buf', () => {
  it('maps a part of it, contiguous in physical memory', async () => {
    const { domain, map } = await setup();
    expect(map({ start: 0x1000n, length: 0x3000n })).toBe('');
    const first = domain.physical(IOVA)!;
    expect([domain.physical(IOVA + 0x2fffn), domain.physical(IOVA + 0x3000n)]).toEqual([first + 0x2fff, null]);
    expect(map({ iova: IOVA + 0x10000n })).toBe('');
    expect(domain.physical(IOVA + 0x11000n)).toBe(first);
  });

  it('checks flags, numbers, access and IOAS as IOAS_MAP does, and then the file', async () => {
    const { program, map } = await setup();
    expect([map({ flags: 8 }), map({ length: 2n ** 64n - 1n }), map({ flags: 1 })]).toEqual([
      'EOPNOTSUPP',
      'EOVERFLOW',
      'EINVAL',
    ]);
    expect([map({ ioasId: 99 }), map({ length: 0n }), map({ start: 2n ** 64n - 1n })]).toEqual([
      'ENOENT',
      'EINVAL',
      'EOVERFLOW',
    ]);
    expect([map({ start: LENGTH }), map({ length: LENGTH + 1n }), map({ fd: 99 })]).toEqual([
      'EINVAL',
      'EINVAL',
      'EBADF',
    ]);
    expect(map({ fd: await program.access(1, 0) })).toBe('EINVAL');
  });

  it('cannot be used by accesses', async () => {
    const { program, ioasId, map } = await setup();
    map();
    const access = await program.access(ioasId, abi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
    const pin = { iova: IOVA, length: 0x1000n };
    expect(program.testErr(abi.IOMMU_TEST_OP_ACCESS_PAGES, access, abi.TestAccessPages, pin)).toBe('EINVAL');
  });
});

describe('a dma-buf that is taken back', () => {
  it('leaves every domain, and is refused while it is away', async () => {
    const { domain, map, revoke } = await setup();
    map();
    expect([revoke(1), domain.physical(IOVA), map({ iova: IOVA + LENGTH })]).toEqual(['', null, 'ENODEV']);
  });

  it('does not come back to those who had mapped it, nor to new domains of their IOAS', async () => {
    const { program, ioasId, idevId: devId, domain, map, revoke, unmap } = await setup();
    map();
    revoke(1);
    revoke(0);
    const { outHwptId } = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, { devId, ptId: ioasId });
    const other = program.context.objects.get(outHwptId, HwptPaging, 'id').domain;
    expect([domain.physical(IOVA), other.physical(IOVA)]).toEqual([null, null]);
    expect([unmap(), map()]).toEqual(['', '']);
    expect([domain.physical(IOVA), other.physical(IOVA)]).not.toContain(null);
  });

  it('leaves nothing when all is closed', async () => {
    const { program, fd, map, revoke } = await setup();
    map();
    revoke(1);
    program.process.closeFd(fd);
    program.close();
    expect([program.pinned.pinnedFrames, program.context.objects.size]).toEqual([0, 0]);
    expect(program.mock.resources.domains).toBe(0);
  });
});

describe('the operations on test dma-bufs', () => {
  it('know sizes up to 2 MiB, rounded up to pages, and dma-bufs only', async () => {
    const { program, get, revoke, map } = await setup();
    await expect(get(0)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(get(2 ** 21 + 1)).rejects.toMatchObject({ code: 'EINVAL' });
    const small = await get(1);
    expect([map({ fd: small, length: 0x1000n }), map({ fd: small, length: 0x2000n })]).toEqual(['', 'EINVAL']);
    expect([revoke(1, 99), revoke(1, await program.access(1, 0))]).toEqual(['EBADF', 'EINVAL']);
  });

  it('give a descriptor that a program can only pass on', async () => {
    const { program, fd } = await setup();
    const file = program.process.fileOf(fd)!;
    const { process } = program;
    expect(() => file.read(process, 0n, 1, null)).toThrow(/EINVAL/);
    expect(() => file.write(process, 0n, 1, null)).toThrow(/EINVAL/);
    expect(() => file.ioctl(process, 0, 0n)).toThrow(/ENOTTY/);
    expect(() => file.mmap(process, 0x1000n, 3, 1, 0n)).toThrow(/EINVAL/);
  });
});
