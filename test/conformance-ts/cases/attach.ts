/** Attaching devices and PASIDs, by the operations of IOMMU_TEST_CMD that do it; and the checks among them. */
import assert from 'node:assert/strict';
import {
  IOMMU_TEST_PASID_RESERVED,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_FLAGS_DEVICE_PASID,
  TestCmd,
} from '../../../src/abi/iommufd-test.ts';
import { TEST_OPERATIONS } from '../../../src/client/index.ts';
import {
  ALL,
  ALLOC_PASID,
  DIRTY_TRACKING,
  IOVA,
  type MockDevice,
  NEST_PARENT,
  PAGE,
  type Setting,
  U64_MAX,
} from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const MOCK: ['mock'] = ['mock'];

/** The command of an operation whose answer cannot be written. */
function unanswerable(t: Setting, operation: keyof typeof TEST_OPERATIONS, id: number, words: number[] = []) {
  const payload = new Uint8Array(48);
  payload.set(new Uint8Array(Uint32Array.from(words).buffer));
  return t.unanswerable(TestCmd, { op: TEST_OPERATIONS[operation].op, id, payload });
}

const raw = (t: Setting, address: { address: bigint }) => t.iommufd.call(0x3ba0, TestCmd, {}, address);

casesOf('IOMMU_TEST_CMD', MOCK, ({ refuses }) => {
  refuses('EOPNOTSUPP', 'an operation that is not known', (t) => () => t.iommufd.call(0x3ba0, TestCmd, { op: 99 }));
});

casesOf('IOMMU_TEST_OP_MOCK_DOMAIN', MOCK, ({ refuses, does }) => {
  refuses('ENOENT', 'a pt_id that does not exist', (t) => () => t.device(7));
  refuses('EINVAL', 'a pt_id that is a device', async (t) => {
    const { idevId } = await t.ioasWithDevice();
    return () => t.device(idevId);
  });
  refuses('EINVAL', 'flags of a device that are not known', async (t) => {
    const ioasId = await t.ioas();
    return () => t.device(ioasId, 0x80);
  });
  refuses('EADDRINUSE', 'an IOAS that maps what the domain cannot', async (t) => {
    const ioasId = await t.ioas();
    await t.map(ioasId, 0n);
    return () => t.device(ioasId);
  });
  refuses('EINVAL', 'a HWPT that tracks writes, for a device that cannot', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const hwptId = await t.hwpt(idevId, ioasId, DIRTY_TRACKING);
    return () => t.device(hwptId, MOCK_FLAGS_DEVICE_NO_DIRTY);
  });
  refuses('ENOENT', 'a nested HWPT of a vIOMMU that does not know the device', async (t) => {
    const { idevId, viommuId } = await t.nesting();
    const nestedId = await t.nestedHwpt(idevId, viommuId);
    return () => t.device(nestedId);
  });
  refuses('EFAULT', 'memory where it cannot write the IDs, and makes no device', async (t) => {
    const ioasId = await t.ioas();
    return async () => {
      const bad = unanswerable(t, 'mockDomain', ioasId);
      assert.equal(await errnoOf(() => raw(t, bad)), 'EFAULT');
      assert.equal(await t.ioas(), ioasId + 1);
      await raw(t, bad);
    };
  });
  does('makes a domain for an IOAS, shared by its devices', async (t) => {
    const { ioasId, hwptId } = await t.ioasWithDevice();
    assert.equal((await t.device(ioasId)).hwptId, hwptId);
  });
  does('never shares a domain that was allocated', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const mine = await t.hwpt(idevId, ioasId);
    assert.notEqual((await t.device(ioasId)).hwptId, mine);
    assert.equal((await t.device(mine)).hwptId, mine);
  });
});

casesOf('IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE', MOCK, ({ refuses, does }) => {
  const replace = (t: Setting, stdevId: number, ptId: number) => t.iommufd.test.mockDomainReplace(stdevId, { ptId });
  refuses('ENOENT', 'a device that does not exist', (t) => () => replace(t, 7, 7));
  refuses('ENOENT', 'a device by its other ID', async (t) => {
    const { idevId, hwptId } = await t.ioasWithDevice();
    return () => replace(t, idevId, hwptId);
  });
  refuses('ENOENT', 'a pt_id that does not exist', async (t) => {
    const { stdevId } = await t.ioasWithDevice();
    return () => replace(t, stdevId, 99);
  });
  refuses('EINVAL', 'a pt_id that is a device', async (t) => {
    const { stdevId } = await t.ioasWithDevice();
    return () => replace(t, stdevId, stdevId);
  });
  refuses('EADDRINUSE', 'an IOAS that maps what the domain cannot, and keeps the old one', async (t) => {
    const { stdevId, hwptId } = await t.ioasWithDevice();
    const ioasId = await t.ioas();
    await t.map(ioasId, 0n);
    return async () => {
      assert.equal(await errnoOf(() => replace(t, stdevId, ioasId)), 'EADDRINUSE');
      assert.equal((await replace(t, stdevId, hwptId)).ptId, hwptId);
      await replace(t, stdevId, ioasId);
    };
  });
  refuses('EINVAL', 'a HWPT that tracks writes, for a device that cannot', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const { stdevId } = await t.device(ioasId, MOCK_FLAGS_DEVICE_NO_DIRTY);
    const hwptId = await t.hwpt(idevId, ioasId, DIRTY_TRACKING);
    return () => replace(t, stdevId, hwptId);
  });
  refuses('EFAULT', 'memory where it cannot write the ID, though it has replaced', async (t) => {
    const { stdevId, ioasId, idevId, hwptId } = await t.ioasWithDevice();
    const other = await t.hwpt(idevId, ioasId);
    return async () => {
      const bad = unanswerable(t, 'mockDomainReplace', stdevId, [other]);
      assert.equal(await errnoOf(() => raw(t, bad)), 'EFAULT');
      assert.equal(await errnoOf(() => t.iommufd.destroy({ id: hwptId })), 'ENOENT');
      await raw(t, bad);
    };
  });
  does('ends an automatic domain that nobody is attached to any more', async (t) => {
    const { stdevId, hwptId } = await t.ioasWithDevice();
    const { ptId } = await replace(t, stdevId, await t.ioas());
    assert.notEqual(ptId, hwptId);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: hwptId })), 'ENOENT');
  });
});

const attach = (t: Setting, { stdevId }: { stdevId: number }, ptId: number, pasid = 1) =>
  t.iommufd.test.pasidAttach(stdevId, { pasid, ptId });

/** A device with PASIDs on a HWPT that goes with them. */
async function withPasids(t: Setting): Promise<MockDevice & { ioasId: number }> {
  const device = await t.ioasWithDevice(MOCK_FLAGS_DEVICE_PASID);
  const hwptId = await t.hwpt(device.idevId, device.ioasId, ALLOC_PASID);
  await t.iommufd.test.mockDomainReplace(device.stdevId, { ptId: hwptId });
  return { ...device, hwptId };
}

casesOf('IOMMU_TEST_OP_PASID_ATTACH', MOCK, ({ refuses, does }) => {
  refuses('ENOENT', 'a device that does not exist', (t) => () => attach(t, { stdevId: 7 }, 7));
  refuses('ENOENT', 'a pt_id that does not exist', async (t) => {
    const device = await withPasids(t);
    return () => attach(t, device, 99);
  });
  refuses('EINVAL', 'a pt_id that is a device', async (t) => {
    const device = await withPasids(t);
    return () => attach(t, device, device.idevId);
  });
  refuses('EINVAL', 'a HWPT that does not go with PASIDs', async (t) => {
    const device = await withPasids(t);
    const hwptId = await t.hwpt(device.idevId, device.ioasId);
    return () => attach(t, device, hwptId);
  });
  refuses('EINVAL', 'a PASID of a device whose own HWPT does not go with PASIDs', async (t) => {
    const device = await t.ioasWithDevice(MOCK_FLAGS_DEVICE_PASID);
    const hwptId = await t.hwpt(device.idevId, device.ioasId, ALLOC_PASID);
    return () => attach(t, device, hwptId);
  });
  refuses('EINVAL', 'a PASID that the device cannot send', async (t) => {
    const device = await withPasids(t);
    return () => attach(t, device, device.hwptId, 2 ** 20);
  });
  refuses('EBUSY', 'a PASID that is attached', async (t) => {
    const device = await withPasids(t);
    await attach(t, device, device.hwptId);
    return () => attach(t, device, device.hwptId);
  });
  refuses('EBUSY', 'PASID 0, which is the device itself and attached', async (t) => {
    const device = await withPasids(t);
    return () => attach(t, device, device.hwptId, 0);
  });
  refuses('EFAULT', 'memory where it cannot write the ID, and detaches again', async (t) => {
    const device = await withPasids(t);
    return async () => {
      const bad = unanswerable(t, 'pasidAttach', device.stdevId, [1, device.hwptId]);
      assert.equal(await errnoOf(() => raw(t, bad)), 'EFAULT');
      await t.iommufd.test.pasidCheckHwpt(device.stdevId, { pasid: 1, hwptId: 0 });
      await raw(t, bad);
    };
  });
  does('attaches PASIDs to different HWPTs, and refuses the device one that does not go with them', async (t) => {
    const device = await withPasids(t);
    const other = await t.hwpt(device.idevId, device.ioasId, ALLOC_PASID);
    await attach(t, device, device.hwptId, 1);
    await attach(t, device, other, 2);
    await t.iommufd.test.pasidCheckHwpt(device.stdevId, { pasid: 2, hwptId: other });
    const plain = await t.hwpt(device.idevId, device.ioasId);
    assert.equal(await errnoOf(() => t.iommufd.test.mockDomainReplace(device.stdevId, { ptId: plain })), 'EINVAL');
    for (const pasid of [1, 2]) await t.iommufd.test.pasidDetach(device.stdevId, { pasid });
    await t.iommufd.test.mockDomainReplace(device.stdevId, { ptId: plain });
  });
  does('takes any PASID of a device that sends none', async (t) => {
    const device = await t.ioasWithDevice();
    const hwptId = await t.hwpt(device.idevId, device.ioasId, ALLOC_PASID);
    await t.iommufd.test.mockDomainReplace(device.stdevId, { ptId: hwptId });
    await attach(t, device, hwptId, 2 ** 21);
    await t.iommufd.test.pasidDetach(device.stdevId, { pasid: 2 ** 21 });
  });
});

casesOf('IOMMU_TEST_OP_PASID_REPLACE', MOCK, ({ refuses, does }) => {
  const replace = (t: Setting, { stdevId }: { stdevId: number }, ptId: number, pasid = 1) =>
    t.iommufd.test.pasidReplace(stdevId, { pasid, ptId });
  refuses('ENOENT', 'a device that does not exist', (t) => () => replace(t, { stdevId: 7 }, 7));
  refuses('EINVAL', 'a PASID that is not attached', async (t) => {
    const device = await withPasids(t);
    return () => replace(t, device, device.hwptId);
  });
  refuses('EINVAL', 'a HWPT that does not go with PASIDs', async (t) => {
    const device = await withPasids(t);
    await attach(t, device, device.hwptId);
    const hwptId = await t.hwpt(device.idevId, device.ioasId);
    return () => replace(t, device, hwptId);
  });
  refuses(
    'ENOMEM',
    'the PASID of which the test driver refuses every second change, and keeps the old HWPT',
    async (t) => {
      const device = await withPasids(t);
      const other = await t.hwpt(device.idevId, device.ioasId, ALLOC_PASID);
      await attach(t, device, device.hwptId, IOMMU_TEST_PASID_RESERVED);
      return async () => {
        assert.equal(await errnoOf(() => replace(t, device, other, IOMMU_TEST_PASID_RESERVED)), 'ENOMEM');
        const { pasidCheckHwpt, pasidDetach } = t.iommufd.test;
        await pasidCheckHwpt(device.stdevId, { pasid: IOMMU_TEST_PASID_RESERVED, hwptId: device.hwptId });
        await pasidDetach(device.stdevId, { pasid: IOMMU_TEST_PASID_RESERVED });
        await attach(t, device, device.hwptId, IOMMU_TEST_PASID_RESERVED);
        await replace(t, device, other, IOMMU_TEST_PASID_RESERVED);
      };
    },
  );
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    const device = await withPasids(t);
    await attach(t, device, device.hwptId);
    return () => raw(t, unanswerable(t, 'pasidReplace', device.stdevId, [1, device.hwptId]));
  });
  does('attaches a PASID to another HWPT, or to the same', async (t) => {
    const device = await withPasids(t);
    const other = await t.hwpt(device.idevId, device.ioasId, ALLOC_PASID);
    await attach(t, device, device.hwptId);
    for (const hwptId of [other, other]) {
      await replace(t, device, hwptId);
      await t.iommufd.test.pasidCheckHwpt(device.stdevId, { pasid: 1, hwptId });
    }
  });
});

casesOf('IOMMU_TEST_OP_PASID_DETACH', MOCK, ({ refuses, does }) => {
  refuses('ENOENT', 'a device that does not exist', (t) => () => t.iommufd.test.pasidDetach(7, { pasid: 1 }));
  does('has nothing to do for a PASID that is not attached', async (t) => {
    const { stdevId } = await withPasids(t);
    await t.iommufd.test.pasidDetach(stdevId, { pasid: 5 });
  });
});

casesOf('IOMMU_TEST_OP_PASID_CHECK_HWPT', MOCK, ({ refuses }) => {
  const check = (t: Setting, stdevId: number, hwptId: number, pasid = 1) =>
    t.iommufd.test.pasidCheckHwpt(stdevId, { pasid, hwptId });
  refuses('ENOENT', 'a device that does not exist', (t) => () => check(t, 7, 0));
  refuses('ENOENT', 'a HWPT that does not exist', async (t) => {
    const { stdevId } = await withPasids(t);
    return () => check(t, stdevId, 99);
  });
  refuses('EINVAL', 'an IOAS as the HWPT', async (t) => {
    const { stdevId, ioasId } = await withPasids(t);
    return () => check(t, stdevId, ioasId);
  });
  refuses('EINVAL', 'a PASID that is not attached there', async (t) => {
    const { stdevId, hwptId } = await withPasids(t);
    return () => check(t, stdevId, hwptId);
  });
  refuses('EINVAL', 'a PASID that is attached, when it is said not to be', async (t) => {
    const device = await withPasids(t);
    await attach(t, device, device.hwptId);
    return () => check(t, device.stdevId, 0);
  });
});

casesOf('IOMMU_TEST_OP_ADD_RESERVED', MOCK, ({ refuses, does }) => {
  const reserve = (t: Setting, id: number, start: bigint, length: bigint) =>
    t.iommufd.test.addReserved(id, { start, length });
  refuses('EINVAL', 'a length of 0', (t) => () => reserve(t, 7, 0n, 0n));
  refuses('EOVERFLOW', 'IOVAs beyond the last one', (t) => () => reserve(t, 7, U64_MAX, 2n));
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => reserve(t, 7, 0n, PAGE));
  refuses('EADDRINUSE', 'what is mapped', async (t) => {
    const id = await t.ioas();
    await t.map(id);
    return () => reserve(t, id, IOVA, PAGE);
  });
  refuses('EADDRINUSE', 'what is allowed', async (t) => {
    const id = await t.ioas();
    const allowedIovas = t.put(new Uint8Array(BigUint64Array.of(IOVA, IOVA + PAGE).buffer));
    await t.iommufd.ioasAllowIovas({ ioasId: id, numIovas: 1, allowedIovas });
    return () => reserve(t, id, IOVA, PAGE);
  });
  does('has what is reserved mapped no more, and tells so', async (t) => {
    const ioasId = await t.ioas();
    await reserve(t, ioasId, 0n, IOVA);
    await reserve(t, ioasId, IOVA, PAGE);
    const { address, bytes } = t.program.allocate(16);
    await t.iommufd.ioasIovaRanges({ ioasId, numIovas: 1, allowedIovas: address });
    assert.deepEqual([...new BigUint64Array(bytes.slice().buffer)], [IOVA + PAGE, U64_MAX]);
    const map = t.iommufd.ioasMap({ ioasId, flags: ALL, iova: PAGE, length: PAGE, userVa: t.userVa });
    assert.equal(await errnoOf(() => map), 'EINVAL');
  });
});

casesOf('IOMMU_TEST_OP_MD_CHECK_MAP', MOCK, ({ refuses }) => {
  const mapped = async (t: Setting): Promise<number> => {
    const { ioasId, hwptId } = await t.ioasWithDevice();
    await t.map(ioasId, IOVA, 2n * PAGE);
    return hwptId;
  };
  const ONE = { iova: IOVA, length: PAGE };
  refuses('ENOENT', 'a HWPT that does not exist', (t) => () => t.iommufd.test.checkMap(7, { ...ONE, uptr: t.userVa }));
  for (const [what, change] of [
    ['an IOVA', { iova: IOVA + 1n }],
    ['a length', { length: PAGE + 1n }],
  ] as const) {
    refuses('EINVAL', `${what} that is not aligned`, async (t) => {
      const id = await mapped(t);
      return () => t.iommufd.test.checkMap(id, { ...ONE, uptr: t.userVa, ...change });
    });
  }
  refuses('EINVAL', 'a user address that is not aligned', async (t) => {
    const id = await mapped(t);
    return () => t.iommufd.test.checkMap(id, { ...ONE, uptr: t.userVa + 1n });
  });
  refuses('EINVAL', 'memory that is mapped elsewhere', async (t) => {
    const id = await mapped(t);
    return () => t.iommufd.test.checkMap(id, { ...ONE, uptr: t.userVa + PAGE });
  });
  refuses('EFAULT', 'addresses where there is no memory', async (t) => {
    const id = await mapped(t);
    return () => t.iommufd.test.checkMap(id, { ...ONE, uptr: t.nowhere });
  });
});

casesOf('IOMMU_TEST_OP_MD_CHECK_REFS', MOCK, ({ refuses }) => {
  const check = (t: Setting, uptr: bigint, length = PAGE, refs = 0) =>
    t.iommufd.test.checkRefs(0, { uptr, length, refs });
  refuses('EINVAL', 'a length that is not of pages', (t) => () => check(t, t.userVa, 100n));
  refuses('EINVAL', 'an address that is not of a page', (t) => () => check(t, t.userVa + 1n));
  refuses('EFAULT', 'addresses where there is no memory', (t) => () => check(t, t.nowhere));
  refuses('EIO', 'another number of pins', (t) => () => {
    t.memory.bytes.fill(1, 0, 4096);
    return check(t, t.userVa, PAGE, 1);
  });
});

casesOf('IOMMU_TEST_OP_MD_CHECK_IOTLB', MOCK, ({ refuses }) => {
  const nested = async (t: Setting): Promise<number> => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    return t.nestedHwpt(idevId, await t.hwpt(idevId, ioasId, NEST_PARENT));
  };
  refuses('ENOENT', 'a HWPT that does not exist', (t) => () => t.iommufd.test.checkIotlb(7));
  refuses('ENOENT', 'a paging HWPT', async (t) => {
    const { hwptId } = await t.ioasWithDevice();
    return () => t.iommufd.test.checkIotlb(hwptId);
  });
  refuses('EINVAL', 'an entry beyond the IOTLB', async (t) => {
    const id = await nested(t);
    return () => t.iommufd.test.checkIotlb(id, { id: 4 });
  });
  refuses('EINVAL', 'another value', async (t) => {
    const id = await nested(t);
    return () => t.iommufd.test.checkIotlb(id, { id: 0, iotlb: 1 });
  });
});

casesOf('IOMMU_TEST_OP_DEV_CHECK_CACHE', MOCK, ({ refuses }) => {
  refuses('ENOENT', 'a device that does not exist', (t) => () => t.iommufd.test.checkDevCache(7));
  refuses('EINVAL', 'an entry beyond the cache', async (t) => {
    const { idevId } = await t.ioasWithDevice();
    return () => t.iommufd.test.checkDevCache(idevId, { id: 4 });
  });
  refuses('EINVAL', 'another value', async (t) => {
    const { idevId } = await t.ioasWithDevice();
    return () => t.iommufd.test.checkDevCache(idevId, { id: 0, cache: 1 });
  });
});

casesOf('IOMMU_TEST_OP_DIRTY', MOCK, ({ refuses }) => {
  const tracking = async (t: Setting): Promise<number> => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const hwptId = await t.hwpt(idevId, ioasId, DIRTY_TRACKING);
    await t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
    return hwptId;
  };
  const ONE = { iova: IOVA, length: PAGE, pageSize: PAGE };
  for (const [what, change] of [
    ['pages of 0 bytes', { pageSize: 0n }],
    ['a length of 0', { length: 0n }],
    ['an IOVA that is not aligned', { iova: IOVA + 1n }],
    ['a length that is not aligned', { length: PAGE + 1n }],
    ['a null pointer', { uptr: 0n }],
  ] as const) {
    refuses('EINVAL', what, (t) => () => t.iommufd.test.dirty(7, { ...ONE, uptr: t.userVa, ...change }));
  }
  refuses('ENOENT', 'a HWPT that does not exist', (t) => () => t.iommufd.test.dirty(7, { ...ONE, uptr: t.userVa }));
  refuses('EINVAL', 'a HWPT that does not track now', async (t) => {
    const { hwptId } = await t.ioasWithDevice();
    return () => t.iommufd.test.dirty(hwptId, { ...ONE, uptr: t.userVa });
  });
  refuses('EFAULT', 'a bitmap where there is no memory', async (t) => {
    const id = await tracking(t);
    return () => t.iommufd.test.dirty(id, { ...ONE, uptr: t.nowhere });
  });
  refuses('ENOMEM', 'a bitmap larger than it can copy', async (t) => {
    const id = await tracking(t);
    return () => t.iommufd.test.dirty(id, { iova: 0n, length: 2n ** 60n, pageSize: PAGE, uptr: t.userVa });
  });
});

casesOf('IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT', MOCK, ({ refuses, does }) => {
  refuses(
    'EINVAL',
    'less than a frame number and a count',
    (t) => () => t.iommufd.test.setTempMemoryLimit(0, { limit: 11 }),
  );
  does('works with little memory', async (t) => {
    await t.iommufd.test.setTempMemoryLimit(0, { limit: 12 });
    const { ioasId, hwptId } = await t.ioasWithDevice();
    await t.map(ioasId, IOVA, 16n * PAGE);
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: 16n * PAGE, uptr: t.userVa });
    await t.iommufd.test.setTempMemoryLimit(0, { limit: 65536 });
  });
});

casesOf('IOMMU_TEST_OP_DMABUF_GET', MOCK, ({ refuses, does }) => {
  refuses('EINVAL', 'a length of 0', (t) => () => t.iommufd.test.dmabufGet(0, { length: 0 }));
  refuses('EINVAL', 'more than 512 pages', (t) => () => t.iommufd.test.dmabufGet(0, { length: 0x20_0001 }));
  refuses('EMFILE', 'a program without a descriptor left', (t) => () => {
    const { iommufd } = t;
    return t.program.withoutDescriptors(() => iommufd.test.dmabufGet(0, { length: 4096 }));
  });
  does('gives up to 512 pages', async (t) => {
    await t.dmabuf(0x20_0000);
  });
});

casesOf('IOMMU_TEST_OP_DMABUF_REVOKE', MOCK, ({ refuses }) => {
  refuses('EBADF', 'a descriptor that is not open', (t) => () => t.iommufd.test.dmabufRevoke(0, { dmabufFd: 123_456 }));
  refuses('EINVAL', 'a descriptor that is no dma-buf', (t) => () => {
    return t.iommufd.test.dmabufRevoke(0, { dmabufFd: t.iommufd.fd });
  });
});
