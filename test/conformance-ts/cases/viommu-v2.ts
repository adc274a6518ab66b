/** The commands of the dialect viommu-v2, as the design thread describes them. */
import assert from 'node:assert/strict';
import { VirqAlloc } from '../../../src/abi/iommufd-viommu-v2.ts';
import { IOVA, NEST_PARENT, type Setting } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const V2: ['viommu-v2'] = ['viommu-v2'];
const VIRQ_TYPE = 1;

async function bound(t: Setting, index = 0): Promise<number> {
  return (await t.vfio(index).bindIommufd({ argsz: 16, iommufd: t.v2.fd })).outDevid;
}

/** A vIOMMU that the core manages. */
async function slice(t: Setting): Promise<{ devId: number; viommuId: number; parentId: number }> {
  const devId = await bound(t);
  const { outIoasId: ptId } = await t.v2.ioasAlloc();
  const { outHwptId: parentId } = await t.v2.hwptAlloc({ devId, ptId, flags: NEST_PARENT });
  const { outViommuId } = await t.v2.viommuAlloc({ devId, hwptId: parentId });
  return { devId, viommuId: outViommuId, parentId };
}

casesOf('IOMMU_VIOMMU_ALLOC (viommu-v2)', V2, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => t.v2.viommuAlloc({ flags: 1 }));
  refuses('ENOENT', 'a device that does not exist', (t) => () => t.v2.viommuAlloc({ devId: 7 }));
  does('has a type that any driver takes', async (t) => {
    assert.ok((await slice(t)).viommuId > 0);
  });
});

casesOf('IOMMU_VIOMMU_SET_VDEV_ID', V2, ({ refuses, does }) => {
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => t.v2.viommuSetVdevId({ viommuId: 7 }));
  refuses('ENOENT', 'a device that does not exist', async (t) => {
    const { viommuId } = await slice(t);
    return () => t.v2.viommuSetVdevId({ viommuId, devId: 99 });
  });
  refuses('EINVAL', 'a device behind another SMMU', async (t) => {
    const { viommuId } = await slice(t);
    const devId = await bound(t, 1);
    return () => t.v2.viommuSetVdevId({ viommuId, devId, vdevId: 1n });
  });
  refuses('EEXIST', 'a second ID for a device', async (t) => {
    const { devId, viommuId } = await slice(t);
    await t.v2.viommuSetVdevId({ viommuId, devId, vdevId: 1n });
    return () => t.v2.viommuSetVdevId({ viommuId, devId, vdevId: 2n });
  });
  does('sets an ID that can be set again when it is unset', async (t) => {
    const ids = { ...(await slice(t)), vdevId: 1n };
    for (let n = 0; n < 2; n++) {
      await t.v2.viommuSetVdevId({ viommuId: ids.viommuId, devId: ids.devId, vdevId: ids.vdevId });
      await t.v2.viommuUnsetVdevId({ viommuId: ids.viommuId, devId: ids.devId, vdevId: ids.vdevId });
    }
  });
});

casesOf('IOMMU_VIOMMU_UNSET_VDEV_ID', V2, ({ refuses }) => {
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => t.v2.viommuUnsetVdevId({ viommuId: 7 }));
  refuses('ENOENT', 'a device that has no ID', async (t) => {
    const { devId, viommuId } = await slice(t);
    return () => t.v2.viommuUnsetVdevId({ viommuId, devId, vdevId: 1n });
  });
  refuses('EINVAL', 'another ID than the device has', async (t) => {
    const { devId, viommuId } = await slice(t);
    await t.v2.viommuSetVdevId({ viommuId, devId, vdevId: 1n });
    return () => t.v2.viommuUnsetVdevId({ viommuId, devId, vdevId: 2n });
  });
});

casesOf('IOMMU_VIRQ_ALLOC', V2, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => t.v2.virqAlloc({ flags: 1, type: VIRQ_TYPE }));
  refuses('EINVAL', 'type 0', (t) => () => t.v2.virqAlloc({ type: 0 }));
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => t.v2.virqAlloc({ type: VIRQ_TYPE, viommuId: 7 }));
  refuses('EEXIST', 'a second queue of a type', async (t) => {
    const { viommuId } = await slice(t);
    t.descriptor((await t.v2.virqAlloc({ type: VIRQ_TYPE, viommuId })).outVirqFd);
    return () => t.v2.virqAlloc({ type: VIRQ_TYPE, viommuId });
  });
  refuses('EFAULT', 'memory where it cannot write the descriptor', async (t) => {
    const { viommuId } = await slice(t);
    return () => t.v2.virqAlloc({}, t.unanswerable(VirqAlloc, { type: VIRQ_TYPE, viommuId }));
  });
  does('opens a descriptor with nothing to read', async (t) => {
    const { viommuId } = await slice(t);
    const file = t.descriptor((await t.v2.virqAlloc({ type: VIRQ_TYPE, viommuId })).outVirqFd);
    assert.equal((await file.read(32)).length, 0);
    assert.equal(await errnoOf(() => file.write(new Uint8Array(8))), 'EINVAL');
  });
});

casesOf('IOMMU_VQUEUE_ALLOC', V2, ({ refuses }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => t.v2.vqueueAlloc({ flags: 1 }));
  refuses('EINVAL', 'a queue without data', (t) => () => t.v2.vqueueAlloc({ dataType: 1 }));
  refuses('ENOENT', 'a vIOMMU that does not exist', (t) => () => t.v2.vqueueAlloc({ viommuId: 7, dataLen: 16 }));
  refuses('EOPNOTSUPP', 'a vIOMMU that the core manages', async (t) => {
    const { viommuId } = await slice(t);
    return () => t.v2.vqueueAlloc({ viommuId, dataType: 1, dataLen: 16, dataUptr: IOVA });
  });
});
