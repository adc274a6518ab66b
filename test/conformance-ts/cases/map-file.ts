/** IOAS_MAP_FILE and IOAS_CHANGE_PROCESS. */
import assert from 'node:assert/strict';
import { IoasMapFile } from '../../../src/abi/iommufd.ts';
import type { Values } from '../../../src/client/index.ts';
import { MEMFD_BYTES } from '../program.ts';
import { ALL, FIXED, IOVA, PAGE, READ_WRITE, type Setting, U64_MAX } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const ONE = { flags: ALL, iova: IOVA, length: PAGE };
const CLOSED = 123_456;

const mapFile = (t: Setting, values: Values<typeof IoasMapFile>) => t.iommufd.ioasMapFile({ ...ONE, ...values });

casesOf('IOMMU_IOAS_MAP_FILE', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => mapFile(t, { flags: ALL | 8 }));
  refuses('EOVERFLOW', 'the highest number as an IOVA', (t) => () => mapFile(t, { iova: U64_MAX }));
  refuses('EOVERFLOW', 'the highest number as a length', (t) => () => mapFile(t, { length: U64_MAX }));
  refuses('EINVAL', 'memory that is neither to be read nor written', (t) => () => mapFile(t, { flags: FIXED }));
  refuses('ENOENT', 'an IOAS that does not exist', (t) => () => mapFile(t, { ioasId: 7 }));
  refuses('EINVAL', 'a length of 0, before it looks at the descriptor', async (t) => {
    const ioasId = await t.ioas();
    return () => mapFile(t, { ioasId, fd: -1, length: 0n });
  });
  refuses('EOVERFLOW', 'a part of the file beyond the last offset', async (t) => {
    const ioasId = await t.ioas();
    return () => mapFile(t, { ioasId, fd: -1, start: U64_MAX, length: PAGE });
  });
  refuses('EBADF', 'a descriptor that is not open', async (t) => {
    const ioasId = await t.ioas();
    return () => mapFile(t, { ioasId, fd: CLOSED });
  });
  refuses('EBADF', 'a negative descriptor', async (t) => {
    const ioasId = await t.ioas();
    return () => mapFile(t, { ioasId, fd: -1 });
  });
  refuses('EINVAL', 'a length that overflows when rounded up to pages', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = t.memfd();
    return () => mapFile(t, { ioasId, fd, iova: 0n, length: U64_MAX - PAGE + 2n });
  });
  refuses('EEXIST', 'an IOVA that is mapped', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = t.memfd();
    await mapFile(t, { ioasId, fd });
    return () => mapFile(t, { ioasId, fd });
  });
  refuses('EFAULT', 'memory where it cannot write the IOVA', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = t.memfd();
    return () => t.iommufd.ioasMapFile({}, t.unanswerable(IoasMapFile, { ...ONE, ioasId, fd }));
  });
  does('maps a part of a file, and keeps it when the descriptor is closed', async (t) => {
    const ioasId = await t.ioas();
    const file = t.memfd();
    const { iova } = await mapFile(t, { ioasId, fd: file.fd, start: PAGE, flags: READ_WRITE });
    assert.equal(iova, PAGE);
    t.end(file);
    assert.equal((await t.iommufd.ioasUnmap({ ioasId, iova, length: PAGE })).length, PAGE);
  });
});

casesOf('IOMMU_IOAS_MAP_FILE', ['mock'], ({ refuses, does }) => {
  refuses('EINVAL', 'a part beyond the end of the file, once a device is to use it', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    const { fd } = t.memfd();
    return () => mapFile(t, { ioasId, fd, start: MEMFD_BYTES });
  });
  refuses('EINVAL', 'a file that is no memory, once a device is to use it', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    return () => mapFile(t, { ioasId, fd: t.iommufd.fd });
  });
  refuses('EINVAL', 'a part beyond the end of a dma-buf', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = await t.dmabuf(0x1000);
    return () => mapFile(t, { ioasId, fd, length: 2n * PAGE });
  });
  refuses('ENODEV', 'a dma-buf that is taken back', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = await t.dmabuf();
    await t.iommufd.test.dmabufRevoke(0, { dmabufFd: fd, revoked: 1 });
    return () => mapFile(t, { ioasId, fd });
  });
  does('maps a dma-buf, out of which every domain is taken when it is taken back', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    const { fd } = await t.dmabuf();
    await mapFile(t, { ioasId, fd });
    await t.iommufd.test.dmabufRevoke(0, { dmabufFd: fd, revoked: 1 });
    assert.equal((await t.iommufd.ioasUnmap({ ioasId, iova: IOVA, length: PAGE })).length, PAGE);
  });
  does('pins a file that a device is to use', async (t) => {
    const { ioasId } = await t.ioasWithDevice();
    const { fd } = t.memfd();
    await mapFile(t, { ioasId, fd, length: MEMFD_BYTES });
    assert.equal((await t.iommufd.ioasUnmap({ ioasId, iova: IOVA, length: MEMFD_BYTES })).length, MEMFD_BYTES);
  });
});

casesOf('IOMMU_IOAS_CHANGE_PROCESS', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a reserved field', (t) => () => t.iommufd.ioasChangeProcess({ reserved: 1 }));
  refuses('EINVAL', "as long as a process's memory is mapped", async (t) => {
    await t.map(await t.ioas());
    return () => t.iommufd.ioasChangeProcess();
  });
  does('takes over files', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = t.memfd();
    await mapFile(t, { ioasId, fd });
    await t.iommufd.ioasChangeProcess();
  });
  does('has nothing to do in an empty iommufd', async (t) => {
    await t.iommufd.ioasChangeProcess();
  });
});

casesOf('IOMMU_IOAS_CHANGE_PROCESS', ['mock'], ({ refuses }) => {
  refuses('EINVAL', 'as long as a dma-buf is mapped', async (t) => {
    const ioasId = await t.ioas();
    const { fd } = await t.dmabuf();
    await mapFile(t, { ioasId, fd });
    return () => t.iommufd.ioasChangeProcess();
  });
});

casesOf('IOMMU_IOAS_CHANGE_PROCESS', ['mock', 'limits'], ({ refuses }) => {
  refuses('ENOMEM', 'a process that may not pin as much, and changes nothing', async (t) => {
    t.program.limit(16);
    const { ioasId } = await t.ioasWithDevice();
    const { fd } = t.memfd();
    await mapFile(t, { ioasId, fd, length: MEMFD_BYTES });
    t.program.limit(1);
    return async () => {
      assert.equal(await errnoOf(() => t.iommufd.ioasChangeProcess()), 'ENOMEM');
      await t.iommufd.ioasChangeProcess();
    };
  });
});
