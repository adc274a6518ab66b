/** MD_CHECK_MAP, MD_CHECK_REFS, MD_CHECK_IOTLB and DEV_CHECK_CACHE: EINVAL (EIO for refs) when the test is wrong. */
import { fail } from '../../abi/errno.ts';
import { TestCheckDevCache, TestCheckIotlb, TestCheckMap, TestCheckRefs } from '../../abi/iommufd-test.ts';
import type { MockDevice } from '../../drivers/mock/device.ts';
import type { MockNestedDomain } from '../../drivers/mock/nested-domain.ts';
import type { MockPagingDomain } from '../../drivers/mock/paging-domain.ts';
import type { Command } from '../command.ts';
import { IommufdDevice } from '../device.ts';
import { hex } from '../format.ts';
import { HwptNested } from '../hwpt-nested.ts';
import { HwptPaging } from '../hwpt-paging.ts';
import { Ioas } from '../ioas.ts';
import { PAGE_BYTES, type Pages } from '../pages.ts';
import { U64_MAX } from '../u64.ts';
import type { Operation } from './test-command.ts';
import { pageAt, UserPages } from './user-pages.ts';

const PAGE = Number(PAGE_BYTES);

export const mockPaging = ({ context }: Command, id: number): MockPagingDomain =>
  context.objects.get(id, HwptPaging, 'id').domain as MockPagingDomain;

/** Does the HWPT map [iova, iova + length) to the memory at `uptr`? */
export const checkMap: Operation = (command, { id }, payload) => {
  const { iova, length, uptr } = new TestCheckMap(payload);
  const domain = mockPaging(command, id);
  const step = domain.pageSizes & -domain.pageSizes;
  if ((iova | length | uptr) & (step - 1n) || uptr + length > U64_MAX) {
    throw fail(
      'EINVAL',
      `iova ${hex(iova)}, length ${hex(length)} and uptr ${hex(uptr)} are not aligned to ${hex(step)}`,
    );
  }
  const pages = new UserPages(command, uptr, length);
  try {
    for (let done = 0n; done < length; done += step) {
      const expected = pages.physical(uptr + done);
      if (domain.physical(iova + done) !== expected)
        throw fail('EINVAL', `${hex(iova + done)} is not mapped to ${hex(uptr + done)}`);
    }
  } finally {
    pages.release();
  }
};

/** Is each page of the memory at `uptr` pinned by `refs` pieces of mapped memory? */
export const checkRefs: Operation = (command, _cmd, payload) => {
  const { length, uptr, refs } = new TestCheckRefs(payload);
  if ((length | uptr) % PAGE_BYTES || uptr + length > U64_MAX) {
    throw fail('EINVAL', `length ${hex(length)} and uptr ${hex(uptr)} are not aligned to ${hex(PAGE)}`);
  }
  const { memory } = command.caller;
  const pieces = [...mappedPages(command)];
  for (let at = uptr; at < uptr + length; at += PAGE_BYTES) {
    const found = pageAt(memory, at);
    if (!found) throw fail('EFAULT', `there is no memory at ${hex(at)}`);
    const pins = pieces.filter((pages) => pages.isPinned(found.object, found.page)).length;
    if (pins !== refs) throw fail('EIO', `the page at ${hex(at)} is pinned ${pins} times, not ${refs}`);
  }
};

/** What the IOASes of this iommufd map. */
function mappedPages({ context }: Command): Set<Pages> {
  const all = new Set<Pages>();
  for (const object of context.objects.all()) {
    if (object instanceof Ioas) for (const area of object.table.areas) all.add(area.pages);
  }
  return all;
}

export const checkIotlb: Operation = ({ context }, { id }, payload) => {
  const c = new TestCheckIotlb(payload);
  const { iotlb } = context.objects.get(id, HwptNested, 'id').domain as MockNestedDomain;
  if (iotlb[c.id] !== c.iotlb)
    throw fail('EINVAL', `IOTLB entry ${c.id} is ${hex(iotlb[c.id] ?? -1)}, not ${hex(c.iotlb)}`);
};

export const checkDevCache: Operation = ({ context }, { id }, payload) => {
  const c = new TestCheckDevCache(payload);
  const { cache } = context.objects.get(id, IommufdDevice, 'id').physical as MockDevice;
  if (cache[c.id] !== c.cache)
    throw fail('EINVAL', `cache entry ${c.id} is ${hex(cache[c.id] ?? -1)}, not ${hex(c.cache)}`);
};
