/** IOAS_MAP and IOAS_UNMAP. */
import assert from 'node:assert/strict';
import { IoasMap, IoasUnmap } from '../../../src/abi/iommufd.ts';
import type { Values } from '../../../src/client/index.ts';
import { ALL, FIXED, IOVA, PAGE, READ_WRITE, READABLE, type Setting, U64_MAX } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

/** Maps a page at IOVA, but for what `values` say. */
const map = (t: Setting, ioasId: number, values: Values<typeof IoasMap> = {}) =>
  t.iommufd.ioasMap({ ioasId, flags: ALL, userVa: t.userVa, length: PAGE, iova: IOVA, ...values });

const unmap = (t: Setting, ioasId: number, iova: bigint, length: bigint) =>
  t.iommufd.ioasUnmap({ ioasId, iova, length });

casesOf('IOMMU_IOAS_MAP', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { flags: ALL | 8 });
  });
  refuses('EOPNOTSUPP', 'a reserved field', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { reserved: 1 });
  });
  refuses('EOPNOTSUPP', 'a flag that is not known before it looks at numbers', (t) => () => {
    return map(t, 7, { flags: 8, iova: U64_MAX });
  });
  refuses('EOVERFLOW', 'the highest number as an IOVA, before it looks for the IOAS', (t) => () => {
    return map(t, 7, { iova: U64_MAX });
  });
  refuses('EOVERFLOW', 'the highest number as an IOVA that it is to choose itself', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { flags: READ_WRITE, iova: U64_MAX });
  });
  refuses('EOVERFLOW', 'the highest number as a length', (t) => () => map(t, 7, { length: U64_MAX }));
  refuses('EINVAL', 'memory that is neither to be read nor written', (t) => () => map(t, 7, { flags: FIXED }));
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => map(t, 7));
  refuses('EOVERFLOW', 'user memory beyond the last address', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { userVa: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('EOVERFLOW', 'user memory that ends with the last address', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { userVa: U64_MAX - PAGE + 1n, length: PAGE });
  });
  refuses('EINVAL', 'a length of 0', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { length: 0n });
  });
  refuses('EINVAL', 'a length that overflows when rounded up to pages', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { userVa: 0n, iova: 0n, length: U64_MAX - PAGE + 2n });
  });
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { iova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('EEXIST', 'an IOVA that is mapped', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId, { length: 2n * PAGE });
    return () => map(t, ioasId, { iova: IOVA + PAGE });
  });
  refuses('EEXIST', 'a single byte that is mapped', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId);
    return () => map(t, ioasId, { iova: IOVA + PAGE - 1n, length: 1n });
  });
  refuses('EOVERFLOW', 'half of all IOVAs, where it chooses', async (t) => {
    const ioasId = await t.ioas();
    return () => map(t, ioasId, { flags: READ_WRITE, userVa: 0n, length: U64_MAX / 2n });
  });
  refuses('ENOSPC', 'a length for which no free IOVAs are left, where it chooses', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId, { iova: 2n ** 62n });
    await map(t, ioasId, { iova: 2n ** 63n + 2n ** 62n });
    return () => map(t, ioasId, { flags: READ_WRITE, userVa: 0n, length: U64_MAX / 2n - 1n });
  });
  refuses('EFAULT', 'memory where it cannot write the IOVA, though it is mapped then', async (t) => {
    const ioasId = await t.ioas();
    const bad = t.unanswerable(IoasMap, { ioasId, flags: ALL, userVa: t.userVa, length: PAGE, iova: IOVA });
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.ioasMap({}, bad)), 'EFAULT');
      assert.equal((await unmap(t, ioasId, IOVA, PAGE)).length, PAGE);
      await t.iommufd.ioasMap({}, bad);
    };
  });
  does('maps single bytes in an IOAS without devices', async (t) => {
    const ioasId = await t.ioas();
    assert.equal((await map(t, ioasId, { iova: 3n, length: 1n, userVa: t.userVa + 5n })).iova, 3n);
    assert.equal((await unmap(t, ioasId, 3n, 1n)).length, 1n);
  });
  does('maps IOVA 0 and the last page where it is told to, and never chooses IOVA 0', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId, { iova: U64_MAX - PAGE + 1n });
    assert.notEqual((await map(t, ioasId, { flags: READ_WRITE, iova: 0n })).iova, 0n);
    assert.equal((await map(t, ioasId, { iova: 0n })).iova, 0n);
  });
  does('does not look at user memory before there is a device', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId, { userVa: 0n });
    await map(t, ioasId, { iova: IOVA + PAGE, userVa: t.nowhere });
  });
  does('chooses the lowest IOVA with the alignment of the user address', async (t) => {
    const ioasId = await t.ioas();
    const choose = async (length: bigint, userVa: bigint) =>
      (await map(t, ioasId, { flags: READ_WRITE, iova: 0n, length, userVa })).iova;
    assert.equal(await choose(PAGE, 0x20_0000n), PAGE);
    assert.equal(await choose(0x4000n, 0x20_0000n), 0x4000n);
    assert.equal(await choose(0x4000n, 0x20_1000n), 0x8000n);
    assert.equal(await choose(PAGE, 0x20_0000n), 0x2000n);
    assert.equal(await choose(0x40_0000n, 0x40_0000n), 0x20_0000n);
    assert.equal(await choose(0x100n, 0x20_0010n), 0x3010n);
  });
});

casesOf('IOMMU_IOAS_MAP', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'an IOVA that is not aligned to the page of a domain', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { iova: IOVA + 1n });
  });
  refuses('EINVAL', 'a length that is not aligned to the page of a domain', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { length: 2047n });
  });
  refuses('EINVAL', 'user memory that is not aligned to the page of a domain', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { userVa: t.userVa + 1n });
  });
  refuses('EINVAL', 'such user memory also where it chooses the IOVA', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { flags: READ_WRITE, userVa: t.userVa + 1n });
  });
  refuses('EINVAL', 'IOVAs below the aperture of a domain', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { iova: IOVA - PAGE, length: 2n * PAGE });
  });
  refuses('EINVAL', 'IOVAs above the aperture of a domain', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { iova: 0x7fff_f000n, length: 2n * PAGE });
  });
  refuses('EFAULT', 'addresses where the program has no memory', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => map(t, ioasId, { userVa: t.nowhere });
  });
  refuses('EFAULT', 'to have memory written that the program cannot write', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    const { address: userVa } = t.program.readOnly(new Uint8Array(8));
    return () => map(t, ioasId, { userVa });
  });
  does('maps memory that the program cannot write, to be read', async (t) => {
    const { ioasId, hwptId } = await t.ioasWithDevice();
    const { address: userVa } = t.program.readOnly(Uint8Array.of(1));
    await map(t, ioasId, { userVa, flags: FIXED | READABLE });
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: PAGE, uptr: userVa });
  });
  does('has every domain of the IOAS translate to the memory, and pins it', async (t) => {
    const { ioasId, hwptId } = await t.ioasWithDevice();
    const other = await t.device(ioasId);
    await map(t, ioasId, { length: 4n * PAGE });
    for (const id of [hwptId, other.hwptId]) {
      await t.iommufd.test.checkMap(id, { iova: IOVA, length: 4n * PAGE, uptr: t.userVa });
    }
    await t.iommufd.test.checkRefs(0, { length: 4n * PAGE, uptr: t.userVa, refs: 1 });
  });
});

casesOf('IOMMU_IOAS_MAP', ['mock', 'limits'], ({ refuses }) => {
  refuses('ENOMEM', 'to pin more than RLIMIT_MEMLOCK', async (t) => {
    t.program.limit(4);
    const { ioasId } = await t.ioasWithDevice();
    await map(t, ioasId, { length: 4n * PAGE });
    return () => map(t, ioasId, { iova: IOVA + 4n * PAGE });
  });
});

casesOf('IOMMU_IOAS_UNMAP', [], ({ refuses, does }) => {
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => unmap(t, 7, IOVA, PAGE));
  refuses('ENOENT', 'a range in which nothing is mapped', async (t) => {
    const ioasId = await t.ioas();
    return () => unmap(t, ioasId, IOVA, PAGE);
  });
  refuses('EINVAL', 'a length of 0', async (t) => {
    const ioasId = await t.ioas();
    return () => unmap(t, ioasId, IOVA, 0n);
  });
  refuses('EOVERFLOW', 'the highest number as an IOVA', async (t) => {
    const ioasId = await t.ioas();
    return () => unmap(t, ioasId, U64_MAX, PAGE);
  });
  refuses('EOVERFLOW', 'the highest number as a length, but for IOVA 0', async (t) => {
    const ioasId = await t.ioas();
    return () => unmap(t, ioasId, PAGE, U64_MAX);
  });
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    const ioasId = await t.ioas();
    return () => unmap(t, ioasId, U64_MAX - PAGE + 1n, 2n * PAGE);
  });
  for (const [what, offset, length] of [
    ['the first page of an area', 0n, PAGE],
    ['the last page of an area', 2n * PAGE, PAGE],
    ['a page in the middle of an area', PAGE, PAGE],
    ['an area without its last byte', 0n, 3n * PAGE - 1n],
  ] as const) {
    refuses('ENOENT', what, async (t) => {
      const ioasId = await t.ioas();
      await map(t, ioasId, { length: 3n * PAGE });
      return () => unmap(t, ioasId, IOVA + offset, length);
    });
  }
  refuses('ENOENT', 'part of a second area, when the first is gone already', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId);
    await map(t, ioasId, { iova: IOVA + PAGE, length: 2n * PAGE });
    return async () => {
      assert.equal(await errnoOf(() => unmap(t, ioasId, IOVA, 2n * PAGE)), 'ENOENT');
      await unmap(t, ioasId, IOVA + PAGE, 2n * PAGE);
      await unmap(t, ioasId, IOVA, PAGE);
    };
  });
  refuses('EFAULT', 'memory where it cannot write the length, though it is unmapped then', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId);
    const bad = t.unanswerable(IoasUnmap, { ioasId, iova: IOVA, length: PAGE });
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.ioasUnmap({}, bad)), 'EFAULT');
      assert.equal(await errnoOf(() => unmap(t, ioasId, IOVA, PAGE)), 'ENOENT');
      await map(t, ioasId);
      await t.iommufd.ioasUnmap({}, bad);
    };
  });
  does('unmaps every area in a range that is larger, and tells how many bytes', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId);
    await map(t, ioasId, { iova: IOVA + 8n * PAGE, length: 2n * PAGE });
    assert.equal((await unmap(t, ioasId, 0n, 2n * IOVA)).length, 3n * PAGE);
  });
  does('unmaps all with IOVA 0 and the highest number, even when that is nothing', async (t) => {
    const ioasId = await t.ioas();
    assert.equal((await unmap(t, ioasId, 0n, U64_MAX)).length, 0n);
    await map(t, ioasId, { iova: 0n });
    await map(t, ioasId, { iova: U64_MAX - PAGE + 1n });
    assert.equal((await unmap(t, ioasId, 0n, U64_MAX)).length, 2n * PAGE);
  });
});

casesOf('IOMMU_IOAS_UNMAP', ['mock'], ({ refuses, does }) => {
  refuses('EBUSY', 'an area that a HW queue uses', async (t) => {
    const { ioasId, viommuId } = await t.nesting();
    await map(t, ioasId);
    await t.iommufd.hwQueueAlloc({ viommuId, type: 0xdeadbeef, index: 0, nestingParentIova: IOVA, length: PAGE });
    return () => unmap(t, ioasId, IOVA, PAGE);
  });
  does('takes the memory out of every domain, and unpins it', async (t) => {
    const { ioasId, hwptId } = await t.ioasWithDevice();
    await map(t, ioasId);
    await unmap(t, ioasId, IOVA, PAGE);
    const check = () => t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: PAGE, uptr: t.userVa });
    assert.equal(await errnoOf(check), 'EINVAL');
    await t.iommufd.test.checkRefs(0, { length: PAGE, uptr: t.userVa, refs: 0 });
  });
  does('asks accesses for their pins first', async (t) => {
    const ioasId = await t.ioas();
    await map(t, ioasId);
    const { fd } = await t.access(ioasId);
    const { outAccessPagesId } = await t.iommufd.test.accessPages(fd, { iova: IOVA, length: PAGE });
    await unmap(t, ioasId, IOVA, PAGE);
    const drop = () => t.iommufd.test.destroyAccessPages(fd, { accessPagesId: outAccessPagesId });
    assert.equal(await errnoOf(drop), 'ENOENT');
  });
});
