/** What descriptors that an iommufd gives out refuse. */
import assert from 'node:assert/strict';
import { IOMMU_VEVENTQ_TYPE_SELFTEST } from '../../../src/abi/iommufd-test.ts';
import type { OpenedFile } from '../../../src/client/index.ts';
import type { Setting } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const [ENODEV, EINVAL] = [-19, -22];
const [READ_WRITE, SHARED] = [3, 1];

const DESCRIPTORS: Record<string, { open: (t: Setting) => Promise<OpenedFile>; mmap: number; reads: boolean }> = {
  'fault queue': { open: async (t) => (await t.faultQueue()).file, mmap: ENODEV, reads: true },
  vEVENTQ: {
    open: async (t) => (await t.veventq((await t.nesting()).viommuId, IOMMU_VEVENTQ_TYPE_SELFTEST)).file,
    mmap: ENODEV,
    reads: true,
  },
  access: { open: async (t) => t.access(await t.ioas()), mmap: ENODEV, reads: false },
  'dma-buf': { open: (t) => t.dmabuf(), mmap: EINVAL, reads: false },
};

for (const [kind, { open, mmap, reads }] of Object.entries(DESCRIPTORS)) {
  casesOf(kind, kind === 'fault queue' ? [] : ['mock'], ({ does }) => {
    does(`cannot be mapped (errno ${-mmap})`, async (t) => {
      const { fd } = await open(t);
      assert.equal(t.program.mmap(fd, 4096, READ_WRITE, SHARED, 0n).result, mmap);
    });
    does('has no ioctls (ENOTTY)', async (t) => {
      const file = await open(t);
      assert.equal(await errnoOf(() => file.callNumber(0x3b81)), 'ENOTTY');
    });
    if (reads) return;
    does('cannot be read or written (EINVAL)', async (t) => {
      const file = await open(t);
      assert.equal(await errnoOf(() => file.read(8)), 'EINVAL');
      assert.equal(await errnoOf(() => file.write(new Uint8Array(8))), 'EINVAL');
    });
  });
}
