/** The type 1 IOMMU of a container with groups in it: what their devices reach. */
import assert from 'node:assert/strict';
import { Iommufd } from '../../../src/client/index.ts';
import { IOVA, PAGE, type Setting } from '../setting.ts';
import { bound, CopyEngine, text } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';
import { contained, GROUPS, inGroup, MEMORY_BYTES } from '../vfio.ts';

const [TYPE1, TYPE1V2] = [1, 3];
const READ_WRITE = 3;
const [READ_ONLY, UNMAP_ALL] = [1, 2];
const MSI_WINDOW = 0x800_0000n;
const DMA_IS_COHERENT = 4;
const DIRTY_PAGES = 0x3b64 + 17;

/** vfio0 through its group, with the setting's memory at IOVA. */
async function mapped(t: Setting, path: string, type = TYPE1V2, flags = READ_WRITE) {
  const { container, group } = await contained(t, 0, t.file(Iommufd.open(t.program, path)));
  await container.vfioSetIommu(type);
  const vfio = await inGroup(t, group);
  const map = (values: object = {}) =>
    container.vfioIommuMapDma({ flags, vaddr: t.userVa, iova: IOVA, size: MEMORY_BYTES, ...values });
  await map();
  return { container, group, map, engine: new CopyEngine(t, vfio), vfio };
}

/** [start, last] of each range that GET_INFO lists. */
async function usableRanges(container: Iommufd): Promise<bigint[][]> {
  const { argsz } = await container.vfioIommuGetInfo();
  const tail = new Uint8Array(argsz - 24);
  const { capOffset } = await container.vfioIommuGetInfo({}, { tail });
  const bytes = new DataView(tail.buffer);
  for (let at = capOffset - 24; at >= 0; at = bytes.getUint32(at + 4, true) - 24) {
    if (bytes.getUint16(at, true) !== 1) continue;
    return Array.from({ length: bytes.getUint32(at + 8, true) }, (_, i) =>
      [0, 8].map((field) => bytes.getBigUint64(at + 16 + 16 * i + field, true)),
    );
  }
  throw new Error('no capability with IOVA ranges');
}

for (const path of ['/dev/vfio/vfio', '/dev/iommu']) {
  const names = (what: string): string => `${what} (container ${path})`;

  casesOf('VFIO_CHECK_EXTENSION', GROUPS, ({ does }) => {
    does(names('says that DMA is coherent of a device whose SMMU has it so, as for nesting'), async (t) => {
      const { container } = await mapped(t, path);
      assert.equal(await container.vfioCheckExtension(DMA_IS_COHERENT), 1);
    });
  });

  casesOf('VFIO_SET_IOMMU', GROUPS, ({ refuses, does }) => {
    refuses('EINVAL', names('a type that is not known'), async (t) => {
      const { container } = await contained(t, 0, t.file(Iommufd.open(t.program, path)));
      return () => container.vfioSetIommu(8);
    });
    refuses('EINVAL', names('type 1 when something is mapped for a device'), async (t) => {
      const { container } = await mapped(t, path);
      return () => container.vfioSetIommu(TYPE1);
    });
    does(names('takes a type again, and another one while nothing is mapped'), async (t) => {
      const { container } = await contained(t, 0, t.file(Iommufd.open(t.program, path)));
      for (const type of [TYPE1V2, TYPE1V2, TYPE1]) assert.equal(await container.vfioSetIommu(type), 0);
    });
  });

  casesOf('VFIO_IOMMU_GET_INFO', GROUPS, ({ does }) => {
    does(names('leaves the window of messages out of the IOVAs, once a device is there'), async (t) => {
      const { container } = await mapped(t, path);
      const within = (await usableRanges(container)).filter(
        ([start, last]) => start! <= MSI_WINDOW && MSI_WINDOW <= last!,
      );
      assert.deepEqual(within, []);
    });
  });

  casesOf('VFIO_IOMMU_MAP_DMA', GROUPS, ({ refuses, does }) => {
    refuses('EINVAL', names('the window of messages of a device that is there'), async (t) => {
      const { map } = await mapped(t, path);
      return () => map({ iova: MSI_WINDOW, size: PAGE });
    });
    refuses('EEXIST', names('IOVAs that are mapped'), async (t) => (await mapped(t, path)).map);
    refuses('EFAULT', names('what is no memory'), async (t) => {
      const { map } = await mapped(t, path);
      const vaddr = t.nowhere;
      return () => map({ vaddr, iova: IOVA + MEMORY_BYTES, size: PAGE });
    });
    does(names('has DMA of the device reach memory'), async (t) => {
      const { engine } = await mapped(t, path);
      text(t, 0, 'by the group');
      assert.equal(await engine.copy(IOVA, IOVA + PAGE), true);
      assert.equal(text(t, 4096), 'by the group');
    });
    does(names('lets the device only read what is mapped without WRITE'), async (t) => {
      const { engine, map } = await mapped(t, path);
      const readable = IOVA + MEMORY_BYTES;
      await map({ iova: readable, size: PAGE, flags: READ_ONLY });
      assert.equal(await engine.copy(readable, IOVA + PAGE), true);
      assert.equal(await engine.copy(IOVA + PAGE, readable), false);
    });
    does(names('maps for every group in the container'), async (t) => {
      const { container, engine } = await mapped(t, path);
      const { group } = await contained(t, 1, container);
      const other = new CopyEngine(t, await inGroup(t, group, 1));
      for (const each of [engine, other]) assert.equal(await each.copy(IOVA, IOVA + PAGE), true);
    });
    does(names('maps before there is a device, too'), async (t) => {
      const { container, group } = await contained(t, 0, t.file(Iommufd.open(t.program, path)));
      await container.vfioSetIommu(TYPE1V2);
      await container.vfioIommuMapDma({ flags: READ_WRITE, vaddr: t.userVa, iova: IOVA, size: MEMORY_BYTES });
      assert.equal(await new CopyEngine(t, await inGroup(t, group)).copy(IOVA, IOVA + PAGE), true);
    });
  });

  casesOf('VFIO_IOMMU_UNMAP_DMA', GROUPS, ({ refuses, does }) => {
    refuses('ENOENT', names('a part of a mapping, for type 1 v2'), async (t) => {
      const { container } = await mapped(t, path);
      return () => container.vfioIommuUnmapDma({ iova: IOVA, size: PAGE });
    });
    does(names('takes from the device what is unmapped, for type 1 a part'), async (t) => {
      const { container, engine } = await mapped(t, path, TYPE1);
      assert.equal((await container.vfioIommuUnmapDma({ iova: IOVA, size: PAGE })).size, PAGE);
      assert.equal(await engine.copy(IOVA, IOVA + PAGE), false);
      assert.equal(await engine.copy(IOVA + PAGE, IOVA + 2n * PAGE), true);
    });
    does(names('takes everything from the device'), async (t) => {
      const { container, engine } = await mapped(t, path);
      assert.equal((await container.vfioIommuUnmapDma({ flags: UNMAP_ALL })).size, MEMORY_BYTES);
      assert.equal(await engine.copy(IOVA, IOVA + PAGE), false);
    });
  });

  casesOf('VFIO container', GROUPS, ({ refuses, does }) => {
    refuses('ENOTTY', names('VFIO_IOMMU_DIRTY_PAGES'), async (t) => {
      const { container } = await mapped(t, path);
      return () => container.callNumber(DIRTY_PAGES);
    });
    does(names('goes on for an open device when the group is closed'), async (t) => {
      const { container, group, engine } = await mapped(t, path);
      t.end(group);
      assert.equal(await engine.copy(IOVA, IOVA + PAGE), true);
      await container.vfioIommuUnmapDma({ iova: IOVA, size: MEMORY_BYTES });
      assert.equal(await engine.copy(IOVA, IOVA + PAGE), false);
    });
    does(names('is left by a device when the last file of it is closed'), async (t) => {
      const { container, group, vfio } = await mapped(t, path);
      const again = await inGroup(t, group);
      t.end(vfio);
      const { ioasId } = await container.vfioIoas();
      assert.equal(await errnoOf(() => container.destroy({ id: ioasId })), 'EBUSY');
      t.end(again);
      await container.destroy({ id: ioasId });
      t.end(group);
      await bound(t);
    });
  });
}

casesOf('VFIO_GROUP_SET_CONTAINER', GROUPS, ({ refuses, does }) => {
  /** A container with a page of the window of messages mapped. */
  const withWindow = async (t: Setting, path: string): Promise<Iommufd> => {
    const container = t.file(Iommufd.open(t.program, path));
    const { outIoasId: ioasId } = await container.ioasAlloc();
    await container.vfioIoas({ op: 1, ioasId });
    await container.vfioIommuMapDma({ flags: READ_WRITE, vaddr: t.userVa, iova: MSI_WINDOW, size: PAGE });
    return container;
  };
  refuses('EINVAL', 'a container that maps the window of messages (container /dev/vfio/vfio)', async (t) => {
    const container = await withWindow(t, '/dev/vfio/vfio');
    return () => contained(t, 0, container);
  });
  does('takes an iommufd that maps it, which refuses the device (container /dev/iommu)', async (t) => {
    const { group } = await contained(t, 0, await withWindow(t, '/dev/iommu'));
    assert.equal(await errnoOf(() => inGroup(t, group)), 'EADDRINUSE');
  });
});
