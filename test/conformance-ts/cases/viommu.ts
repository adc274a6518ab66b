/** VIOMMU_ALLOC, VDEVICE_ALLOC, VEVENTQ_ALLOC, HW_QUEUE_ALLOC and mmap of /dev/iommu, on the mock driver. */
import assert from 'node:assert/strict';
import { HwQueueAlloc, VdeviceAlloc, VeventqAlloc, ViommuAlloc } from '../../../src/abi/iommufd.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  ViommuEventSelftest,
  ViommuSelftest,
} from '../../../src/abi/iommufd-test.ts';
import type { Values } from '../../../src/client/index.ts';
import { FIXED, IOVA, NEST_PARENT, type Nesting, PAGE, type Setting, U64_MAX, WRITEABLE } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const TYPE = IOMMU_VIOMMU_TYPE_SELFTEST;

/** What a vIOMMU is allocated with. */
async function slice(t: Setting): Promise<{ type: number; devId: number; hwptId: number }> {
  const { ioasId, idevId } = await t.ioasWithDevice();
  return { type: TYPE, devId: idevId, hwptId: await t.hwpt(idevId, ioasId, NEST_PARENT) };
}

casesOf('IOMMU_VIOMMU_ALLOC', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => t.iommufd.viommuAlloc({ flags: 1, type: TYPE }));
  refuses('EOPNOTSUPP', 'type 0', (t) => () => t.iommufd.viommuAlloc({ type: 0, devId: 7 }));
  refuses('ENOENT', 'a device that does not exist', (t) => () => t.iommufd.viommuAlloc({ type: 1, devId: 7 }));
});

casesOf('IOMMU_VIOMMU_ALLOC', ['mock'], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a type that the driver does not have, before it looks for the parent', async (t) => {
    const values = await slice(t);
    return () => t.iommufd.viommuAlloc({ ...values, type: 1, hwptId: 99 });
  });
  refuses('ENOENT', 'a parent that does not exist', async (t) => {
    const values = await slice(t);
    return () => t.iommufd.viommuAlloc({ ...values, hwptId: 99 });
  });
  refuses('ENOENT', 'an IOAS as a parent', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    return () => t.iommufd.viommuAlloc({ type: TYPE, devId: idevId, hwptId: ioasId });
  });
  refuses('ENOENT', 'a nested HWPT as a parent', async (t) => {
    const values = await slice(t);
    const hwptId = await t.nestedHwpt(values.devId, values.hwptId);
    return () => t.iommufd.viommuAlloc({ ...values, hwptId });
  });
  refuses('EINVAL', 'a parent that was not allocated as one', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const hwptId = await t.hwpt(idevId, ioasId);
    return () => t.iommufd.viommuAlloc({ type: TYPE, devId: idevId, hwptId });
  });
  refuses('EINVAL', 'data that are too short', async (t) => {
    const values = await slice(t);
    return () => t.iommufd.viommuAlloc({ ...values, dataLen: 4, dataUptr: t.put(new Uint8Array(24)) });
  });
  refuses('EINVAL', 'data that are too long', async (t) => {
    const values = await slice(t);
    return () => t.iommufd.viommuAlloc({ ...values, dataLen: 32, dataUptr: t.put(new Uint8Array(32)) });
  });
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const values = await slice(t);
    return () => t.iommufd.viommuAlloc({ ...values, dataLen: 24, dataUptr: t.nowhere });
  });
  refuses('EFAULT', 'data that cannot be written back', async (t) => {
    const values = await slice(t);
    const { address } = t.program.readOnly(new Uint8Array(24));
    return () => t.iommufd.viommuAlloc({ ...values, dataLen: 24, dataUptr: address });
  });
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    const values = await slice(t);
    return () => t.iommufd.viommuAlloc({}, t.unanswerable(ViommuAlloc, values));
  });
  does('gives the data back, as much of them as was given', async (t) => {
    const values = await slice(t);
    const data = t.program.allocate(24);
    data.bytes.set(Object.assign(new ViommuSelftest(), { inData: 0x1234_5678 }).bytes);
    await t.iommufd.viommuAlloc({ ...values, dataLen: 8, dataUptr: data.address });
    const { outData, outMmapLength } = new ViommuSelftest(data.bytes);
    assert.deepEqual([outData, outMmapLength], [0x1234_5678, 0n]);
  });
  does('gives any number of vIOMMUs on one parent', async (t) => {
    const values = await slice(t);
    const made = [await t.iommufd.viommuAlloc(values), await t.iommufd.viommuAlloc(values)];
    assert.notEqual(made[0]!.outViommuId, made[1]!.outViommuId);
  });
});

casesOf('IOMMU_VDEVICE_ALLOC', [], ({ refuses }) => {
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => t.iommufd.vdeviceAlloc({ viommuId: 7 }));
  refuses('ENOENT', 'an IOAS as the vIOMMU', async (t) => {
    const viommuId = await t.ioas();
    return () => t.iommufd.vdeviceAlloc({ viommuId });
  });
});

casesOf('IOMMU_VDEVICE_ALLOC', ['mock'], ({ refuses, does }) => {
  refuses('ENOENT', 'a device that does not exist', async (t) => {
    const { viommuId } = await t.nesting();
    return () => t.iommufd.vdeviceAlloc({ viommuId, devId: 99 });
  });
  refuses('EEXIST', 'a second vDEVICE for a device', async (t) => {
    const nesting = await t.nesting();
    await t.vdevice(nesting, 1n);
    return () => t.vdevice(nesting, 2n);
  });
  refuses('EEXIST', 'a second vDEVICE for a device in another vIOMMU', async (t) => {
    const nesting = await t.nesting();
    const viommuId = await t.viommu(nesting.idevId, nesting.parentId);
    await t.vdevice(nesting, 1n);
    return () => t.vdevice({ viommuId, idevId: nesting.idevId }, 1n);
  });
  refuses('EEXIST', 'a virtual ID that another device has', async (t) => {
    const nesting = await t.nesting();
    const { idevId } = await t.device(nesting.ioasId);
    await t.vdevice(nesting, 1n);
    return () => t.vdevice({ viommuId: nesting.viommuId, idevId }, 1n);
  });
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    const { viommuId, idevId: devId } = await t.nesting();
    return () => t.iommufd.vdeviceAlloc({}, t.unanswerable(VdeviceAlloc, { viommuId, devId }));
  });
  does('takes any virtual ID, and one again when its vDEVICE is destroyed', async (t) => {
    const nesting = await t.nesting();
    for (const virtId of [0n, U64_MAX, U64_MAX]) await t.iommufd.destroy({ id: await t.vdevice(nesting, virtId) });
  });
  does('takes a device when its vDEVICE in another vIOMMU is destroyed', async (t) => {
    const nesting = await t.nesting();
    const viommuId = await t.viommu(nesting.idevId, nesting.parentId);
    await t.iommufd.destroy({ id: await t.vdevice(nesting, 1n) });
    await t.vdevice({ viommuId, idevId: nesting.idevId }, 1n);
  });
});

const EVENTS = IOMMU_VEVENTQ_TYPE_SELFTEST;
const EVENT_BYTES = ViommuEventSelftest.size;
const POLLIN = 1;

const queue = (t: Setting, values: Values<typeof VeventqAlloc>) =>
  t.iommufd.veventqAlloc({ type: EVENTS, veventqDepth: 4, ...values });

casesOf('IOMMU_VEVENTQ_ALLOC', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => queue(t, { flags: 1 }));
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => queue(t, { reserved: 1 }));
  refuses('EOPNOTSUPP', 'type 0', (t) => () => queue(t, { type: 0 }));
  refuses('EINVAL', 'a depth of 0', (t) => () => queue(t, { veventqDepth: 0 }));
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => queue(t, { viommuId: 7 }));
});

/** A mock device, known as 0x42 to its vIOMMU and attached in it, whose events go to a queue. */
async function reporting(t: Setting, depth = 4) {
  const nesting = await t.nesting();
  await t.vdevice(nesting, 0x42n);
  const nestedId = await t.nestedHwpt(nesting.idevId, nesting.viommuId);
  await t.iommufd.test.mockDomainReplace(nesting.stdevId, { ptId: nestedId });
  return { ...nesting, ...(await t.veventq(nesting.viommuId, EVENTS, depth)) };
}

const trigger = (t: Setting, devId: number) => t.iommufd.test.triggerVevent(0, { devId });

casesOf('IOMMU_VEVENTQ_ALLOC', ['mock'], ({ refuses, does }) => {
  refuses('EEXIST', 'a second queue of a type', async (t) => {
    const { viommuId } = await t.nesting();
    await t.veventq(viommuId, EVENTS);
    return () => queue(t, { viommuId });
  });
  refuses('EFAULT', 'memory where it cannot write the descriptor, and makes no queue', async (t) => {
    const { viommuId } = await t.nesting();
    const bad = t.unanswerable(VeventqAlloc, { viommuId, type: EVENTS, veventqDepth: 1 });
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.veventqAlloc({}, bad)), 'EFAULT');
      t.end((await t.veventq(viommuId, EVENTS + 1)).file);
      await t.iommufd.veventqAlloc({}, bad);
    };
  });
  refuses('EMFILE', 'a program without a descriptor left, and takes the type again', async (t) => {
    const { viommuId } = await t.nesting();
    const without = () => t.program.withoutDescriptors(() => queue(t, { viommuId }));
    return async () => {
      assert.equal(await errnoOf(without), 'EMFILE');
      t.end((await t.veventq(viommuId, EVENTS + 1)).file);
      await without();
    };
  });
  does('takes any type but 0, whether the driver has it or not', async (t) => {
    const { viommuId } = await t.nesting();
    for (const type of [1, 2, 99]) await t.veventq(viommuId, type);
  });
  does('opens a descriptor with nothing to read, which cannot be written', async (t) => {
    const { viommuId } = await t.nesting();
    const { file } = await t.veventq(viommuId, EVENTS);
    assert.equal(t.program.poll(file.fd), 0);
    assert.equal((await file.read(64)).length, 0);
    assert.equal(await errnoOf(() => file.write(new Uint8Array(8))), 'EINVAL');
    assert.equal(await errnoOf(() => file.read(64, 0n)), 'ESPIPE');
    assert.equal(await errnoOf(() => file.callNumber(0x3b80)), 'ENOTTY');
  });
  does('gives a reader events in order, with the virtual ID of the device', async (t) => {
    const { file, idevId } = await reporting(t);
    await trigger(t, idevId);
    await trigger(t, idevId);
    assert.equal(t.program.poll(file.fd), POLLIN);
    const events = await file.events(EVENT_BYTES);
    assert.deepEqual(
      events.map(({ flags, sequence, data }) => [flags, sequence, new ViommuEventSelftest(data).virtId]),
      [
        [0, 0, 0x42],
        [0, 1, 0x42],
      ],
    );
  });
  does('tells of lost events at the end of a full queue', async (t) => {
    const { file, idevId } = await reporting(t, 2);
    for (let n = 0; n < 4; n++) await trigger(t, idevId);
    const events = await file.events(EVENT_BYTES);
    assert.deepEqual(
      events.map(({ flags, sequence }) => [flags, sequence]),
      [
        [0, 0],
        [0, 1],
        [1, 3],
      ],
    );
    assert.equal((await file.read(64)).length, 0);
  });
  does('keeps an event for which there is no room, or no memory', async (t) => {
    const { file, idevId } = await reporting(t);
    await trigger(t, idevId);
    assert.equal((await file.read(8)).length, 0);
    assert.equal(t.program.read(file.fd, t.nowhere, 64), -14);
    assert.equal((await file.events(EVENT_BYTES)).length, 1);
  });
});

casesOf('IOMMU_TEST_OP_TRIGGER_VEVENT', ['mock'], ({ refuses }) => {
  refuses('ENOENT', 'a device that does not exist', (t) => () => trigger(t, 7));
  refuses('ENOENT', 'a device that no vIOMMU knows', async (t) => {
    const { idevId } = await t.nesting();
    return () => trigger(t, idevId);
  });
  refuses('ENOENT', 'a device that is attached outside of its vIOMMU', async (t) => {
    const nesting = await t.nesting();
    await t.vdevice(nesting);
    return () => trigger(t, nesting.idevId);
  });
  refuses('EOPNOTSUPP', 'a device whose vIOMMU has no queue of the type', async (t) => {
    const { file, id, idevId } = await reporting(t);
    t.end(file);
    await t.iommufd.destroy({ id });
    return () => trigger(t, idevId);
  });
});

const HW_QUEUE = IOMMU_HW_QUEUE_TYPE_SELFTEST;

const hwQueue = (t: Setting, values: Values<typeof HwQueueAlloc>) =>
  t.iommufd.hwQueueAlloc({ type: HW_QUEUE, nestingParentIova: IOVA, length: PAGE, ...values });

/** A vIOMMU whose parent maps four pages at IOVA. */
async function guest(t: Setting): Promise<Nesting> {
  const nesting = await t.nesting();
  await t.map(nesting.ioasId, IOVA, 4n * PAGE);
  return nesting;
}

casesOf('IOMMU_HW_QUEUE_ALLOC', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => hwQueue(t, { flags: 1 }));
  refuses('EOPNOTSUPP', 'type 0', (t) => () => hwQueue(t, { type: 0 }));
  refuses('EINVAL', 'a length of 0', (t) => () => hwQueue(t, { length: 0n }));
  refuses('EOVERFLOW', 'IOVAs beyond the last one', (t) => () => {
    return hwQueue(t, { nestingParentIova: U64_MAX - PAGE + 1n, length: 2n * PAGE });
  });
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => hwQueue(t, { viommuId: 7 }));
});

casesOf('IOMMU_HW_QUEUE_ALLOC', ['mock'], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a type that the driver does not have', async (t) => {
    const { viommuId } = await guest(t);
    return () => hwQueue(t, { viommuId, type: 1 });
  });
  refuses('ERANGE', 'a length that overflows when rounded up to pages', async (t) => {
    const { viommuId } = await guest(t);
    return () => hwQueue(t, { viommuId, nestingParentIova: PAGE - 1n, length: U64_MAX - PAGE + 2n });
  });
  refuses('ENOMEM', 'more pages than it could list', async (t) => {
    const { viommuId } = await guest(t);
    return () => hwQueue(t, { viommuId, length: 2n ** 41n });
  });
  refuses('ENOENT', 'memory that the parent does not map', async (t) => {
    const { viommuId } = await guest(t);
    return () => hwQueue(t, { viommuId, nestingParentIova: IOVA + 3n * PAGE, length: 2n * PAGE });
  });
  refuses('EPERM', 'memory that cannot be read', async (t) => {
    const { viommuId, ioasId } = await guest(t);
    await t.map(ioasId, 2n * IOVA, PAGE, 0n, FIXED | WRITEABLE);
    return () => hwQueue(t, { viommuId, nestingParentIova: 2n * IOVA });
  });
  refuses('EFAULT', 'memory that is not contiguous', async (t) => {
    const { viommuId, ioasId } = await guest(t);
    await t.map(ioasId, 2n * IOVA, PAGE, 8n * PAGE);
    await t.map(ioasId, 2n * IOVA + PAGE, PAGE, 12n * PAGE);
    return () => hwQueue(t, { viommuId, nestingParentIova: 2n * IOVA, length: 2n * PAGE });
  });
  refuses('EADDRINUSE', 'a parent with a mapping that is not aligned to pages', async (t) => {
    const { viommuId, ioasId } = await guest(t);
    await t.map(ioasId, 2n * IOVA, 2048n);
    return () => hwQueue(t, { viommuId });
  });
  refuses('EINVAL', 'an index that the driver does not have', async (t) => {
    const { viommuId } = await guest(t);
    return () => hwQueue(t, { viommuId, index: 2 });
  });
  refuses('EEXIST', 'an index that is taken', async (t) => {
    const { viommuId } = await guest(t);
    await hwQueue(t, { viommuId });
    return () => hwQueue(t, { viommuId });
  });
  refuses('EIO', 'an index before the one below it', async (t) => {
    const { viommuId } = await guest(t);
    return () => hwQueue(t, { viommuId, index: 1 });
  });
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    const { viommuId } = await guest(t);
    const values = { viommuId, type: HW_QUEUE, nestingParentIova: IOVA, length: PAGE };
    return () => t.iommufd.hwQueueAlloc({}, t.unanswerable(HwQueueAlloc, values));
  });
  does('takes a queue that is not aligned, and its index again when it is destroyed', async (t) => {
    const { viommuId } = await guest(t);
    for (let n = 0; n < 2; n++) {
      const { outHwQueueId } = await hwQueue(t, { viommuId, nestingParentIova: IOVA + 2048n, length: 100n });
      await t.iommufd.destroy({ id: outHwQueueId });
    }
  });
});

const [SHARED, PRIVATE] = [1, 2];
const [READ_WRITE, EXECUTE] = [3, 5];

/** A vIOMMU with a region of two pages, at the offset that it tells. */
async function region(t: Setting): Promise<{ offset: bigint; viommuId: number }> {
  const values = await slice(t);
  const data = t.program.allocate(24);
  const { outViommuId } = await t.iommufd.viommuAlloc({ ...values, dataLen: 24, dataUptr: data.address });
  const { outMmapOffset, outMmapLength } = new ViommuSelftest(data.bytes);
  assert.equal(outMmapLength, 2n * PAGE);
  return { offset: outMmapOffset, viommuId: outViommuId };
}

casesOf('mmap', [], ({ does }) => {
  does('of /dev/iommu is refused where no object has a region (ENXIO)', async (t) => {
    assert.equal(t.program.mmap(t.iommufd.fd, 4096, READ_WRITE, SHARED, 0n).result, -6);
  });
});

casesOf('mmap', ['mock'], ({ does }) => {
  for (const [what, errno, length, protection, flags, further] of [
    ['a private mapping', 22, 8192, READ_WRITE, PRIVATE, 0n],
    ['an executable mapping', 1, 8192, EXECUTE, SHARED, 0n],
    ['a part of the region', 6, 4096, READ_WRITE, SHARED, 0n],
    ['the second page of the region', 6, 4096, READ_WRITE, SHARED, PAGE],
    ['more than the region', 6, 12288, READ_WRITE, SHARED, 0n],
    ['an offset without a region', 6, 8192, READ_WRITE, SHARED, 16n * PAGE],
  ] as const) {
    does(`refuses ${what} (errno ${errno})`, async (t) => {
      const { offset } = await region(t);
      assert.equal(t.program.mmap(t.iommufd.fd, length, protection, flags, offset + further).result, -errno);
    });
  }
  does('keeps the vIOMMU of a region in use', async (t) => {
    const { offset, viommuId } = await region(t);
    const mapped = t.program.mmap(t.iommufd.fd, 8192, READ_WRITE, SHARED, offset);
    assert.equal(mapped.result, 0);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: viommuId })), 'EBUSY');
    mapped.unmap();
    await t.iommufd.destroy({ id: viommuId });
    assert.equal(t.program.mmap(t.iommufd.fd, 8192, READ_WRITE, SHARED, offset).result, -6);
  });
  does('takes the lowest free offset, never 0', async (t) => {
    const first = await region(t);
    assert.ok(first.offset > 0n);
    await t.iommufd.destroy({ id: first.viommuId });
    assert.equal((await region(t)).offset, first.offset);
  });
});
