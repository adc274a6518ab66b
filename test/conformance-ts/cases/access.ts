/** Accesses: in-kernel users of an IOAS, as IOMMU_TEST_CMD plays them. */
import assert from 'node:assert/strict';
import { TestCmd } from '../../../src/abi/iommufd-test.ts';
import { type OpenedFile, TEST_OPERATIONS } from '../../../src/client/index.ts';
import { ALL, FIXED, IOVA, PAGE, READABLE, type Setting, U64_MAX, WRITEABLE } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const MOCK: ['mock'] = ['mock'];
const NO_ACCESS = 123_456;
const [PINS, NO_PINS] = [1, 0];
const WRITE = 1;
const SLOW_PATH = 4;
const NTH_AREA = 1 << 16;

/** An access to an IOAS with two pages at IOVA. */
async function accessed(t: Setting, flags = PINS): Promise<{ access: OpenedFile; fd: number; ioasId: number }> {
  const ioasId = await t.ioas();
  await t.map(ioasId, IOVA, 2n * PAGE);
  const access = await t.access(ioasId, flags);
  return { access, fd: access.fd, ioasId };
}

casesOf('IOMMU_TEST_OP_CREATE_ACCESS', MOCK, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', async (t) => {
    const ioasId = await t.ioas();
    return () => t.access(ioasId, 2);
  });
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => t.access(7));
  refuses('EADDRINUSE', 'an IOAS with a mapping that is not aligned to pages, when it is to pin', async (t) => {
    const ioasId = await t.ioas();
    await t.map(ioasId, IOVA, 100n);
    await t.access(ioasId, NO_PINS);
    return () => t.access(ioasId, PINS);
  });
  refuses('EFAULT', 'memory where it cannot write the descriptor, and opens none', async (t) => {
    const ioasId = await t.ioas();
    const { op } = TEST_OPERATIONS.createAccess;
    const bad = t.unanswerable(TestCmd, { op, id: ioasId });
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.call(0x3ba0, TestCmd, {}, bad)), 'EFAULT');
      await t.iommufd.destroy({ id: ioasId });
      await t.ioas();
      await t.iommufd.call(0x3ba0, TestCmd, {}, bad);
    };
  });
  refuses('ENOMEM', 'a program without a descriptor left', async (t) => {
    const ioasId = await t.ioas();
    return () => t.program.withoutDescriptors(() => t.iommufd.test.createAccess(ioasId));
  });
  does('has IOVAs aligned to pages as long as an access pins', async (t) => {
    const ioasId = await t.ioas();
    const access = await t.access(ioasId);
    assert.equal(await errnoOf(() => t.map(ioasId, IOVA, 100n)), 'EINVAL');
    t.end(access);
    await t.map(ioasId, IOVA, 100n);
  });
});

casesOf('IOMMU_TEST_OP_ACCESS_REPLACE_IOAS', MOCK, ({ refuses, does }) => {
  refuses('EBADFD', 'a descriptor that is not open', (t) => () => t.iommufd.test.accessReplaceIoas(NO_ACCESS));
  refuses('EBADFD', 'a descriptor that is no access', (t) => () => t.iommufd.test.accessReplaceIoas(t.iommufd.fd));
  refuses('ENOENT', 'an IOAS that does not exist', async (t) => {
    const { fd } = await accessed(t);
    return () => t.iommufd.test.accessReplaceIoas(fd, { ioasId: 99 });
  });
  refuses('EADDRINUSE', 'an IOAS with a mapping that is not aligned to pages, and stays', async (t) => {
    const { fd } = await accessed(t);
    const ioasId = await t.ioas();
    await t.map(ioasId, IOVA, 100n);
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.test.accessReplaceIoas(fd, { ioasId })), 'EADDRINUSE');
      await t.iommufd.test.accessPages(fd, { iova: IOVA, length: PAGE });
      await t.iommufd.test.accessReplaceIoas(fd, { ioasId });
    };
  });
  does('gives up its pins in the old IOAS', async (t) => {
    const { fd, ioasId } = await accessed(t);
    await t.iommufd.test.accessPages(fd, { iova: IOVA, length: PAGE });
    await t.iommufd.test.accessReplaceIoas(fd, { ioasId: await t.ioas() });
    await t.iommufd.destroy({ id: ioasId });
  });
  does('keeps its pins when it stays where it is', async (t) => {
    const { fd, ioasId } = await accessed(t);
    const { outAccessPagesId } = await t.iommufd.test.accessPages(fd, { iova: IOVA, length: PAGE });
    await t.iommufd.test.accessReplaceIoas(fd, { ioasId });
    await t.iommufd.test.destroyAccessPages(fd, { accessPagesId: outAccessPagesId });
  });
});

casesOf('IOMMU_TEST_OP_ACCESS_PAGES', MOCK, ({ refuses, does }) => {
  const pin = (t: Setting, fd: number, values: object = {}) =>
    t.iommufd.test.accessPages(fd, { iova: IOVA, length: PAGE, ...values });
  refuses('ENOMEM', 'more than 16 MiB', (t) => () => pin(t, NO_ACCESS, { length: 0x100_0001n }));
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => pin(t, NO_ACCESS, { flags: 2 }));
  refuses('EBADFD', 'a descriptor that is not open', (t) => () => pin(t, NO_ACCESS));
  refuses('EOPNOTSUPP', 'an access that does not pin', async (t) => {
    const { fd } = await accessed(t, NO_PINS);
    return () => pin(t, fd);
  });
  refuses('EINVAL', 'a length of 0', async (t) => {
    const { fd } = await accessed(t);
    return () => pin(t, fd, { length: 0n });
  });
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    const { fd } = await accessed(t);
    return () => pin(t, fd, { iova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('ENOENT', 'a range that is not mapped', async (t) => {
    const { fd } = await accessed(t);
    return () => pin(t, fd, { iova: 0n });
  });
  refuses('ENOENT', 'a range with a gap, and unpins what came before', async (t) => {
    const { fd, ioasId } = await accessed(t);
    return async () => {
      assert.equal(await errnoOf(() => pin(t, fd, { length: 3n * PAGE })), 'ENOENT');
      await t.iommufd.test.checkRefs(0, { length: PAGE, uptr: t.userVa, refs: 0 });
      await t.iommufd.ioasUnmap({ ioasId, iova: IOVA, length: 2n * PAGE });
      await pin(t, fd);
    };
  });
  refuses('EINVAL', 'an IOVA that is not the start of a page', async (t) => {
    const { fd } = await accessed(t);
    return () => pin(t, fd, { iova: IOVA + 1n });
  });
  refuses('EPERM', 'to read what is only writeable', async (t) => {
    const { fd, ioasId } = await accessed(t);
    await t.map(ioasId, 2n * IOVA, PAGE, 0n, FIXED | WRITEABLE);
    return () => pin(t, fd, { iova: 2n * IOVA });
  });
  refuses('EPERM', 'to write what is only readable', async (t) => {
    const { fd, ioasId } = await accessed(t);
    await t.map(ioasId, 2n * IOVA, PAGE, 0n, FIXED | READABLE);
    return () => pin(t, fd, { iova: 2n * IOVA, flags: WRITE });
  });
  refuses('EFAULT', 'what is no memory', async (t) => {
    const { fd, ioasId } = await accessed(t);
    await t.iommufd.ioasMap({ ioasId, flags: ALL, iova: 2n * IOVA, length: PAGE, userVa: t.nowhere });
    return () => pin(t, fd, { iova: 2n * IOVA });
  });
  refuses('EINVAL', 'memory of a dma-buf', async (t) => {
    const { fd, ioasId } = await accessed(t);
    const buffer = await t.dmabuf();
    await t.iommufd.ioasMapFile({ ioasId, fd: buffer.fd, flags: ALL, iova: 2n * IOVA, length: PAGE });
    return () => pin(t, fd, { iova: 2n * IOVA });
  });
  refuses('EBADE', 'pages that are not those of the program', async (t) => {
    const { fd } = await accessed(t);
    return () => pin(t, fd, { uptr: t.userVa + PAGE });
  });
  refuses('EFAULT', 'to compare them with what is no memory', async (t) => {
    const { fd } = await accessed(t);
    return () => pin(t, fd, { uptr: t.nowhere });
  });
  refuses('EFAULT', 'memory where it cannot write the ID, and unpins', async (t) => {
    const { fd, ioasId } = await accessed(t);
    const payload = new Uint8Array(48);
    payload.set(new Uint8Array(BigUint64Array.of(0n, IOVA, PAGE).buffer));
    const bad = t.unanswerable(TestCmd, { op: TEST_OPERATIONS.accessPages.op, id: fd, payload });
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.call(0x3ba0, TestCmd, {}, bad)), 'EFAULT');
      await t.iommufd.test.checkRefs(0, { length: PAGE, uptr: t.userVa, refs: 0 });
      await t.iommufd.destroy({ id: ioasId }).catch(() => {});
      await t.iommufd.call(0x3ba0, TestCmd, {}, bad);
    };
  });
  does('pins pages until they are given back', async (t) => {
    const { fd } = await accessed(t);
    const { outAccessPagesId } = await pin(t, fd, { length: 2n * PAGE, uptr: t.userVa, flags: WRITE });
    await t.iommufd.test.checkRefs(0, { length: 2n * PAGE, uptr: t.userVa, refs: 1 });
    await t.iommufd.test.destroyAccessPages(fd, { accessPagesId: outAccessPagesId });
    await t.iommufd.test.checkRefs(0, { length: 2n * PAGE, uptr: t.userVa, refs: 0 });
  });
  does('takes the number of an area in place of an IOVA', async (t) => {
    const { fd } = await accessed(t);
    await pin(t, fd, { iova: (0x1000n << 32n) | 0n, flags: NTH_AREA, uptr: t.userVa + PAGE });
    assert.equal(await errnoOf(() => pin(t, fd, { iova: 5n, flags: NTH_AREA })), 'ENOENT');
  });
});

casesOf('IOMMU_TEST_OP_ACCESS_PAGES', ['mock', 'limits'], ({ refuses }) => {
  refuses('ENOMEM', 'to pin more than RLIMIT_MEMLOCK', async (t) => {
    t.program.limit(1);
    const { fd } = await accessed(t);
    return () => t.iommufd.test.accessPages(fd, { iova: IOVA, length: 2n * PAGE });
  });
});

casesOf('IOMMU_TEST_OP_DESTROY_ACCESS_PAGES', MOCK, ({ refuses }) => {
  refuses('EBADFD', 'a descriptor that is not open', (t) => () => t.iommufd.test.destroyAccessPages(NO_ACCESS));
  refuses('ENOENT', 'pages that are not pinned', async (t) => {
    const { fd } = await accessed(t);
    return () => t.iommufd.test.destroyAccessPages(fd, { accessPagesId: 0 });
  });
});

casesOf('IOMMU_TEST_OP_ACCESS_RW', MOCK, ({ refuses, does }) => {
  const rw = (t: Setting, fd: number, values: object = {}) =>
    t.iommufd.test.accessRw(fd, { iova: IOVA, length: 16n, uptr: t.userVa + 16n * PAGE, ...values });
  refuses('ENOMEM', 'more than 16 MiB', (t) => () => rw(t, NO_ACCESS, { length: 0x100_0001n }));
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => rw(t, NO_ACCESS, { flags: 2 }));
  refuses('EBADFD', 'a descriptor that is no access', (t) => () => rw(t, t.iommufd.fd));
  refuses('EFAULT', 'to write from where there is no memory', async (t) => {
    const { fd } = await accessed(t);
    return () => rw(t, fd, { flags: WRITE, uptr: t.nowhere });
  });
  refuses('EFAULT', 'to read to where there is no memory', async (t) => {
    const { fd } = await accessed(t);
    return () => rw(t, fd, { uptr: t.nowhere });
  });
  refuses('EINVAL', 'a length of 0', async (t) => {
    const { fd } = await accessed(t);
    return () => rw(t, fd, { length: 0n });
  });
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    const { fd } = await accessed(t);
    return () => rw(t, fd, { iova: U64_MAX });
  });
  refuses('ENOENT', 'a range that is not mapped', async (t) => {
    const { fd } = await accessed(t);
    return () => rw(t, fd, { iova: IOVA + 2n * PAGE - 8n });
  });
  refuses('EPERM', 'to read what is only writeable', async (t) => {
    const { fd, ioasId } = await accessed(t);
    await t.map(ioasId, 2n * IOVA, PAGE, 0n, FIXED | WRITEABLE);
    return () => rw(t, fd, { iova: 2n * IOVA });
  });
  refuses('EPERM', 'to write what is only readable', async (t) => {
    const { fd, ioasId } = await accessed(t);
    await t.map(ioasId, 2n * IOVA, PAGE, 0n, FIXED | READABLE);
    return () => rw(t, fd, { iova: 2n * IOVA, flags: WRITE });
  });
  for (const [path, flags] of [
    ['', 0],
    [', by the slow path', SLOW_PATH],
  ] as const) {
    refuses('EFAULT', `what is no memory${path}`, async (t) => {
      const { fd, ioasId } = await accessed(t);
      await t.iommufd.ioasMap({ ioasId, flags: ALL, iova: 2n * IOVA, length: PAGE, userVa: t.nowhere });
      return () => rw(t, fd, { iova: 2n * IOVA, flags });
    });
    does(`copies over the border of pages${path}`, async (t) => {
      const { fd } = await accessed(t, NO_PINS);
      const { bytes } = t.memory;
      bytes.set(new TextEncoder().encode('over the border!'), 16 * 4096);
      await rw(t, fd, { iova: IOVA + PAGE - 8n, flags: flags | WRITE });
      assert.equal(new TextDecoder().decode(bytes.subarray(4096 - 8, 4096 + 8)), 'over the border!');
      bytes.fill(0, 16 * 4096, 16 * 4096 + 16);
      await rw(t, fd, { iova: IOVA + PAGE - 8n, flags });
      assert.equal(new TextDecoder().decode(bytes.subarray(16 * 4096, 16 * 4096 + 16)), 'over the border!');
    });
  }
  refuses('EINVAL', 'memory of a dma-buf', async (t) => {
    const { fd, ioasId } = await accessed(t);
    const buffer = await t.dmabuf();
    await t.iommufd.ioasMapFile({ ioasId, fd: buffer.fd, flags: ALL, iova: 2n * IOVA, length: PAGE });
    return () => rw(t, fd, { iova: 2n * IOVA });
  });
  refuses('EINVAL', 'a part of a file that is beyond its end', async (t) => {
    const { fd, ioasId } = await accessed(t);
    const file = t.memfd();
    const part = { flags: ALL, iova: 2n * IOVA, start: 0x10_0000n, length: PAGE };
    await t.iommufd.ioasMapFile({ ioasId, fd: file.fd, ...part });
    return () => rw(t, fd, { iova: 2n * IOVA });
  });
  does('copies to and from a file', async (t) => {
    const { fd, ioasId } = await accessed(t);
    const file = t.memfd();
    await t.iommufd.ioasMapFile({ ioasId, fd: file.fd, flags: ALL, iova: 2n * IOVA, length: PAGE });
    const at = 16 * 4096;
    t.memory.bytes.set(Uint8Array.of(1, 2, 3, 4), at);
    await rw(t, fd, { iova: 2n * IOVA, length: 4n, flags: WRITE });
    t.memory.bytes.fill(0, at, at + 4);
    await rw(t, fd, { iova: 2n * IOVA, length: 4n });
    assert.deepEqual([...t.memory.bytes.subarray(at, at + 4)], [1, 2, 3, 4]);
  });
});
