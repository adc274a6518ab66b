/** HWPT_ALLOC, HWPT_SET_DIRTY_TRACKING, HWPT_GET_DIRTY_BITMAP and HWPT_INVALIDATE on the mock driver. */
import assert from 'node:assert/strict';
import { HwptAlloc, type HwptGetDirtyBitmap, HwptInvalidate } from '../../../src/abi/iommufd.ts';
import {
  HwptInvalidateSelftest,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
  IOMMU_TEST_DEV_CACHE_DEFAULT,
  IOMMU_TEST_IOTLB_DEFAULT,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  ViommuInvalidateSelftest,
} from '../../../src/abi/iommufd-test.ts';
import type { Refusal, Values } from '../../../src/client/index.ts';
import {
  ALL,
  ALLOC_PASID,
  DIRTY_TRACKING,
  FAULT_ID_VALID,
  IOVA,
  NEST_PARENT,
  PAGE,
  type Setting,
  U64_MAX,
} from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const alloc = (t: Setting, values: Values<typeof HwptAlloc>) => t.iommufd.hwptAlloc(values);

/** What a paging HWPT is allocated with. */
async function paging(t: Setting, devFlags = 0): Promise<{ devId: number; ptId: number }> {
  const { ioasId, idevId } = await t.ioasWithDevice(devFlags);
  return { devId: idevId, ptId: ioasId };
}

/** What a nested HWPT is allocated with, on a nesting parent. */
async function nested(t: Setting) {
  const { devId, ptId } = await paging(t);
  return { devId, ptId: await t.hwpt(devId, ptId, NEST_PARENT), ...t.nestedData() };
}

async function nestedOnViommu(t: Setting) {
  const nesting = await t.nesting();
  return { devId: nesting.idevId, ptId: nesting.viommuId, ...t.nestedData() };
}

casesOf('IOMMU_HWPT_ALLOC', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => alloc(t, { reserved: 1 }));
  refuses('EINVAL', 'data without a type', (t) => () => alloc(t, { dataLen: 8 }));
  refuses('EINVAL', 'a type without data', (t) => () => alloc(t, { dataType: 1 }));
  refuses('ENOENT', 'a device that does not exist', async (t) => {
    const ptId = await t.ioas();
    return () => alloc(t, { devId: 7, ptId });
  });
  refuses('ENOENT', 'an IOAS in place of the device', async (t) => {
    const ptId = await t.ioas();
    return () => alloc(t, { devId: ptId, ptId });
  });
});

casesOf('IOMMU_HWPT_ALLOC', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'a pt_id that does not exist', async (t) => {
    const { devId } = await paging(t);
    return () => alloc(t, { devId, ptId: 99 });
  });
  refuses('EINVAL', 'a pt_id that is a device', async (t) => {
    const { devId } = await paging(t);
    return () => alloc(t, { devId, ptId: devId });
  });
  refuses('EOPNOTSUPP', 'a flag that is not known', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, flags: 16 });
  });
  refuses('EOPNOTSUPP', 'a nesting parent with a fault queue', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, flags: NEST_PARENT | FAULT_ID_VALID });
  });
  refuses('EOPNOTSUPP', 'dirty tracking for a device that has none', async (t) => {
    const ids = await paging(t, MOCK_FLAGS_DEVICE_NO_DIRTY);
    return () => alloc(t, { ...ids, flags: DIRTY_TRACKING });
  });
  refuses('EOPNOTSUPP', 'data of another driver for a paging HWPT', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, ...t.nestedData(), dataType: 1 });
  });
  refuses('EINVAL', 'data for a paging HWPT that is too short', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, ...t.nestedData(), dataLen: 3 });
  });
  refuses('EINVAL', 'data for a paging HWPT that is too long, even with zeros', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, ...t.nestedData(), dataLen: 16 });
  });
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, ...t.nestedData(), dataUptr: t.nowhere });
  });
  refuses('EOPNOTSUPP', 'a page table type that is not known', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, ...t.nestedData({ pagetableType: 2 }) });
  });
  refuses('ENOENT', 'a fault queue that does not exist', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, flags: FAULT_ID_VALID, faultId: 99 });
  });
  refuses('ENOENT', 'an IOAS in place of the fault queue', async (t) => {
    const ids = await paging(t);
    return () => alloc(t, { ...ids, flags: FAULT_ID_VALID, faultId: ids.ptId });
  });
  refuses('EADDRINUSE', 'an IOAS that maps what the domain cannot', async (t) => {
    const { devId } = await paging(t);
    const ptId = await t.ioas();
    await t.map(ptId, 0n);
    return () => alloc(t, { devId, ptId });
  });
  refuses('EADDRINUSE', 'an IOAS with a mapping that is not aligned to the pages of the domain', async (t) => {
    const { devId } = await paging(t);
    const ptId = await t.ioas();
    await t.map(ptId, IOVA, 100n);
    return () => alloc(t, { devId, ptId });
  });
  refuses('EADDRINUSE', 'an IOAS that allows what the domain cannot translate', async (t) => {
    const { devId } = await paging(t);
    const ptId = await t.ioas();
    const allowedIovas = t.put(new Uint8Array(BigUint64Array.of(0n, PAGE).buffer));
    await t.iommufd.ioasAllowIovas({ ioasId: ptId, numIovas: 1, allowedIovas });
    return () => alloc(t, { devId, ptId });
  });
  refuses('EFAULT', 'an IOAS that maps what is no memory', async (t) => {
    const { devId } = await paging(t);
    const ptId = await t.ioas();
    await t.iommufd.ioasMap({ ioasId: ptId, flags: ALL, iova: IOVA, length: PAGE, userVa: t.nowhere });
    return () => alloc(t, { devId, ptId });
  });
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    const ids = await paging(t);
    return () => alloc2(t, ids);
  });
  does('gives a HWPT that translates what the IOAS maps and will map', async (t) => {
    const { devId, ptId } = await paging(t);
    await t.map(ptId);
    const hwptId = await t.hwpt(devId, ptId);
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: PAGE, uptr: t.userVa });
    await t.map(ptId, IOVA + PAGE, PAGE, PAGE);
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: 2n * PAGE, uptr: t.userVa });
  });
  does('takes every flag that goes with a paging HWPT, and a page table type', async (t) => {
    const ids = await paging(t);
    for (const flags of [NEST_PARENT, DIRTY_TRACKING, ALLOC_PASID, NEST_PARENT | DIRTY_TRACKING | ALLOC_PASID]) {
      await alloc(t, { ...ids, flags });
    }
    await alloc(t, { ...ids, ...t.nestedData({ pagetableType: 1 }) });
  });

  for (const [base, make] of [
    ['a nesting parent', nested],
    ['a vIOMMU', nestedOnViommu],
  ] as const) {
    refuses('EOPNOTSUPP', `on ${base} a flag that goes with paging HWPTs only`, async (t) => {
      const values = await make(t);
      return () => alloc(t, { ...values, flags: NEST_PARENT });
    });
    refuses('EOPNOTSUPP', `on ${base} to do without data`, async (t) => {
      const { devId, ptId } = await make(t);
      return () => alloc(t, { devId, ptId });
    });
    refuses('EOPNOTSUPP', `on ${base} data of another driver`, async (t) => {
      const values = await make(t);
      return () => alloc(t, { ...values, dataType: 2 });
    });
    refuses('EINVAL', `on ${base} data that are too short`, async (t) => {
      const values = await make(t);
      return () => alloc(t, { ...values, dataLen: 3 });
    });
    refuses('EFAULT', `on ${base} data where there is no memory`, async (t) => {
      const values = await make(t);
      return () => alloc(t, { ...values, dataUptr: t.nowhere });
    });
    refuses('ENOENT', `on ${base} a fault queue that does not exist`, async (t) => {
      const values = await make(t);
      return () => alloc(t, { ...values, flags: FAULT_ID_VALID, faultId: 99 });
    });
    does(`on ${base} takes data of the first release, PASIDs and a fault queue`, async (t) => {
      const values = await make(t);
      await alloc(t, { ...values, dataLen: 4, flags: ALLOC_PASID });
      const { id: faultId } = await t.faultQueue();
      await alloc(t, { ...values, flags: FAULT_ID_VALID, faultId });
    });
  }
  refuses('EINVAL', 'a nested HWPT on one that is no nesting parent', async (t) => {
    const { devId, ptId } = await paging(t);
    const parent = await t.hwpt(devId, ptId);
    return () => alloc(t, { devId, ptId: parent, ...t.nestedData() });
  });
  refuses('EINVAL', 'a nested HWPT on an automatic one', async (t) => {
    const { idevId, hwptId } = await t.ioasWithDevice();
    return () => alloc(t, { devId: idevId, ptId: hwptId, ...t.nestedData() });
  });
  refuses('EINVAL', 'a nested HWPT on a nested one', async (t) => {
    const values = await nested(t);
    const { outHwptId: ptId } = await alloc(t, values);
    return () => alloc(t, { ...values, ptId });
  });
});

const alloc2 = (t: Setting, ids: { devId: number; ptId: number }) =>
  t.iommufd.hwptAlloc({}, t.unanswerable(HwptAlloc, ids));

casesOf('IOMMU_HWPT_ALLOC', ['mock', 'limits'], ({ refuses }) => {
  refuses('ENOMEM', 'to pin more than RLIMIT_MEMLOCK', async (t) => {
    t.program.limit(1);
    const { devId } = await paging(t);
    const ptId = await t.ioas();
    await t.map(ptId, IOVA, 2n * PAGE);
    return () => alloc(t, { devId, ptId });
  });
});

// Dirty tracking

const HUGE_PAGES = 1;
const SET = 0;

/** Page by page: where a domain has one leaf for pages that are contiguous by chance, one write makes all of them dirty. */
async function tracking(t: Setting): Promise<{ hwptId: number; ioasId: number }> {
  const { devId, ptId } = await paging(t);
  await t.iommufd.option({ optionId: HUGE_PAGES, op: SET, objectId: ptId, val64: 0n });
  return { hwptId: await t.hwpt(devId, ptId, DIRTY_TRACKING), ioasId: ptId };
}

casesOf('IOMMU_HWPT_SET_DIRTY_TRACKING', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => t.iommufd.hwptSetDirtyTracking({ flags: 2 }));
  refuses('ENOENT', 'a HWPT that does not exist', (t) => () => t.iommufd.hwptSetDirtyTracking({ hwptId: 7 }));
  refuses('ENOENT', 'an IOAS', async (t) => {
    const hwptId = await t.ioas();
    return () => t.iommufd.hwptSetDirtyTracking({ hwptId });
  });
});

casesOf('IOMMU_HWPT_SET_DIRTY_TRACKING', ['mock'], ({ refuses, does }) => {
  for (const flags of [0, 1]) {
    refuses('EOPNOTSUPP', `a HWPT allocated without, to switch it ${flags ? 'on' : 'off'}`, async (t) => {
      const { hwptId } = await t.ioasWithDevice();
      return () => t.iommufd.hwptSetDirtyTracking({ hwptId, flags });
    });
  }
  refuses('ENOENT', 'a nested HWPT', async (t) => {
    const { outHwptId: hwptId } = await alloc(t, await nested(t));
    return () => t.iommufd.hwptSetDirtyTracking({ hwptId });
  });
  does('switches on and off, and does not look at its reserved field', async (t) => {
    const { hwptId } = await tracking(t);
    for (const flags of [1, 1, 0, 0]) await t.iommufd.hwptSetDirtyTracking({ hwptId, flags, reserved: 1 });
  });
  does('forgets what was written before it is switched on', async (t) => {
    const { hwptId, ioasId } = await tracking(t);
    await t.map(ioasId);
    await t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
    await write(t, hwptId, IOVA, 0b1);
    await t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
    assert.equal(await bitmap(t, hwptId, IOVA, PAGE), 0);
  });
});

/** As if a device wrote: a bit for each page from `iova`. */
const write = (t: Setting, id: number, iova: bigint, bits: number) =>
  t.iommufd.test.dirty(id, { iova, length: 8n * PAGE, pageSize: PAGE, uptr: t.put(Uint8Array.of(bits)) });

async function bitmap(t: Setting, hwptId: number, iova: bigint, length: bigint, flags = 0): Promise<number> {
  const data = t.program.allocate(8);
  await t.iommufd.hwptGetDirtyBitmap({ hwptId, flags, iova, length, pageSize: PAGE, data: data.address });
  return data.bytes[0]!;
}

const get = (t: Setting, values: Values<typeof HwptGetDirtyBitmap>) =>
  t.iommufd.hwptGetDirtyBitmap({ iova: IOVA, length: PAGE, pageSize: PAGE, ...values });

casesOf('IOMMU_HWPT_GET_DIRTY_BITMAP', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => get(t, { flags: 2 }));
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => get(t, { reserved: 1 }));
  refuses('ENOENT', 'a HWPT that does not exist', (t) => () => get(t, { hwptId: 7 }));
});

casesOf('IOMMU_HWPT_GET_DIRTY_BITMAP', ['mock'], ({ refuses, does }) => {
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    const { hwptId } = await tracking(t);
    return () => get(t, { hwptId, iova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('EINVAL', 'an IOVA that is not aligned to the IOAS', async (t) => {
    const { hwptId } = await tracking(t);
    return () => get(t, { hwptId, iova: IOVA + 1024n, pageSize: 1024n });
  });
  refuses('EINVAL', 'an end that is not aligned to the IOAS', async (t) => {
    const { hwptId } = await tracking(t);
    return () => get(t, { hwptId, length: 1024n, pageSize: 1024n });
  });
  refuses('EINVAL', 'pages of 0 bytes', async (t) => {
    const { hwptId } = await tracking(t);
    return () => get(t, { hwptId, pageSize: 0n });
  });
  refuses('EINVAL', 'an IOVA that is not aligned to the pages of the bitmap', async (t) => {
    const { hwptId } = await tracking(t);
    return () => get(t, { hwptId, iova: IOVA + PAGE, length: 3n * PAGE, pageSize: 2n * PAGE });
  });
  refuses('EINVAL', 'an end that is not aligned to the pages of the bitmap', async (t) => {
    const { hwptId } = await tracking(t);
    return () => get(t, { hwptId, length: 3n * PAGE, pageSize: 2n * PAGE });
  });
  refuses('EINVAL', 'bad ranges before it looks whether writes are tracked', async (t) => {
    const { hwptId } = await t.ioasWithDevice();
    return () => get(t, { hwptId, pageSize: 0n });
  });
  refuses('EOPNOTSUPP', 'a HWPT allocated without', async (t) => {
    const { hwptId } = await t.ioasWithDevice();
    return () => get(t, { hwptId });
  });
  does('tells what was written, once', async (t) => {
    const { hwptId, ioasId } = await tracking(t);
    await t.map(ioasId, IOVA, 8n * PAGE);
    await t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
    await write(t, hwptId, IOVA, 0b1010_0101);
    assert.equal(await bitmap(t, hwptId, IOVA, 8n * PAGE), 0b1010_0101);
    assert.equal(await bitmap(t, hwptId, IOVA, 8n * PAGE), 0);
  });
  does('leaves it as it is with NO_CLEAR', async (t) => {
    const { hwptId, ioasId } = await tracking(t);
    await t.map(ioasId, IOVA, 8n * PAGE);
    await t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
    await write(t, hwptId, IOVA, 0b110);
    assert.equal(await bitmap(t, hwptId, IOVA, 8n * PAGE, 1), 0b110);
    assert.equal(await bitmap(t, hwptId, IOVA, 8n * PAGE), 0b110);
  });
  does('says nothing of what is not mapped', async (t) => {
    const { hwptId } = await tracking(t);
    await t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
    assert.equal(await bitmap(t, hwptId, IOVA, 8n * PAGE), 0);
  });
});

// Invalidation

const invalidate = (t: Setting, hwptId: number, entries: Uint8Array[], values: Values<typeof HwptInvalidate> = {}) => {
  const bytes = new Uint8Array(entries.flatMap((entry) => [...entry]));
  return t.iommufd.hwptInvalidate({
    hwptId,
    dataType: IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
    dataUptr: t.put(bytes),
    entryLen: entries[0]?.length ?? 0,
    entryNum: entries.length,
    ...values,
  });
};

const iotlb = (iotlbId: number, flags = 0): Uint8Array =>
  Object.assign(new HwptInvalidateSelftest(), { iotlbId, flags }).bytes;
const cache = (cacheId: number, vdevId = 1, flags = 0): Uint8Array =>
  Object.assign(new ViommuInvalidateSelftest(), { cacheId, vdevId, flags }).bytes;

async function nestedHwpt(t: Setting): Promise<number> {
  return (await alloc(t, await nested(t))).outHwptId;
}

async function viommuWithDevice(t: Setting): Promise<{ viommuId: number; idevId: number }> {
  const nesting = await t.nesting();
  await t.vdevice(nesting, 1n);
  return nesting;
}

/** `call` must be refused after `done` entries. */
const afterDoing = (done: number, call: Promise<unknown>) =>
  call.catch((refusal: Refusal) => {
    assert.equal(new HwptInvalidate(refusal.answer!.bytes).entryNum, done);
    throw refusal;
  });

casesOf('IOMMU_HWPT_INVALIDATE', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => t.iommufd.hwptInvalidate({ reserved: 1 }));
  refuses('EINVAL', 'entries at a null pointer', (t) => () => t.iommufd.hwptInvalidate({ entryNum: 1, entryLen: 8 }));
  refuses('EINVAL', 'entries of 0 bytes', (t) => () => t.iommufd.hwptInvalidate({ entryNum: 1, dataUptr: t.userVa }));
  refuses('ENOENT', 'an object that does not exist', (t) => () => invalidate(t, 7, []));
  refuses('EINVAL', 'an IOAS', async (t) => {
    const id = await t.ioas();
    return () => invalidate(t, id, []);
  });
  refuses('EFAULT', 'memory where it cannot write how many were done, whatever else is wrong', (t) => () => {
    return t.iommufd.hwptInvalidate({}, t.unanswerable(HwptInvalidate, { reserved: 1 }));
  });
});

casesOf('IOMMU_HWPT_INVALIDATE', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'a paging HWPT', async (t) => {
    const { hwptId } = await t.ioasWithDevice();
    return () => invalidate(t, hwptId, []);
  });
  refuses('EINVAL', 'data of another driver, even none of them', async (t) => {
    const id = await nestedHwpt(t);
    return () => invalidate(t, id, [], { dataType: 0 });
  });
  refuses('EINVAL', 'entries that are too short', async (t) => {
    const id = await nestedHwpt(t);
    return () => afterDoing(0, invalidate(t, id, [iotlb(0)], { entryLen: 4 }));
  });
  refuses('EINVAL', 'entries that are too long', async (t) => {
    const id = await nestedHwpt(t);
    return () => invalidate(t, id, [iotlb(0)], { entryLen: 12 });
  });
  refuses('EFAULT', 'entries where there is no memory', async (t) => {
    const id = await nestedHwpt(t);
    return () => invalidate(t, id, [iotlb(0)], { dataUptr: t.nowhere });
  });
  refuses('EOPNOTSUPP', 'an entry with a flag that is not known, and tells how many were done before', async (t) => {
    const id = await nestedHwpt(t);
    return () => afterDoing(2, invalidate(t, id, [iotlb(0), iotlb(1), iotlb(2, 2)]));
  });
  refuses('EINVAL', 'an entry beyond the IOTLB, having done those before it', async (t) => {
    const id = await nestedHwpt(t);
    return async () => {
      await afterDoing(1, invalidate(t, id, [iotlb(3), iotlb(4)])).catch(() => {});
      await t.iommufd.test.checkIotlb(id, { id: 3, iotlb: 0 });
      await invalidate(t, id, [iotlb(4)]);
    };
  });
  does('invalidates entries of an IOTLB, or all of them', async (t) => {
    const id = await nestedHwpt(t);
    assert.equal((await invalidate(t, id, [iotlb(0), iotlb(2)])).entryNum, 2);
    for (const entry of [0, 1, 2, 3]) {
      await t.iommufd.test.checkIotlb(id, { id: entry, iotlb: entry % 2 ? IOMMU_TEST_IOTLB_DEFAULT : 0 });
    }
    await invalidate(t, id, [iotlb(0, 1)]);
    for (const entry of [0, 1, 2, 3]) await t.iommufd.test.checkIotlb(id, { id: entry, iotlb: 0 });
  });
  does('takes no entries, to ask whether a type is known', async (t) => {
    assert.equal((await invalidate(t, await nestedHwpt(t), [])).entryNum, 0);
    const { viommuId } = await viommuWithDevice(t);
    assert.equal((await invalidate(t, viommuId, [])).entryNum, 0);
  });

  const dataType = IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST;
  refuses('EINVAL', 'on a vIOMMU, data of another driver, even none of them', async (t) => {
    const { viommuId } = await viommuWithDevice(t);
    return () => invalidate(t, viommuId, [], { dataType: 0 });
  });
  refuses('EFAULT', 'on a vIOMMU, entries where there is no memory', async (t) => {
    const { viommuId } = await viommuWithDevice(t);
    return () => invalidate(t, viommuId, [cache(0)], { dataUptr: t.nowhere });
  });
  refuses('ENOMEM', 'on a vIOMMU, more entries than it could copy', async (t) => {
    const { viommuId } = await viommuWithDevice(t);
    return () => invalidate(t, viommuId, [cache(0)], { entryNum: 2 ** 20 });
  });
  refuses('E2BIG', 'on a vIOMMU, longer entries with a byte in the tail that is not 0, all of them', async (t) => {
    const { viommuId, idevId } = await viommuWithDevice(t);
    const tail = Uint8Array.of(...cache(0), 1, 0, 0, 0);
    return async () => {
      await t.iommufd.test.checkDevCache(idevId, { id: 0, cache: IOMMU_TEST_DEV_CACHE_DEFAULT });
      await afterDoing(0, invalidate(t, viommuId, [Uint8Array.of(...cache(0), 0, 0, 0, 0), tail], { dataType }));
    };
  });
  refuses('EOPNOTSUPP', 'on a vIOMMU, a flag that is not known, before it looks for the cache entry', async (t) => {
    const { viommuId } = await viommuWithDevice(t);
    return () => afterDoing(1, invalidate(t, viommuId, [cache(0), cache(9, 9, 2)]));
  });
  refuses('EINVAL', 'on a vIOMMU, an entry beyond the cache', async (t) => {
    const { viommuId } = await viommuWithDevice(t);
    return () => afterDoing(0, invalidate(t, viommuId, [cache(4)]));
  });
  refuses('EINVAL', 'on a vIOMMU, a device that it does not know', async (t) => {
    const { viommuId } = await viommuWithDevice(t);
    return () => afterDoing(0, invalidate(t, viommuId, [cache(0, 2)]));
  });
  does('invalidates entries of the cache of a device by its virtual ID', async (t) => {
    const { viommuId, idevId } = await viommuWithDevice(t);
    await invalidate(t, viommuId, [cache(1)]);
    await t.iommufd.test.checkDevCache(idevId, { id: 0, cache: IOMMU_TEST_DEV_CACHE_DEFAULT });
    await t.iommufd.test.checkDevCache(idevId, { id: 1, cache: 0 });
    await invalidate(t, viommuId, [cache(0, 1, 1)]);
    for (const id of [0, 1, 2, 3]) await t.iommufd.test.checkDevCache(idevId, { id, cache: 0 });
  });
  does('extends shorter entries for a vIOMMU by zeros', async (t) => {
    const { viommuId, idevId } = await viommuWithDevice(t);
    await invalidate(t, viommuId, [cache(0).slice(0, 8)]);
    await t.iommufd.test.checkDevCache(idevId, { id: 0, cache: 0 });
  });
  does('does not know a device any more when its vDEVICE is destroyed', async (t) => {
    const nesting = await t.nesting();
    await t.iommufd.destroy({ id: await t.vdevice(nesting, 1n) });
    assert.equal(await errnoOf(() => invalidate(t, nesting.viommuId, [cache(0)])), 'EINVAL');
  });
});
