/** Commands on devices behind SMMUv3s, and what their DMA reaches. */
import assert from 'node:assert/strict';
import {
  HwptInvalidate,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
} from '../../../src/abi/iommufd.ts';
import type { Refusal, Values } from '../../../src/client/index.ts';
import {
  ContextTable,
  commandBytes,
  commands,
  type GuestCommand,
  GuestRam,
  STE_ABORT,
  STE_BYPASS,
  Stage1,
} from '../../host/guest.ts';
import { ALLOC_PASID, IOVA, NEST_PARENT, PAGE, type Setting } from '../setting.ts';
import { bound, CopyEngine, type Slice, slice, steData, text } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';

const SMMU: ['smmuv3'] = ['smmuv3'];
const MSI_WINDOW = 0x800_0000n;
const VSID = 0x10;
const MEMORY = 0x10_0000n;

const nest = async (t: Setting, { devId, viommuId }: Slice, ste: readonly bigint[]): Promise<number> =>
  (await t.iommufd.hwptAlloc({ devId, ptId: viommuId, ...steData(t, ste) })).outHwptId;

casesOf('IOMMU_IOAS_IOVA_RANGES', SMMU, ({ does }) => {
  does('leaves out the window of message signalled interrupts', async (t) => {
    const { vfio } = await bound(t);
    const ioasId = await t.ioas();
    await vfio.attachIommufdPt({ ptId: ioasId });
    const { address, bytes } = t.program.allocate(64);
    const { numIovas } = await t.iommufd.ioasIovaRanges({ ioasId, numIovas: 4, allowedIovas: address });
    const ends = new BigUint64Array(bytes.slice(0, 16 * numIovas).buffer);
    assert.deepEqual([ends[0], ends[1], ends[2]], [0n, MSI_WINDOW - 1n, MSI_WINDOW + MEMORY]);
  });
});

casesOf('IOMMU_IOAS_MAP', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'the window of message signalled interrupts', async (t) => {
    const { vfio } = await bound(t);
    const ioasId = await t.ioas();
    await vfio.attachIommufdPt({ ptId: ioasId });
    return () => t.map(ioasId, MSI_WINDOW);
  });
  refuses('EFAULT', 'addresses where the program has no memory', async (t) => {
    const { vfio } = await bound(t);
    const ioasId = await t.ioas();
    await vfio.attachIommufdPt({ ptId: ioasId });
    return () => t.iommufd.ioasMap({ ioasId, flags: 7, iova: IOVA, length: PAGE, userVa: t.nowhere });
  });
  does('has devices reach the memory, until it is unmapped', async (t) => {
    const { vfio } = await bound(t);
    const ioasId = await t.ioas();
    await vfio.attachIommufdPt({ ptId: ioasId });
    await t.map(ioasId, IOVA, MEMORY);
    const engine = new CopyEngine(t, vfio);
    text(t, 0, 'to be copied');
    assert.equal(await engine.copy(IOVA, IOVA + PAGE), true);
    assert.equal(text(t, 4096), 'to be copied');
    await t.iommufd.ioasUnmap({ ioasId, iova: IOVA, length: MEMORY });
    assert.equal(await engine.copy(IOVA, IOVA + 2n * PAGE), false);
  });
  does('has no device write what was mapped without WRITEABLE', async (t) => {
    const { vfio } = await bound(t);
    const ioasId = await t.ioas();
    await vfio.attachIommufdPt({ ptId: ioasId });
    await t.map(ioasId, IOVA + 0xf_f000n, PAGE, 0xf_f000n);
    await t.map(ioasId, IOVA, PAGE, 0n, 5);
    await t.map(ioasId, IOVA + PAGE, PAGE, PAGE);
    const engine = new CopyEngine(t, vfio);
    text(t, 0, 'source');
    assert.equal(await engine.copy(IOVA, IOVA + PAGE), true);
    text(t, 4096, 'changed');
    assert.equal(await engine.copy(IOVA + PAGE, IOVA), false);
    assert.equal(text(t, 0), 'source');
  });
});

casesOf('IOMMU_GET_HW_INFO', SMMU, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a type that the SMMU does not have', async (t) => {
    const { devId } = await bound(t);
    return () => t.iommufd.getHwInfo({ devId, flags: 1, inDataType: 1 });
  });
  does('tells the identity registers', async (t) => {
    const { devId } = await bound(t);
    const { address, bytes } = t.program.allocate(40);
    const { outDataType, dataLen } = await t.iommufd.getHwInfo({ devId, dataLen: 40, dataUptr: address });
    assert.deepEqual([outDataType, dataLen], [IOMMU_HW_INFO_TYPE_ARM_SMMUV3, 40]);
    assert.equal(bytes[8]! & 3, 3, 'IDR0: stage 1 and stage 2');
  });
});

casesOf('IOMMU_HWPT_ALLOC', SMMU, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a nesting parent for PASIDs', async (t) => {
    const { devId } = await bound(t);
    const ptId = await t.ioas();
    return () => t.hwpt(devId, ptId, NEST_PARENT | ALLOC_PASID);
  });
  refuses('EOPNOTSUPP', 'data for a paging HWPT', async (t) => {
    const { devId } = await bound(t);
    const ptId = await t.ioas();
    return () => t.iommufd.hwptAlloc({ devId, ptId, ...steData(t, STE_BYPASS) });
  });
  refuses('EADDRINUSE', 'an IOAS that maps what the tables cannot', async (t) => {
    const { devId } = await bound(t);
    const ptId = await t.ioas();
    await t.map(ptId, 2n ** 63n);
    return () => t.hwpt(devId, ptId);
  });
  refuses('EOPNOTSUPP', 'a nested HWPT outside of a vIOMMU', async (t) => {
    const { devId, parentId } = await slice(t);
    return () => t.iommufd.hwptAlloc({ devId, ptId: parentId, ...steData(t, STE_BYPASS) });
  });
  refuses('EINVAL', 'a nested HWPT for a device behind another SMMU than the vIOMMU', async (t) => {
    const { viommuId } = await slice(t);
    const { devId } = await bound(t, 1);
    return () => t.iommufd.hwptAlloc({ devId, ptId: viommuId, ...steData(t, STE_BYPASS) });
  });
  refuses('EOPNOTSUPP', 'a nested HWPT for PASIDs', async (t) => {
    const { devId, viommuId } = await slice(t);
    return () => t.iommufd.hwptAlloc({ devId, ptId: viommuId, flags: ALLOC_PASID, ...steData(t, STE_BYPASS) });
  });
  for (const [what, change] of [
    ['data of another type', { dataType: 1 }],
    ['data that are too short', { dataLen: 8 }],
    ['data that are too long', { dataLen: 24 }],
  ] as const) {
    refuses('EINVAL', `a nested HWPT with ${what}`, async (t) => {
      const { devId, viommuId } = await slice(t);
      return () => t.iommufd.hwptAlloc({ devId, ptId: viommuId, ...steData(t, STE_BYPASS), ...change });
    });
  }
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const { devId, viommuId } = await slice(t);
    const data = { ...steData(t, STE_BYPASS), dataUptr: t.nowhere };
    return () => t.iommufd.hwptAlloc({ devId, ptId: viommuId, ...data });
  });
  for (const [what, ste] of [
    ["bits in its first doubleword that are the host's", [STE_BYPASS[0] | (1n << 58n), 0n]],
    ["bits in its second doubleword that are the host's", [STE_BYPASS[0], 1n << 63n]],
    ['a configuration of stage 2', [1n | (6n << 1n), 0n]],
    ['a configuration of both stages', [1n | (7n << 1n), 0n]],
    ['split-stage ATS', [STE_BYPASS[0], 2n << 28n]],
  ] as const) {
    refuses('EIO', `an STE of a guest with ${what}`, async (t) => {
      const made = await slice(t);
      return () => nest(t, made, ste);
    });
  }
  does('takes STEs that abort, bypass, or are not valid, whatever else is in those', async (t) => {
    const made = await slice(t);
    for (const ste of [STE_ABORT, STE_BYPASS, [0n, 0n], [~1n & (2n ** 64n - 1n), 2n ** 64n - 1n]])
      await nest(t, made, ste);
  });
});

casesOf('IOMMU_VIOMMU_ALLOC', SMMU, ({ refuses }) => {
  refuses('EOPNOTSUPP', 'a type that the SMMU does not have', async (t) => {
    const { devId, parentId } = await slice(t);
    return () => t.iommufd.viommuAlloc({ type: 3, devId, hwptId: parentId });
  });
  refuses('EINVAL', 'a parent that was not allocated as one', async (t) => {
    const { devId, ioasId } = await slice(t);
    const hwptId = await t.hwpt(devId, ioasId);
    return () => t.iommufd.viommuAlloc({ type: IOMMU_VIOMMU_TYPE_ARM_SMMUV3, devId, hwptId });
  });
});

casesOf('IOMMU_VDEVICE_ALLOC', SMMU, ({ refuses }) => {
  refuses('EINVAL', 'a device behind another SMMU than the vIOMMU', async (t) => {
    const { viommuId } = await slice(t);
    const { devId } = await bound(t, 1);
    return () => t.iommufd.vdeviceAlloc({ viommuId, devId, virtId: 1n });
  });
});

casesOf('IOMMU_HW_QUEUE_ALLOC', SMMU, ({ refuses }) => {
  refuses('EOPNOTSUPP', 'an SMMU without queues for guests', async (t) => {
    const { viommuId } = await slice(t);
    return () => t.iommufd.hwQueueAlloc({ viommuId, type: 1, nestingParentIova: IOVA, length: PAGE });
  });
});

const send = (t: Setting, hwptId: number, list: GuestCommand[], values: Values<typeof HwptInvalidate> = {}) =>
  t.iommufd.hwptInvalidate({
    hwptId,
    dataType: 1,
    dataUptr: t.put(commandBytes(list)),
    entryLen: 16,
    entryNum: list.length,
    ...values,
  });

const afterDoing = (done: number, call: Promise<unknown>) =>
  call.catch((refusal: Refusal) => {
    assert.equal(new HwptInvalidate(refusal.answer!.bytes).entryNum, done);
    throw refusal;
  });

/** A guest behind its own stage 1, which maps IOVAs 2^32 and up to guest memory at IOVA. */
async function guest(t: Setting) {
  const made = await slice(t);
  await t.map(made.ioasId, IOVA, MEMORY);
  await t.iommufd.vdeviceAlloc({ viommuId: made.viommuId, devId: made.devId, virtId: BigInt(VSID) });
  const ram = new GuestRam(IOVA, t.memory.bytes.subarray(0, 0xf_0000));
  const stage1 = new Stage1(ram, 7);
  const contexts = new ContextTable(ram);
  contexts.set(0, stage1);
  stage1.map(GUEST_DESCRIPTOR, IOVA + 0xf_f000n);
  const nestedId = await nest(t, made, contexts.ste());
  return { ...made, ram, stage1, nestedId, engine: new CopyEngine(t, made.vfio, GUEST_DESCRIPTOR) };
}

const GUEST_DESCRIPTOR = 2n ** 33n;
const GUEST_IOVA = 2n ** 32n;

casesOf('IOMMU_HWPT_INVALIDATE', SMMU, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'commands for a nested HWPT: they go to its vIOMMU', async (t) => {
    const id = await nest(t, await slice(t), STE_BYPASS);
    return () => send(t, id, [commands.nhAll()]);
  });
  refuses('EINVAL', 'data of another type', async (t) => {
    const { viommuId } = await slice(t);
    return () => afterDoing(0, send(t, viommuId, [commands.nhAll()], { dataType: 0 }));
  });
  refuses('EINVAL', 'no commands at all', async (t) => {
    const { viommuId } = await slice(t);
    return () => send(t, viommuId, []);
  });
  refuses('EFAULT', 'commands where there is no memory', async (t) => {
    const { viommuId } = await slice(t);
    return () => send(t, viommuId, [commands.nhAll()], { dataUptr: t.nowhere });
  });
  refuses('E2BIG', 'longer commands with a byte in the tail that is not 0', async (t) => {
    const { viommuId } = await slice(t);
    return () => send(t, viommuId, [commands.nhAll(), commands.nhAll()], { entryLen: 24, entryNum: 1 });
  });
  refuses('ENOMEM', 'more commands than it could copy, and leaves entry_num', async (t) => {
    const { viommuId } = await slice(t);
    return () => afterDoing(2 ** 20, send(t, viommuId, [commands.nhAll()], { entryNum: 2 ** 20 }));
  });
  for (const [what, command] of [
    ["a command that is the host's", commands.cfgiSte(VSID)],
    ['CMD_SYNC, which it sends itself', commands.sync()],
    ['a virtual StreamID that no vDEVICE has', commands.cfgiCd(VSID + 1)],
  ] as const) {
    refuses('EIO', `${what}, having done those before`, async (t) => {
      const { viommuId } = await guest(t);
      return () => afterDoing(1, send(t, viommuId, [commands.nhAll(), command, commands.nhAll()]));
    });
  }
  does('takes every command of a guest that concerns only itself', async (t) => {
    const { viommuId } = await guest(t);
    const { nhAll, nhAsid, nhVa, nhVaa, nsnhAll, cfgiCd, cfgiCdAll, atcInv } = commands;
    const all = [
      nhAll(),
      nhAsid(7),
      nhVa(7, 0n),
      nhVaa(0n),
      nsnhAll(),
      cfgiCd(VSID),
      cfgiCdAll(VSID),
      atcInv(VSID, 0n, 52),
    ];
    assert.equal((await send(t, viommuId, all)).entryNum, all.length);
  });
  does("makes a guest's change of its tables count, which does not before", async (t) => {
    const { viommuId, vfio, stage1, nestedId, engine } = await guest(t);
    await vfio.attachIommufdPt({ ptId: nestedId });
    const [first, second, into] = [0xf_1000n, 0xf_2000n, 0xf_3000n];
    text(t, Number(first), 'first');
    text(t, Number(second), 'second');
    stage1.map(GUEST_IOVA, IOVA + first);
    stage1.map(GUEST_IOVA + PAGE, IOVA + into);
    assert.equal(await engine.copy(GUEST_IOVA, GUEST_IOVA + PAGE), true);
    assert.equal(text(t, Number(into)), 'first');
    stage1.map(GUEST_IOVA, IOVA + second);
    await send(t, viommuId, [commands.nhVa(7, GUEST_IOVA)]);
    assert.equal(await engine.copy(GUEST_IOVA, GUEST_IOVA + PAGE), true);
    assert.equal(text(t, Number(into)), 'second');
  });
});

casesOf('IOMMU_VEVENTQ_ALLOC', SMMU, ({ does }) => {
  does("gives the faults of a guest's device, by its virtual StreamID", async (t) => {
    const { viommuId, vfio, nestedId, engine, stage1 } = await guest(t);
    await vfio.attachIommufdPt({ ptId: nestedId });
    const { file } = await t.veventq(viommuId, IOMMU_VEVENTQ_TYPE_ARM_SMMUV3);
    stage1.map(GUEST_IOVA, IOVA + 0xf_1000n);
    assert.equal(await engine.copy(GUEST_IOVA, GUEST_IOVA + PAGE), false);
    const [event] = await file.events(32);
    const words = new DataView(event!.data.slice().buffer);
    assert.deepEqual([words.getUint8(0), words.getUint32(4, true)], [0x10, VSID], 'F_TRANSLATION of the vSID');
  });
});

casesOf('VFIO_DEVICE_BIND_IOMMUFD', SMMU, ({ refuses, does }) => {
  const bind = (t: Setting, values: object) => t.vfio().bindIommufd({ iommufd: t.iommufd.fd, ...values });
  refuses('EINVAL', 'an argsz below that of its first release', (t) => () => bind(t, { argsz: 15 }));
  refuses('EINVAL', 'a flag that is not known', (t) => () => bind(t, { flags: 2 }));
  refuses('EINVAL', 'a negative descriptor', (t) => () => bind(t, { iommufd: -1 }));
  refuses('EBADF', 'a descriptor that is not open', (t) => () => bind(t, { iommufd: 123_456 }));
  refuses('EBADFD', 'a descriptor that is no iommufd', (t) => () => {
    const vfio = t.vfio();
    return vfio.bindIommufd({ iommufd: vfio.fd });
  });
  refuses('EINVAL', 'a device that is bound by this file', async (t) => {
    const { vfio } = await bound(t);
    return () => vfio.bindIommufd({ iommufd: t.iommufd.fd });
  });
  refuses('EINVAL', 'a device that is bound by another file', async (t) => {
    await bound(t);
    return () => bound(t);
  });
  does('gives the device an ID that only closing it ends', async (t) => {
    const { vfio, devId } = await bound(t);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: devId })), 'EBUSY');
    t.end(vfio);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: devId })), 'ENOENT');
  });
});

casesOf('VFIO_DEVICE_ATTACH_IOMMUFD_PT', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a device that is not bound', (t) => () => t.vfio().attachIommufdPt({ ptId: 1 }));
  refuses('EINVAL', 'an argsz that is too small', async (t) => {
    const { vfio } = await bound(t);
    return () => vfio.attachIommufdPt({ argsz: 11 });
  });
  refuses('EINVAL', 'a flag that is not known', async (t) => {
    const { vfio } = await bound(t);
    return () => vfio.attachIommufdPt({ flags: 2 });
  });
  refuses('ENOENT', 'a pt_id that does not exist', async (t) => {
    const { vfio } = await bound(t);
    return () => vfio.attachIommufdPt({ ptId: 99 });
  });
  refuses('EINVAL', 'a pt_id that is a device', async (t) => {
    const { vfio, devId } = await bound(t);
    return () => vfio.attachIommufdPt({ ptId: devId });
  });
  refuses('EADDRINUSE', 'an IOAS that maps the window of message signalled interrupts', async (t) => {
    const { vfio } = await bound(t);
    const ptId = await t.ioas();
    await t.map(ptId, MSI_WINDOW);
    return () => vfio.attachIommufdPt({ ptId });
  });
  refuses('ENOENT', "a guest's stage 1 for a device without a vDEVICE", async (t) => {
    const made = await slice(t);
    const ptId = await nest(t, made, [1n | (5n << 1n) | IOVA, 0n]);
    return () => made.vfio.attachIommufdPt({ ptId });
  });
  refuses('EINVAL', 'a nested HWPT of another SMMU', async (t) => {
    const ptId = await nest(t, await slice(t), STE_BYPASS);
    const { vfio } = await bound(t, 1);
    return () => vfio.attachIommufdPt({ ptId });
  });
  does('attaches a bypassing STE to a device without a vDEVICE', async (t) => {
    const made = await slice(t);
    await made.vfio.attachIommufdPt({ ptId: await nest(t, made, STE_BYPASS) });
  });
  does('replaces what is attached, without a moment in which the device reaches nothing', async (t) => {
    const { vfio, devId } = await bound(t);
    const ioasId = await t.ioas();
    await t.map(ioasId, IOVA, MEMORY);
    const { ptId: automatic } = await vfio.attachIommufdPt({ ptId: ioasId });
    const mine = await t.hwpt(devId, ioasId);
    assert.equal((await vfio.attachIommufdPt({ ptId: mine })).ptId, mine);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: automatic })), 'ENOENT');
    text(t, 0, 'still there');
    assert.equal(await new CopyEngine(t, vfio).copy(IOVA, IOVA + PAGE), true);
    assert.equal(text(t, 4096), 'still there');
  });
});

casesOf('VFIO_DEVICE_DETACH_IOMMUFD_PT', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a device that is not bound', (t) => () => t.vfio().detachIommufdPt());
  refuses('EINVAL', 'a flag that is not known', async (t) => {
    const { vfio } = await bound(t);
    return () => vfio.detachIommufdPt({ flags: 2 });
  });
  does('has nothing to do for a device that is not attached', async (t) => {
    const { vfio } = await bound(t);
    await vfio.detachIommufdPt();
  });
  does('leaves the device without memory', async (t) => {
    const { vfio } = await bound(t);
    const ioasId = await t.ioas();
    await t.map(ioasId, IOVA, MEMORY);
    await vfio.attachIommufdPt({ ptId: ioasId });
    await vfio.detachIommufdPt();
    assert.equal(await new CopyEngine(t, vfio).copy(IOVA, IOVA + PAGE), false);
    await t.iommufd.destroy({ id: ioasId });
  });
});
