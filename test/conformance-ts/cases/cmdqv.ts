/** vIOMMUs with a virtual interface of a Tegra241 CMDQV, their queues, and the page that programs map. */
import assert from 'node:assert/strict';
import {
  HwQueueAlloc,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
  ViommuTegra241Cmdqv,
} from '../../../src/abi/iommufd.ts';
import { VqueueAlloc, VqueueTegra241Cmdqv } from '../../../src/abi/iommufd-viommu-v2.ts';
import type { Values } from '../../../src/client/index.ts';
import { IOVA, NEST_PARENT, PAGE, type Setting, U64_MAX } from '../setting.ts';
import { type BoundDevice, bound, slice as plainSlice } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';

const CMDQV: ['smmuv3', 'cmdqv'] = ['smmuv3', 'cmdqv'];
const VINTF_PAGE = 0x10000;
const READ_WRITE = 3;
const SHARED = 1;
const PRIVATE = 2;
const EXECUTE = 5;

interface CmdqvSlice extends BoundDevice {
  readonly ioasId: number;
  readonly parentId: number;
  readonly viommuId: number;
  readonly offset: bigint;
}

/** What a vIOMMU is allocated with. */
async function values(t: Setting): Promise<BoundDevice & { ioasId: number; type: number; hwptId: number }> {
  const device = await bound(t);
  const ioasId = await t.ioas();
  return {
    ...device,
    ioasId,
    type: IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
    hwptId: await t.hwpt(device.devId, ioasId, NEST_PARENT),
  };
}

const viommu = ({ type, devId, hwptId }: { type: number; devId: number; hwptId: number }) => ({ type, devId, hwptId });

async function slice(t: Setting): Promise<CmdqvSlice> {
  const made = await values(t);
  const data = t.program.allocate(ViommuTegra241Cmdqv.size);
  const dataLen = ViommuTegra241Cmdqv.size;
  const { outViommuId } = await t.iommufd.viommuAlloc({ ...viommu(made), dataLen, dataUptr: data.address });
  const { outVintfMmapOffset: offset } = new ViommuTegra241Cmdqv(data.bytes);
  return { ...made, parentId: made.hwptId, viommuId: outViommuId, offset };
}

/** A slice whose parent maps 16 pages at IOVA. */
async function sliceWithMemory(t: Setting): Promise<CmdqvSlice> {
  const made = await slice(t);
  await t.map(made.ioasId, IOVA, 16n * PAGE);
  return made;
}

const queue = (t: Setting, { viommuId }: CmdqvSlice, rest: Values<typeof HwQueueAlloc> = {}) =>
  t.iommufd.hwQueueAlloc({
    viommuId,
    type: IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
    nestingParentIova: IOVA,
    length: PAGE,
    ...rest,
  });

casesOf('IOMMU_GET_HW_INFO', CMDQV, ({ does }) => {
  does('tells of the CMDQV when it is asked for it, and of the SMMU otherwise', async (t) => {
    const { devId } = await bound(t);
    const inDataType = IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV;
    const asked = await t.iommufd.getHwInfo({ devId, flags: 1, inDataType });
    const not = await t.iommufd.getHwInfo({ devId });
    assert.deepEqual([asked.outDataType, asked.dataLen, not.outDataType], [inDataType, 8, 2]);
  });
});

casesOf('IOMMU_VIOMMU_ALLOC', CMDQV, ({ refuses, does }) => {
  refuses('EINVAL', 'a virtual interface without data', async (t) => {
    const made = await values(t);
    return () => t.iommufd.viommuAlloc(viommu(made));
  });
  for (const [what, dataLen] of [
    ['short', 8],
    ['long', 24],
  ] as const) {
    refuses('EINVAL', `data of a virtual interface that are too ${what}`, async (t) => {
      const made = await values(t);
      return () => t.iommufd.viommuAlloc({ ...viommu(made), dataLen, dataUptr: t.put(new Uint8Array(24)) });
    });
  }
  refuses('EFAULT', 'data of a virtual interface where there is no memory', async (t) => {
    const made = await values(t);
    return () => t.iommufd.viommuAlloc({ ...viommu(made), dataLen: 16, dataUptr: t.nowhere });
  });
  refuses('EFAULT', 'data of a virtual interface that cannot be written back', async (t) => {
    const made = await values(t);
    const { address } = t.program.readOnly(new Uint8Array(16));
    return () => t.iommufd.viommuAlloc({ ...viommu(made), dataLen: 16, dataUptr: address });
  });
  refuses('ENOSPC', 'a virtual interface when none is left', async (t) => {
    const made = await values(t);
    const dataUptr = t.put(new Uint8Array(16));
    const alloc = () => t.iommufd.viommuAlloc({ ...viommu(made), dataLen: 16, dataUptr });
    for (let n = 1; n < 64; n++) await alloc();
    return alloc;
  });
  does('tells what to map of a virtual interface', async (t) => {
    const made = await values(t);
    const data = t.program.allocate(16);
    await t.iommufd.viommuAlloc({ ...viommu(made), dataLen: 16, dataUptr: data.address });
    const { outVintfMmapOffset, outVintfMmapLength } = new ViommuTegra241Cmdqv(data.bytes);
    assert.ok(outVintfMmapOffset > 0n && outVintfMmapOffset % PAGE === 0n);
    assert.equal(outVintfMmapLength, BigInt(VINTF_PAGE));
  });
  does('gives a vIOMMU of the plain type on an SMMU that has a CMDQV, too', async (t) => {
    assert.ok((await plainSlice(t)).viommuId > 0);
  });
});

casesOf('IOMMU_VDEVICE_ALLOC', CMDQV, ({ refuses, does }) => {
  refuses('EINVAL', 'a virtual StreamID of more than 32 bits in a virtual interface', async (t) => {
    const { viommuId, devId } = await slice(t);
    return () => t.iommufd.vdeviceAlloc({ viommuId, devId, virtId: 2n ** 32n });
  });
  does('takes any StreamID of 32 bits in a virtual interface', async (t) => {
    const { viommuId, devId } = await slice(t);
    for (const virtId of [0n, 2n ** 32n - 1n]) {
      const { outVdeviceId: id } = await t.iommufd.vdeviceAlloc({ viommuId, devId, virtId });
      await t.iommufd.destroy({ id });
    }
  });
});

casesOf('IOMMU_VEVENTQ_ALLOC', CMDQV, ({ refuses, does }) => {
  refuses('EEXIST', 'a second queue for errors of a virtual interface', async (t) => {
    const { viommuId } = await slice(t);
    await t.veventq(viommuId, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV);
    return () => t.veventq(viommuId, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV);
  });
  does('has queues for faults and for errors of a virtual interface, side by side', async (t) => {
    const { viommuId } = await slice(t);
    for (const type of [1, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV]) {
      assert.equal((await (await t.veventq(viommuId, type)).file.read(64)).length, 0);
    }
  });
});

casesOf('IOMMU_HW_QUEUE_ALLOC', CMDQV, ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a vIOMMU without a virtual interface', async (t) => {
    const { viommuId } = await plainSlice(t);
    return () => t.iommufd.hwQueueAlloc({ viommuId, type: 1, length: PAGE });
  });
  refuses('EOPNOTSUPP', 'a type that a virtual interface does not have', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { type: 2 });
  });
  refuses('EINVAL', 'an index beyond the queues of a virtual interface', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { index: 2 });
  });
  refuses('EIO', 'the second queue before the first', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { index: 1 });
  });
  refuses('EEXIST', 'an index that has a queue', async (t) => {
    const made = await sliceWithMemory(t);
    await queue(t, made);
    return () => queue(t, made, { nestingParentIova: IOVA + PAGE });
  });
  for (const length of [16n, 48n, 0xfffn]) {
    refuses('EINVAL', `a length of ${length} bytes, which is no power of two of commands`, async (t) => {
      const made = await sliceWithMemory(t);
      return () => queue(t, made, { length });
    });
  }
  refuses('EINVAL', 'an address that is not a multiple of the length', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { nestingParentIova: IOVA + 0x80n, length: 0x100n });
  });
  refuses('ENOENT', 'a queue that the parent does not map', async (t) => {
    const made = await slice(t);
    return () => queue(t, made);
  });
  refuses('ENOENT', 'a queue that the parent maps in part', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { nestingParentIova: IOVA + 15n * PAGE, length: 2n * PAGE });
  });
  refuses('EOVERFLOW', 'a queue at the end of 64 bits', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { nestingParentIova: U64_MAX - PAGE + 2n });
  });
  refuses('ENOMEM', 'a length beyond all memory', async (t) => {
    const made = await sliceWithMemory(t);
    return () => queue(t, made, { length: 2n ** 62n });
  });
  refuses('EFAULT', 'memory where it cannot write the ID of a queue', async (t) => {
    const { viommuId } = await sliceWithMemory(t);
    const rest = { viommuId, type: 1, nestingParentIova: IOVA, length: PAGE };
    return () => t.iommufd.hwQueueAlloc({}, t.unanswerable(HwQueueAlloc, rest));
  });
  does('gives queues of two commands to a page, each after the one before it', async (t) => {
    const made = await sliceWithMemory(t);
    const first = (await queue(t, made, { length: 32n, nestingParentIova: IOVA + 0x20n })).outHwQueueId;
    const second = (await queue(t, made, { index: 1, nestingParentIova: IOVA + PAGE })).outHwQueueId;
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: first })), 'EBUSY');
    await t.iommufd.destroy({ id: second });
    await t.iommufd.destroy({ id: first });
  });
  does("keeps a virtual interface's memory mapped and its vIOMMU in use", async (t) => {
    const made = await sliceWithMemory(t);
    const id = (await queue(t, made)).outHwQueueId;
    const unmap = () => t.iommufd.ioasUnmap({ ioasId: made.ioasId, iova: IOVA, length: 16n * PAGE });
    assert.equal(await errnoOf(unmap), 'EBUSY');
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: made.viommuId })), 'EBUSY');
    await t.iommufd.destroy({ id });
    await unmap();
    await t.iommufd.destroy({ id: made.viommuId });
  });
});

casesOf('mmap', CMDQV, ({ does }) => {
  for (const [what, errno, length, protection, flags, further] of [
    ['a private mapping', 22, VINTF_PAGE, READ_WRITE, PRIVATE, 0n],
    ['an executable mapping', 1, VINTF_PAGE, EXECUTE, SHARED, 0n],
    ['a part', 6, 4096, READ_WRITE, SHARED, 0n],
    ['all but the first page', 6, VINTF_PAGE - 4096, READ_WRITE, SHARED, PAGE],
    ['more than all', 6, VINTF_PAGE + 4096, READ_WRITE, SHARED, 0n],
  ] as const) {
    does(`of a virtual interface refuses ${what} (errno ${errno})`, async (t) => {
      const { offset } = await slice(t);
      assert.equal(t.program.mmap(t.iommufd.fd, length, protection, flags, offset + further).result, -errno);
    });
  }
  does('of a virtual interface keeps its vIOMMU in use', async (t) => {
    const { offset, viommuId } = await slice(t);
    const mapped = t.program.mmap(t.iommufd.fd, VINTF_PAGE, READ_WRITE, SHARED, offset);
    assert.equal(mapped.result, 0);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id: viommuId })), 'EBUSY');
    mapped.unmap();
    await t.iommufd.destroy({ id: viommuId });
  });
});

const V2: ['viommu-v2', 'smmuv3', 'cmdqv'] = ['viommu-v2', 'smmuv3', 'cmdqv'];
const V2_TYPE = 1;

async function v2Slice(t: Setting): Promise<{ viommuId: number; ioasId: number; devId: number }> {
  const { outDevid: devId } = await t.vfio().bindIommufd({ argsz: 16, iommufd: t.v2.fd });
  const { outIoasId: ioasId } = await t.v2.ioasAlloc();
  const { outHwptId: hwptId } = await t.v2.hwptAlloc({ devId, ptId: ioasId, flags: NEST_PARENT });
  const { outViommuId: viommuId } = await t.v2.viommuAlloc({ type: V2_TYPE, devId, hwptId });
  await t.v2.ioasMap({ ioasId, flags: 7, iova: IOVA, length: 16n * PAGE, userVa: t.userVa });
  return { viommuId, ioasId, devId };
}

const v2Data = (t: Setting, rest: Values<typeof VqueueTegra241Cmdqv> = {}) => {
  const data = Object.assign(new VqueueTegra241Cmdqv(), { vcmdqLog2size: 8, vcmdqBase: IOVA }, rest);
  return { dataType: 1, dataLen: data.bytes.length, dataUptr: t.put(data.bytes) };
};

casesOf('IOMMU_VQUEUE_ALLOC', V2, ({ refuses, does }) => {
  for (const [what, data] of [
    ['an index beyond the queues', { vcmdqId: 2 }],
    ['a queue of one command', { vcmdqLog2size: 0 }],
    ['a size that has no place in the register', { vcmdqLog2size: 32 }],
    ['an address of 0', { vcmdqBase: 0n }],
    ['an address with low bits', { vcmdqBase: IOVA + 16n }],
    ['an address above 48 bits', { vcmdqBase: 2n ** 48n }],
    ['an address that the parent does not map', { vcmdqBase: 2n * IOVA }],
  ] as const) {
    refuses('EINVAL', what, async (t) => {
      const { viommuId } = await v2Slice(t);
      return () => t.v2.vqueueAlloc({ viommuId, ...v2Data(t, data) });
    });
  }
  refuses('EINVAL', 'data of another type', async (t) => {
    const { viommuId } = await v2Slice(t);
    return () => t.v2.vqueueAlloc({ viommuId, ...v2Data(t), dataType: 2 });
  });
  refuses('EINVAL', 'data that are too short', async (t) => {
    const { viommuId } = await v2Slice(t);
    return () => t.v2.vqueueAlloc({ viommuId, ...v2Data(t), dataLen: 8 });
  });
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const { viommuId } = await v2Slice(t);
    return () => t.v2.vqueueAlloc({ viommuId, ...v2Data(t), dataUptr: t.nowhere });
  });
  refuses('EFAULT', 'memory where it cannot write the ID', async (t) => {
    const { viommuId } = await v2Slice(t);
    return () => t.v2.vqueueAlloc({}, t.unanswerable(VqueueAlloc, { viommuId, ...v2Data(t) }));
  });
  refuses('EEXIST', 'an index that has a queue', async (t) => {
    const { viommuId } = await v2Slice(t);
    await t.v2.vqueueAlloc({ viommuId, ...v2Data(t) });
    return () => t.v2.vqueueAlloc({ viommuId, ...v2Data(t) });
  });
  does('gives queues in any order, whose memory can be unmapped', async (t) => {
    const { viommuId, ioasId } = await v2Slice(t);
    const { outVqueueId: id } = await t.v2.vqueueAlloc({ viommuId, ...v2Data(t, { vcmdqId: 1 }) });
    await t.v2.vqueueAlloc({ viommuId, ...v2Data(t) });
    await t.v2.ioasUnmap({ ioasId, iova: IOVA, length: 16n * PAGE });
    assert.equal(await errnoOf(() => t.v2.destroy({ id: viommuId })), 'EBUSY');
    await t.v2.destroy({ id });
  });
});

casesOf('mmap', V2, ({ does }) => {
  const map = (t: Setting, length: number, id: number): number =>
    t.program.mmap(t.v2.fd, length, READ_WRITE, SHARED, BigInt(id) * PAGE).result;
  does('of what is no vIOMMU is refused (ENOENT)', async (t) => {
    const { ioasId } = await v2Slice(t);
    assert.deepEqual([map(t, VINTF_PAGE, ioasId), map(t, VINTF_PAGE, 0)], [-2, -2]);
  });
  does('of a vIOMMU that the core manages is refused (EOPNOTSUPP)', async (t) => {
    const { devId, ioasId: ptId } = await v2Slice(t);
    const { outHwptId: hwptId } = await t.v2.hwptAlloc({ devId, ptId, flags: NEST_PARENT });
    const { outViommuId } = await t.v2.viommuAlloc({ type: 0, devId, hwptId });
    assert.equal(map(t, VINTF_PAGE, outViommuId), -95);
  });
  does('of a virtual interface is no longer than its page (EINVAL)', async (t) => {
    const { viommuId } = await v2Slice(t);
    assert.equal(map(t, VINTF_PAGE + 4096, viommuId), -22);
  });
  does('of a virtual interface by the ID of its vIOMMU', async (t) => {
    const { viommuId } = await v2Slice(t);
    const mapped = t.program.mmap(t.v2.fd, VINTF_PAGE, READ_WRITE, SHARED, BigInt(viommuId) * PAGE);
    assert.equal(mapped.result, 0);
    await t.v2.destroy({ id: viommuId });
    mapped.unmap();
  });
});
