/** VFIO's type 1 IOMMU on an iommufd. */
import assert from 'node:assert/strict';
import type { Type1DmaMap, Type1DmaUnmap } from '../../../src/abi/vfio-type1.ts';
import { Type1Info } from '../../../src/abi/vfio-type1.ts';
import type { Values } from '../../../src/client/index.ts';
import { ALL, IOVA, PAGE, type Setting, U64_MAX } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const [TYPE1, TYPE1V2] = [1, 3];
const READ_WRITE = 3;
const UNMAP_ALL = 2;
const SET = 1;

async function compatible(t: Setting, type = TYPE1V2, ioasId?: number): Promise<number> {
  const id = ioasId ?? (await t.ioas());
  await t.iommufd.vfioIoas({ op: SET, ioasId: id });
  await t.iommufd.vfioSetIommu(type);
  return id;
}

const map = (t: Setting, values: Values<typeof Type1DmaMap> = {}) =>
  t.iommufd.vfioIommuMapDma({ flags: READ_WRITE, vaddr: t.userVa, iova: IOVA, size: 4n * PAGE, ...values });

const unmap = (t: Setting, values: Values<typeof Type1DmaUnmap> = {}) =>
  t.iommufd.vfioIommuUnmapDma({ iova: IOVA, size: 4n * PAGE, ...values });

casesOf('VFIO_GET_API_VERSION', [], ({ does }) => {
  does('is 0, with or without an IOAS', async (t) => {
    assert.equal(await t.iommufd.vfioGetApiVersion(), 0);
  });
});

casesOf('VFIO_CHECK_EXTENSION', [], ({ refuses, does }) => {
  refuses('ENODEV', 'to say whether DMA is coherent when no IOAS is set', (t) => () => t.iommufd.vfioCheckExtension(4));
  does('knows type 1, type 1 v2 and UNMAP_ALL, and nothing else', async (t) => {
    const known = [];
    for (const extension of [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]) {
      if (await t.iommufd.vfioCheckExtension(extension)) known.push(extension);
    }
    assert.deepEqual(known, [1, 3, 9]);
  });
  does('says that DMA is coherent as long as there is no device', async (t) => {
    await compatible(t);
    assert.equal(await t.iommufd.vfioCheckExtension(4), 1);
  });
});

casesOf('VFIO_CHECK_EXTENSION', ['mock'], ({ does }) => {
  does('does not say that DMA is coherent for a device that does not enforce it', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    await compatible(t, TYPE1V2, ioasId);
    assert.equal(await t.iommufd.vfioCheckExtension(4), 0);
  });
});

casesOf('VFIO_SET_IOMMU', [], ({ refuses, does }) => {
  refuses('EINVAL', 'a type that is not known', (t) => () => t.iommufd.vfioSetIommu(2));
  refuses('ENODEV', 'a type when no IOAS is set', (t) => () => t.iommufd.vfioSetIommu(TYPE1));
  refuses('EADDRINUSE', 'type 1 when something is mapped that is not aligned to pages', async (t) => {
    const ioasId = await t.ioas();
    await t.map(ioasId, IOVA, 100n);
    await compatible(t, TYPE1V2, ioasId);
    return () => t.iommufd.vfioSetIommu(TYPE1);
  });
  does('switches huge pages off for type 1 only', async (t) => {
    const objectId = await compatible(t, TYPE1V2);
    const hugePages = async () => (await t.iommufd.option({ optionId: 1, op: 1, objectId })).val64;
    assert.equal(await hugePages(), 1n);
    await t.iommufd.vfioSetIommu(TYPE1);
    assert.equal(await hugePages(), 0n);
  });
});

casesOf('VFIO_SET_IOMMU', ['mock'], ({ refuses }) => {
  refuses('EINVAL', 'type 1 when something is mapped for a device', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    await t.map(ioasId);
    await compatible(t, TYPE1V2, ioasId);
    return () => t.iommufd.vfioSetIommu(TYPE1);
  });
});

casesOf('VFIO_IOMMU_GET_INFO', [], ({ refuses, does }) => {
  refuses('EFAULT', 'a null pointer', (t) => () => t.iommufd.vfioIommuGetInfo({}, { address: 0n }));
  refuses('EINVAL', 'an argsz below that of its first release', (t) => () => t.iommufd.vfioIommuGetInfo({ argsz: 15 }));
  refuses('ENODEV', 'when no IOAS is set', (t) => () => t.iommufd.vfioIommuGetInfo());
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    await compatible(t);
    return () => t.iommufd.vfioIommuGetInfo({}, t.unanswerable(Type1Info, {}));
  });
  refuses('EFAULT', 'capabilities where it cannot write them', async (t) => {
    await compatible(t);
    const { address, bytes } = t.program.edge(24);
    bytes.fill(0);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, 72, true);
    return () => t.iommufd.vfioIommuGetInfo({}, { address });
  });
  does('tells how much room its capabilities need, and gives them when there is', async (t) => {
    await compatible(t);
    const short = await t.iommufd.vfioIommuGetInfo();
    assert.deepEqual([short.argsz, short.flags, short.capOffset], [72, 3, 0]);
    const tail = new Uint8Array(short.argsz - 24);
    const { capOffset } = await t.iommufd.vfioIommuGetInfo({}, { tail });
    assert.equal(capOffset, 24);
    assert.deepEqual([...new Uint16Array(tail.slice(0, 4).buffer)], [3, 1]);
  });
});

casesOf('VFIO_IOMMU_MAP_DMA', [], ({ refuses, does }) => {
  refuses('EFAULT', 'a null pointer', (t) => () => t.iommufd.vfioIommuMapDma({}, { address: 0n }));
  refuses('EINVAL', 'an argsz that is too small', (t) => () => map(t, { argsz: 31 }));
  refuses('EINVAL', 'a flag that is not known', (t) => () => map(t, { flags: 4 }));
  refuses('ENODEV', 'when no IOAS is set', (t) => () => map(t));
  refuses('EINVAL', 'a length of 0', async (t) => {
    await compatible(t);
    return () => map(t, { size: 0n });
  });
  refuses('EOVERFLOW', 'user memory beyond the last address', async (t) => {
    await compatible(t);
    return () => map(t, { vaddr: U64_MAX - PAGE + 1n });
  });
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    await compatible(t);
    return () => map(t, { iova: U64_MAX - PAGE + 1n });
  });
  refuses('EEXIST', 'an IOVA that is mapped', async (t) => {
    await compatible(t);
    await map(t);
    return () => map(t);
  });
  refuses('EINVAL', 'parts of pages for type 1', async (t) => {
    await compatible(t, TYPE1);
    return () => map(t, { size: 100n });
  });
  does('maps at the IOVA that it is told, 0 too', async (t) => {
    const ioasId = await compatible(t);
    await map(t, { iova: 0n });
    assert.equal((await t.iommufd.ioasUnmap({ ioasId, iova: 0n, length: 4n * PAGE })).length, 4n * PAGE);
  });
});

casesOf('VFIO_IOMMU_UNMAP_DMA', [], ({ refuses, does }) => {
  refuses('EFAULT', 'a null pointer', (t) => () => t.iommufd.vfioIommuUnmapDma({}, { address: 0n }));
  refuses('EINVAL', 'an argsz that is too small', (t) => () => unmap(t, { argsz: 23 }));
  refuses('EINVAL', 'a flag that is not known, as to get a dirty bitmap', (t) => () => unmap(t, { flags: 1 }));
  refuses('ENODEV', 'when no IOAS is set', (t) => () => unmap(t));
  refuses('EINVAL', 'a range together with UNMAP_ALL', async (t) => {
    await compatible(t);
    return () => unmap(t, { flags: UNMAP_ALL });
  });
  refuses('EINVAL', 'a length of 0', async (t) => {
    await compatible(t);
    return () => unmap(t, { size: 0n });
  });
  refuses('EOVERFLOW', 'IOVAs beyond the last one', async (t) => {
    await compatible(t);
    return () => unmap(t, { iova: U64_MAX });
  });
  refuses('ENOENT', 'a part of a mapping, for type 1 v2', async (t) => {
    await compatible(t);
    await map(t);
    return () => unmap(t, { size: PAGE });
  });
  refuses('EINVAL', 'a part of a page, for type 1', async (t) => {
    await compatible(t, TYPE1);
    await map(t);
    return () => unmap(t, { size: PAGE + 100n });
  });
  refuses('EFAULT', 'memory where it cannot write the length', async (t) => {
    await compatible(t);
    const { address } = t.program.readOnly(struct(24, IOVA, PAGE));
    return () => t.iommufd.vfioIommuUnmapDma({}, { address });
  });
  does('tells that nothing was unmapped, which is no mistake', async (t) => {
    await compatible(t);
    assert.equal((await unmap(t)).size, 0n);
  });
  does('unmaps everything with UNMAP_ALL', async (t) => {
    await compatible(t);
    await map(t);
    await map(t, { iova: 4n * IOVA });
    assert.equal((await unmap(t, { flags: UNMAP_ALL, iova: 0n, size: 0n })).size, 8n * PAGE);
  });
  does('unmaps parts of mappings for type 1', async (t) => {
    await compatible(t, TYPE1);
    await map(t);
    assert.equal((await unmap(t, { iova: IOVA + PAGE, size: PAGE })).size, PAGE);
    assert.equal((await unmap(t)).size, 3n * PAGE);
  });
});

casesOf('VFIO_IOMMU_UNMAP_DMA', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'for type 1 a part of what an access has pinned', async (t) => {
    const ioasId = await compatible(t, TYPE1);
    await map(t);
    const { fd } = await t.access(ioasId);
    await t.iommufd.test.accessPages(fd, { iova: IOVA, length: PAGE });
    return () => unmap(t, { size: PAGE });
  });
  refuses('EOPNOTSUPP', 'for type 1 a part of a dma-buf', async (t) => {
    const ioasId = await compatible(t, TYPE1);
    const { fd } = await t.dmabuf();
    await t.iommufd.ioasMapFile({ ioasId, fd, flags: ALL, iova: IOVA, length: 4n * PAGE });
    return () => unmap(t, { size: PAGE });
  });
  does('keeps pinned for type 1 what is not unmapped', async (t) => {
    const { ioasId, hwptId } = await t.ioasWithDevice();
    await compatible(t, TYPE1, ioasId);
    await map(t);
    await unmap(t, { iova: IOVA + PAGE, size: PAGE });
    await t.iommufd.test.checkMap(hwptId, { iova: IOVA, length: PAGE, uptr: t.userVa });
    const gone = () => t.iommufd.test.checkMap(hwptId, { iova: IOVA + PAGE, length: PAGE, uptr: t.userVa + PAGE });
    assert.equal(await errnoOf(gone), 'EINVAL');
  });
});

function struct(argsz: number, iova: bigint, size: bigint): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, argsz, true);
  view.setBigUint64(8, iova, true);
  view.setBigUint64(16, size, true);
  return bytes;
}
