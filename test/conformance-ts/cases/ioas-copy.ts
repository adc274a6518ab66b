/** IOAS_COPY. */
import assert from 'node:assert/strict';
import { IoasCopy } from '../../../src/abi/iommufd.ts';
import type { Values } from '../../../src/client/index.ts';
import { ALL, FIXED, IOVA, PAGE, READ_WRITE, READABLE, type Setting, U64_MAX } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

/** Two IOASes, the first with two pages at IOVA. */
async function pair(t: Setting): Promise<{ srcIoasId: number; dstIoasId: number }> {
  const srcIoasId = await t.ioas();
  await t.map(srcIoasId, IOVA, 2n * PAGE);
  return { srcIoasId, dstIoasId: await t.ioas() };
}

const ONE = { flags: ALL, length: PAGE, srcIova: IOVA, dstIova: IOVA };

const copy = (t: Setting, values: Values<typeof IoasCopy>) => t.iommufd.ioasCopy({ ...ONE, ...values });

casesOf('IOMMU_IOAS_COPY', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => copy(t, { flags: ALL | 8 }));
  refuses('EOVERFLOW', 'the highest number as a length', (t) => () => copy(t, { length: U64_MAX }));
  refuses('EOVERFLOW', 'the highest number as a source', (t) => () => copy(t, { srcIova: U64_MAX }));
  refuses('EOVERFLOW', 'the highest number as a destination', (t) => () => copy(t, { dstIova: U64_MAX }));
  refuses('EINVAL', 'memory that is neither to be read nor written', (t) => () => copy(t, { flags: FIXED }));
  refuses('ENOENT', 'a source that does not exist', async (t) => {
    const { dstIoasId } = await pair(t);
    return () => copy(t, { srcIoasId: 7, dstIoasId });
  });
  refuses('EINVAL', 'a length of 0', async (t) => {
    const ids = await pair(t);
    return () => copy(t, { ...ids, length: 0n });
  });
  refuses('EOVERFLOW', 'source IOVAs beyond the last one', async (t) => {
    const ids = await pair(t);
    return () => copy(t, { ...ids, srcIova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('ENOENT', 'a source that is not mapped', async (t) => {
    const ids = await pair(t);
    return () => copy(t, { ...ids, srcIova: IOVA + 2n * PAGE });
  });
  refuses('ENOENT', 'a source with a gap', async (t) => {
    const ids = await pair(t);
    await t.map(ids.srcIoasId, IOVA + 3n * PAGE);
    return () => copy(t, { ...ids, length: 4n * PAGE });
  });
  refuses('ENOENT', 'a destination that does not exist', async (t) => {
    const { srcIoasId } = await pair(t);
    return () => copy(t, { srcIoasId, dstIoasId: 7 });
  });
  refuses('ENOENT', 'a gap before it looks for the destination', async (t) => {
    const { srcIoasId } = await pair(t);
    return () => copy(t, { srcIoasId, dstIoasId: 7, length: 4n * PAGE });
  });
  refuses('EEXIST', 'a destination that is mapped', async (t) => {
    const ids = await pair(t);
    await t.map(ids.dstIoasId);
    return () => copy(t, ids);
  });
  refuses('EOVERFLOW', 'destination IOVAs beyond the last one', async (t) => {
    const ids = await pair(t);
    return () => copy(t, { ...ids, dstIova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('EPERM', 'to have memory written that was mapped without WRITEABLE', async (t) => {
    const srcIoasId = await t.ioas();
    await t.map(srcIoasId, IOVA, PAGE, 0n, FIXED | READABLE);
    return () => copy(t, { srcIoasId, dstIoasId: srcIoasId, dstIova: 2n * IOVA });
  });
  refuses('EFAULT', 'memory where it cannot write the IOVA', async (t) => {
    const ids = await pair(t);
    return () => t.iommufd.ioasCopy({}, t.unanswerable(IoasCopy, { ...ONE, ...ids }));
  });
  does('copies from several areas, and parts of them, into one range', async (t) => {
    const ids = await pair(t);
    await t.map(ids.srcIoasId, IOVA + 2n * PAGE, 2n * PAGE, 8n * PAGE);
    const { dstIova } = await copy(t, { ...ids, srcIova: IOVA + PAGE, length: 2n * PAGE, flags: READ_WRITE });
    assert.equal(dstIova % PAGE, 0n);
    assert.equal((await t.iommufd.ioasUnmap({ ioasId: ids.dstIoasId, iova: dstIova, length: PAGE })).length, PAGE);
  });
  does('copies within one IOAS', async (t) => {
    const { srcIoasId } = await pair(t);
    await copy(t, { srcIoasId, dstIoasId: srcIoasId, dstIova: 2n * IOVA });
  });
});

casesOf('IOMMU_IOAS_COPY', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'a destination outside of the aperture of a domain', async (t) => {
    const { ioasId: dstIoasId } = await t.ioasWithDevice();
    const { srcIoasId } = await pair(t);
    return () => copy(t, { srcIoasId, dstIoasId, dstIova: 0n });
  });
  refuses('EINVAL', 'a source that is not aligned to the page of a domain', async (t) => {
    const { ioasId: dstIoasId } = await t.ioasWithDevice();
    const { srcIoasId } = await pair(t);
    return () => copy(t, { srcIoasId, dstIoasId, srcIova: IOVA + 1n });
  });
  refuses('EFAULT', 'what is no memory, once a device is to use it', async (t) => {
    const { ioasId: dstIoasId } = await t.ioasWithDevice();
    const srcIoasId = await t.ioas();
    await t.iommufd.ioasMap({ ioasId: srcIoasId, flags: ALL, iova: IOVA, length: PAGE, userVa: t.nowhere });
    return () => copy(t, { srcIoasId, dstIoasId });
  });
  does('shares the pages: what both map is pinned once', async (t) => {
    const { ioasId: srcIoasId } = await t.ioasWithDevice();
    const { ioasId: dstIoasId, hwptId } = await t.ioasWithDevice();
    await t.map(srcIoasId);
    await copy(t, { srcIoasId, dstIoasId });
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: PAGE, uptr: t.userVa });
    await t.iommufd.test.checkRefs(0, { length: PAGE, uptr: t.userVa, refs: 1 });
    await t.iommufd.ioasUnmap({ ioasId: srcIoasId, iova: IOVA, length: PAGE });
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: PAGE, uptr: t.userVa });
  });
  does("takes the number of an area in place of an IOVA with the test driver's flag", async (t) => {
    const ids = await pair(t);
    await t.map(ids.srcIoasId, 4n * IOVA);
    await copy(t, { ...ids, flags: ALL | (1 << 16), srcIova: 1n });
    assert.equal(await errnoOf(() => copy(t, { ...ids, flags: ALL | (1 << 16), srcIova: 2n })), 'ENOENT');
  });
});
