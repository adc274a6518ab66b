/** OPTION, VFIO_IOAS and DESTROY. */
import assert from 'node:assert/strict';
import { Option, VfioIoas } from '../../../src/abi/iommufd.ts';
import { IOMMU_HW_QUEUE_TYPE_SELFTEST, IOMMU_VEVENTQ_TYPE_SELFTEST } from '../../../src/abi/iommufd-test.ts';
import { ALL, IOVA, PAGE, type Setting } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const RLIMIT_MODE = 0;
const HUGE_PAGES = 1;
const SET = 0;
const GET = 1;

const option = (t: Setting, optionId: number, op: number, objectId = 0, val64 = 0n) =>
  t.iommufd.option({ optionId, op, objectId, val64 });

casesOf('IOMMU_OPTION', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => t.iommufd.option({ reserved: 1, op: GET }));
  refuses('EOPNOTSUPP', 'an option that is not known', (t) => () => option(t, 2, GET));
  refuses('EOPNOTSUPP', 'an object for RLIMIT_MODE', async (t) => {
    const ioasId = await t.ioas();
    return () => option(t, RLIMIT_MODE, GET, ioasId);
  });
  refuses('EOPNOTSUPP', 'RLIMIT_MODE with an operation that is not known', (t) => () => option(t, RLIMIT_MODE, 2));
  refuses('EBUSY', 'to set RLIMIT_MODE when there are objects', async (t) => {
    await t.ioas();
    return () => option(t, RLIMIT_MODE, SET, 0, 5n);
  });
  refuses('EINVAL', 'a RLIMIT_MODE that is neither 0 nor 1', (t) => () => option(t, RLIMIT_MODE, SET, 0, 2n));
  refuses('ENOENT', 'HUGE_PAGES of an IOAS that does not exist', (t) => () => option(t, HUGE_PAGES, GET, 7));
  refuses('EOPNOTSUPP', 'HUGE_PAGES with an operation that is not known', async (t) => {
    const ioasId = await t.ioas();
    return () => option(t, HUGE_PAGES, 2, ioasId);
  });
  refuses('EINVAL', 'a HUGE_PAGES that is neither 0 nor 1', async (t) => {
    const ioasId = await t.ioas();
    return () => option(t, HUGE_PAGES, SET, ioasId, 2n);
  });
  refuses('EADDRINUSE', 'to switch huge pages off when something is mapped that is not aligned to pages', async (t) => {
    const ioasId = await t.ioas();
    await t.map(ioasId, IOVA, 100n);
    return () => option(t, HUGE_PAGES, SET, ioasId, 0n);
  });
  refuses('EFAULT', 'memory where it cannot write the value', async (t) => {
    return () => t.iommufd.option({}, t.unanswerable(Option, { optionId: RLIMIT_MODE, op: GET }));
  });
  does('tells the RLIMIT_MODE that was set', async (t) => {
    assert.equal((await option(t, RLIMIT_MODE, GET)).val64, 0n);
    await option(t, RLIMIT_MODE, SET, 0, 1n);
    assert.equal((await option(t, RLIMIT_MODE, GET)).val64, 1n);
  });
  does('has huge pages on at first, and IOVAs aligned to pages when they are off', async (t) => {
    const ioasId = await t.ioas();
    assert.equal((await option(t, HUGE_PAGES, GET, ioasId)).val64, 1n);
    await option(t, HUGE_PAGES, SET, ioasId, 0n);
    assert.equal((await option(t, HUGE_PAGES, GET, ioasId)).val64, 0n);
    assert.equal(await errnoOf(() => t.map(ioasId, IOVA, 100n)), 'EINVAL');
    await option(t, HUGE_PAGES, SET, ioasId, 1n);
    await t.map(ioasId, IOVA, 100n);
  });
});

casesOf('IOMMU_OPTION', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'to switch huge pages off when something is mapped for a device', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    await t.map(ioasId);
    return () => option(t, HUGE_PAGES, SET, ioasId, 0n);
  });
  does('switches huge pages off twice, and before anything is mapped', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    await option(t, HUGE_PAGES, SET, ioasId, 0n);
    await t.map(ioasId);
    await option(t, HUGE_PAGES, SET, ioasId, 0n);
  });
});

const [IOAS_GET, IOAS_SET, IOAS_CLEAR] = [0, 1, 2];

casesOf('IOMMU_VFIO_IOAS', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => t.iommufd.vfioIoas({ reserved: 1, op: IOAS_CLEAR }));
  refuses('EOPNOTSUPP', 'an operation that is not known', (t) => () => t.iommufd.vfioIoas({ op: 3 }));
  refuses('ENODEV', 'to tell an IOAS when none is set', (t) => () => t.iommufd.vfioIoas({ op: IOAS_GET }));
  refuses('ENOENT', 'to set an IOAS that does not exist', (t) => () => t.iommufd.vfioIoas({ op: IOAS_SET, ioasId: 7 }));
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    await t.iommufd.vfioIoas({ op: IOAS_SET, ioasId: await t.ioas() });
    return () => t.iommufd.vfioIoas({}, t.unanswerable(VfioIoas, { op: IOAS_GET }));
  });
  does('tells the IOAS that was set, until it is cleared', async (t) => {
    const ioasId = await t.ioas();
    await t.iommufd.vfioIoas({ op: IOAS_SET, ioasId });
    assert.equal((await t.iommufd.vfioIoas({ op: IOAS_GET })).ioasId, ioasId);
    await t.iommufd.vfioIoas({ op: IOAS_CLEAR });
    assert.equal(await errnoOf(() => t.iommufd.vfioIoas({ op: IOAS_GET })), 'ENODEV');
  });
  does('forgets an IOAS that is destroyed', async (t) => {
    const ioasId = await t.ioas();
    await t.iommufd.vfioIoas({ op: IOAS_SET, ioasId });
    await t.iommufd.destroy({ id: ioasId });
    assert.equal(await errnoOf(() => t.iommufd.vfioIoas({ op: IOAS_GET })), 'ENODEV');
  });
});

casesOf('IOMMU_DESTROY', [], ({ refuses, does }) => {
  refuses('ENOENT', 'ID 0', (t) => () => t.iommufd.destroy({ id: 0 }));
  refuses('ENOENT', 'an object that does not exist', (t) => () => t.iommufd.destroy({ id: 0xffff_ffff }));
  refuses('ENOENT', 'an object that is destroyed', async (t) => {
    const id = await t.ioas();
    await t.iommufd.destroy({ id });
    return () => t.iommufd.destroy({ id });
  });
  does('unmaps what an IOAS maps', async (t) => {
    const id = await t.ioas();
    await t.map(id);
    await t.iommufd.destroy({ id });
    assert.equal(await t.ioas(), id);
  });
});

casesOf('IOMMU_DESTROY', ['mock'], ({ refuses, does }) => {
  const busy = (what: string, make: (t: Setting) => Promise<number>) =>
    refuses('EBUSY', what, async (t) => {
      const id = await make(t);
      return () => t.iommufd.destroy({ id });
    });
  busy('an IOAS that a HWPT translates', async (t) => (await t.ioasWithDevice()).ioasId);
  busy('a HWPT that a device is attached to', async (t) => (await t.ioasWithDevice()).hwptId);
  busy('a device that is bound', async (t) => (await t.ioasWithDevice()).idevId);
  busy('a nesting parent under a vIOMMU', async (t) => (await t.nesting()).parentId);
  busy('a nesting parent under a nested HWPT', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const parentId = await t.hwpt(idevId, ioasId, NEST_PARENT);
    await t.nestedHwpt(idevId, parentId);
    return parentId;
  });
  busy('a vIOMMU with a vDEVICE', async (t) => {
    const nesting = await t.nesting();
    await t.vdevice(nesting);
    return nesting.viommuId;
  });
  busy('a vIOMMU with a nested HWPT', async (t) => {
    const { idevId, viommuId } = await t.nesting();
    await t.nestedHwpt(idevId, viommuId);
    return viommuId;
  });
  busy('a vIOMMU with a HW queue', async (t) => {
    const { ioasId, viommuId } = await t.nesting();
    await t.map(ioasId);
    await hwQueue(t, viommuId, 0);
    return viommuId;
  });
  busy('a HW queue on which the next one depends', async (t) => {
    const { ioasId, viommuId } = await t.nesting();
    await t.map(ioasId);
    const first = await hwQueue(t, viommuId, 0);
    await hwQueue(t, viommuId, 1);
    return first;
  });
  busy('a fault queue whose descriptor is open', async (t) => (await t.faultQueue()).id);
  busy('a fault queue that a HWPT uses', async (t) => {
    const { ioasId, idevId } = await t.ioasWithDevice();
    const { id, file } = await t.faultQueue();
    await t.iommufd.hwptAlloc({ devId: idevId, ptId: ioasId, flags: FAULT, faultId: id });
    t.end(file);
    return id;
  });
  busy('a vEVENTQ whose descriptor is open', async (t) => {
    const { viommuId } = await t.nesting();
    return (await t.veventq(viommuId, IOMMU_VEVENTQ_TYPE_SELFTEST)).id;
  });
  busy('a vIOMMU with a vEVENTQ', async (t) => {
    const { viommuId } = await t.nesting();
    t.end((await t.veventq(viommuId, IOMMU_VEVENTQ_TYPE_SELFTEST)).file);
    return viommuId;
  });
  busy('an access whose descriptor is open', async (t) => {
    const ioasId = await t.ioas();
    await t.access(ioasId);
    return ioasId + 1;
  });
  busy('an IOAS that an access uses', async (t) => {
    const ioasId = await t.ioas();
    await t.access(ioasId);
    return ioasId;
  });
  does('ends queues whose descriptors are closed', async (t) => {
    const { viommuId } = await t.nesting();
    const [events, faults] = [await t.veventq(viommuId, IOMMU_VEVENTQ_TYPE_SELFTEST), await t.faultQueue()];
    for (const { id, file } of [events, faults]) {
      t.end(file);
      await t.iommufd.destroy({ id });
    }
  });
  does('ends a mock device with its vDEVICE, whose ID is not used again', async (t) => {
    const nesting = await t.nesting();
    const vdeviceId = await t.vdevice(nesting);
    await t.iommufd.destroy({ id: nesting.stdevId });
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: vdeviceId })), 'ENOENT');
    const ids = [await t.ioas(), await t.ioas(), await t.ioas(), await t.ioas()];
    assert.ok(!ids.includes(vdeviceId), `${ids} has the ID ${vdeviceId} of the vDEVICE`);
  });
  does('ends an automatic HWPT with its last device', async (t) => {
    const { ioasId, hwptId, stdevId } = await t.ioasWithDevice();
    await t.iommufd.destroy({ id: stdevId });
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: hwptId })), 'ENOENT');
    await t.iommufd.destroy({ id: ioasId });
  });
  does('unpins what a HW queue used', async (t) => {
    const { ioasId, viommuId } = await t.nesting();
    await t.map(ioasId);
    await t.iommufd.destroy({ id: await hwQueue(t, viommuId, 0) });
    await t.iommufd.ioasUnmap({ ioasId, iova: IOVA, length: PAGE });
    await t.iommufd.ioasMap({ ioasId, flags: ALL, iova: IOVA, length: PAGE, userVa: t.userVa });
  });
});

const NEST_PARENT = 1;
const FAULT = 4;

const hwQueue = async (t: Setting, viommuId: number, index: number): Promise<number> => {
  const type = IOMMU_HW_QUEUE_TYPE_SELFTEST;
  const made = await t.iommufd.hwQueueAlloc({ viommuId, type, index, nestingParentIova: IOVA, length: PAGE });
  return made.outHwQueueId;
};
