/** DIRTY: writes of a device, as a bitmap of IOVA pages. */
import { fail } from '../../abi/errno.ts';
import { TestDirty } from '../../abi/iommufd-test.ts';
import type { MockIommu } from '../../drivers/mock/mock-iommu.ts';
import { hex } from '../format.ts';
import { readUser } from '../user-memory.ts';
import { mockPaging } from './checks.ts';
import type { Operation } from './test-command.ts';

/** More than this many pages in one call is more than a kernel would allocate a bitmap for. */
const MOST_PAGES = 2n ** 33n;

/** @returns the operation for `mock`, whose release decides what counts */
export const dirty =
  (mock: MockIommu): Operation =>
  (command, { id }, payload) => {
    const c = new TestDirty(payload);
    const { iova, length, pageSize, uptr } = c;
    if (!pageSize || !length || iova % pageSize || length % pageSize || !uptr) {
      throw fail('EINVAL', `iova ${hex(iova)}, length ${hex(length)}, page_size ${hex(pageSize)}, uptr ${hex(uptr)}`);
    }
    const domain = mockPaging(command, id);
    if (!domain.tracking) throw fail('EINVAL', `HWPT ${id} does not track writes now`);
    const pages = length / pageSize;
    if (pages > MOST_PAGES) throw fail('ENOMEM', `a bitmap of ${pages} bits is too large`);
    const bitmap = new Uint8Array(Number((pages + 7n) / 8n));
    readUser(command.caller.memory, uptr, bitmap);
    let count = 0n;
    for (let page = 0; page < pages; page++) {
      if (!(bitmap[page >>> 3]! & (1 << (page & 7)))) continue;
      const mapped = domain.setDirty(iova + BigInt(page) * pageSize);
      if (mapped || mock.release.pageTable === 'generic') count++;
    }
    c.outNrDirty = count;
    command.respond();
  };
