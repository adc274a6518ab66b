/** IOAS_ALLOC, IOAS_IOVA_RANGES, IOAS_ALLOW_IOVAS. */
import assert from 'node:assert/strict';
import { IoasAlloc, IoasIovaRanges, IovaRange } from '../../../src/abi/iommufd.ts';
import type { Refusal } from '../../../src/client/index.ts';
import { ALL, IOVA, PAGE, READ_WRITE, type Setting, U64_MAX } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const ranges = (...spans: [bigint, bigint][]): Uint8Array => new Uint8Array(BigUint64Array.from(spans.flat()).buffer);

const allow = (t: Setting, ioasId: number, ...spans: [bigint, bigint][]) =>
  t.iommufd.ioasAllowIovas({ ioasId, numIovas: spans.length, allowedIovas: t.put(ranges(...spans)) });

/** What IOAS_IOVA_RANGES tells with room for four. */
async function usable(t: Setting, ioasId: number): Promise<{ spans: [bigint, bigint][]; alignment: bigint }> {
  const room = t.program.allocate(4 * IovaRange.size);
  const answer = await t.iommufd.ioasIovaRanges({ ioasId, numIovas: 4, allowedIovas: room.address });
  const spans = Array.from({ length: answer.numIovas }, (_, n): [bigint, bigint] => {
    const { start, last } = new IovaRange(room.bytes.subarray(n * IovaRange.size));
    return [start, last];
  });
  return { spans, alignment: answer.outIovaAlignment };
}

casesOf('IOMMU_IOAS_ALLOC', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => t.iommufd.ioasAlloc({ flags: 1 }));
  refuses('EFAULT', 'memory where it cannot write the ID, and makes nothing', async (t) => {
    const bad = t.unanswerable(IoasAlloc, {});
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.ioasAlloc({}, bad)), 'EFAULT');
      assert.equal(await t.ioas(), 1);
      await t.iommufd.ioasAlloc({}, bad);
    };
  });
  does('gives the lowest free ID, from 1 on', async (t) => {
    assert.deepEqual([await t.ioas(), await t.ioas(), await t.ioas()], [1, 2, 3]);
    await t.iommufd.destroy({ id: 2 });
    assert.deepEqual([await t.ioas(), await t.ioas()], [2, 4]);
  });
});

casesOf('IOMMU_IOAS_IOVA_RANGES', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a reserved field', async (t) => {
    const ioasId = await t.ioas();
    return () => t.iommufd.ioasIovaRanges({ ioasId, reserved: 1 });
  });
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => t.iommufd.ioasIovaRanges({ ioasId: 7 }));
  refuses('EMSGSIZE', 'too little room, and tells how much is needed', async (t) => {
    const ioasId = await t.ioas();
    return () =>
      t.iommufd.ioasIovaRanges({ ioasId }).catch((refusal: Refusal) => {
        const { numIovas, outIovaAlignment } = new IoasIovaRanges(refusal.answer!.bytes);
        assert.deepEqual([numIovas, outIovaAlignment], [1, 1n]);
        throw refusal;
      });
  });
  refuses('EFAULT', 'an array where there is no memory', async (t) => {
    const ioasId = await t.ioas();
    return () => t.iommufd.ioasIovaRanges({ ioasId, numIovas: 1, allowedIovas: t.nowhere });
  });
  refuses('EFAULT', 'memory where it cannot write how many there are', async (t) => {
    const values = { ioasId: await t.ioas(), numIovas: 1, allowedIovas: t.put(new Uint8Array(16)) };
    return () => t.iommufd.ioasIovaRanges({}, t.unanswerable(IoasIovaRanges, values));
  });
  does('tells of an IOAS without devices that all IOVAs can be used, at any byte', async (t) => {
    assert.deepEqual(await usable(t, await t.ioas()), { spans: [[0n, U64_MAX]], alignment: 1n });
  });
  does('does not tell what is allowed, but what is possible', async (t) => {
    const ioasId = await t.ioas();
    await allow(t, ioasId, [IOVA, IOVA + PAGE]);
    assert.deepEqual((await usable(t, ioasId)).spans, [[0n, U64_MAX]]);
  });
});

casesOf('IOMMU_IOAS_IOVA_RANGES', ['mock'], ({ does }) => {
  does('tells the aperture of the domains, and the largest of their smallest pages', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    assert.deepEqual(await usable(t, ioasId), { spans: [[IOVA, 0x7fff_ffffn]], alignment: 2048n });
  });
  does('tells everything again when the last device is gone', async (t) => {
    const { ioasId, stdevId } = await t.ioasWithDevice();
    await t.iommufd.destroy({ id: stdevId });
    assert.deepEqual(await usable(t, ioasId), { spans: [[0n, U64_MAX]], alignment: 1n });
  });
});

casesOf('IOMMU_IOAS_ALLOW_IOVAS', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a reserved field', async (t) => {
    const ioasId = await t.ioas();
    return () => t.iommufd.ioasAllowIovas({ ioasId, reserved: 1 });
  });
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => t.iommufd.ioasAllowIovas({ ioasId: 7 }));
  refuses('EFAULT', 'an array where there is no memory', async (t) => {
    const ioasId = await t.ioas();
    return () => t.iommufd.ioasAllowIovas({ ioasId, numIovas: 1, allowedIovas: t.nowhere });
  });
  refuses('EINVAL', 'a range whose last is its start', async (t) => {
    const ioasId = await t.ioas();
    return () => allow(t, ioasId, [PAGE, PAGE]);
  });
  refuses('EINVAL', 'a range that ends before it starts', async (t) => {
    const ioasId = await t.ioas();
    return () => allow(t, ioasId, [PAGE, 0n]);
  });
  refuses('EINVAL', 'ranges that overlap', async (t) => {
    const ioasId = await t.ioas();
    return () => allow(t, ioasId, [PAGE, 3n * PAGE], [3n * PAGE, 4n * PAGE]);
  });
  does('keeps what was allowed before when it refuses', async (t) => {
    const ioasId = await t.ioas();
    await allow(t, ioasId, [IOVA, IOVA + PAGE - 1n]);
    assert.equal(await errnoOf(() => allow(t, ioasId, [PAGE, 0n])), 'EINVAL');
    const map = () => t.iommufd.ioasMap({ ioasId, flags: READ_WRITE, length: PAGE, userVa: t.userVa });
    assert.equal((await map()).iova, IOVA);
    assert.equal(await errnoOf(map), 'ENOSPC');
  });
  does('has IOVAs chosen inside of what is allowed, and fixed ones anywhere', async (t) => {
    const ioasId = await t.ioas();
    await allow(t, ioasId, [4n * IOVA, 5n * IOVA - 1n], [IOVA, IOVA + PAGE - 1n]);
    const map = async (flags: number, iova = 0n) =>
      (await t.iommufd.ioasMap({ ioasId, flags, iova, length: PAGE, userVa: t.userVa })).iova;
    assert.deepEqual([await map(READ_WRITE), await map(READ_WRITE)], [IOVA, 4n * IOVA]);
    assert.equal(await map(ALL, 2n * IOVA), 2n * IOVA);
  });
  does('allows everything again with no range', async (t) => {
    const ioasId = await t.ioas();
    await allow(t, ioasId, [4n * IOVA, 5n * IOVA]);
    await allow(t, ioasId);
    const { iova } = await t.iommufd.ioasMap({ ioasId, flags: READ_WRITE, length: PAGE, userVa: t.userVa });
    assert.equal(iova, PAGE);
  });
});

casesOf('IOMMU_IOAS_ALLOW_IOVAS', ['mock'], ({ refuses }) => {
  refuses('EADDRINUSE', 'a range beyond the aperture of a domain', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => allow(t, ioasId, [IOVA - PAGE, IOVA + PAGE]);
  });
});
