/**
 * What no case can reach, and why: refusals of the engine that other tests reach, and errnos of Linux 7.1 that take a race,
 * a broken driver or a failed allocation (those are swept by failure-sweep.test.ts).
 */

export interface Unreached {
  readonly file: string;
  /** A part of the call of fail(). */
  readonly text: string;
  readonly why: string;
}

const NOT_ATTACHED = 'the test driver attaches an access as it makes it';
const WHILE_CLOSING = 'only during the notification of an unmap, in which the test driver makes no calls';
const OLDER = 'an older release, or a newer one';
const CHECKED_BEFORE = 'the core has checked it before it calls the driver';

export const UNREACHED: readonly Unreached[] = [
  { file: 'src/iommufd/access.ts', text: 'is attached to no IOAS`); this.attach', why: NOT_ATTACHED },
  { file: 'src/iommufd/access.ts', text: 'is attached to no IOAS`); return', why: NOT_ATTACHED },
  { file: 'src/iommufd/access.ts', text: 'was mapped without WRITEABLE', why: 'a writeable area has writable pages' },
  { file: 'src/iommufd/access.ts', text: 'is being unmapped', why: WHILE_CLOSING },
  { file: 'src/iommufd/io-pagetable.ts', text: 'is being unmapped', why: WHILE_CLOSING },
  { file: 'src/iommufd/context.ts', text: '/dev/iommu cannot be mapped', why: OLDER },
  { file: 'src/iommufd/fault-queue.ts', text: 'bytes of a group', why: OLDER },
  { file: 'src/iommufd/veventq.ts', text: 'bytes of an event', why: OLDER },
  { file: 'src/iommufd/vfio-compat/type1-map.ts', text: 'nothing is mapped in the', why: OLDER },
  { file: 'src/drivers/mock/mock-iommu.ts', text: 'a paging domain of this release takes no data', why: OLDER },
  { file: 'src/iommufd/device.ts', text: 'is not cache coherent', why: 'every device of the machines is' },
  { file: 'src/iommufd/device.ts', text: 'the group of', why: 'every device of these machines is alone in its group' },
  {
    file: 'src/iommufd/group.ts',
    text: 'another iommufd has the group',
    why: 'the same; VFIO refuses the device first',
  },
  {
    file: 'src/iommufd/io-pagetable.ts',
    text: 'may be mapped by huge pages',
    why: 'only type 1 cuts areas, and only when huge pages are off',
  },
  { file: 'src/iommufd/io-pagetable.ts', text: 'the smallest page of the domain', why: 'these SMMUs have 4 KiB pages' },
  { file: 'src/iommufd/io-pagetable.ts', text: 'is not given back', why: 'the test driver always gives pins back' },
  { file: 'src/iommufd/pages.ts', text: 'no physical frames are left', why: "takes a full machine's memory" },
  {
    file: 'src/iommufd/user-memory.ts',
    text: 'bytes longer than the known one',
    why: 'a kernel searches any tail for a byte that is not 0; here one of more than 1 MiB is refused unread',
  },
  { file: 'src/iommufd/user-memory.ts', text: 'does not exist', why: 'drivers count to entry_num' },
  { file: 'src/iommufd/viommu.ts', text: 'this machine allows one', why: 'a policy of machines, which no kernel has' },
  { file: 'src/drivers/mock/device.ts', text: 'the parent is not of the mock driver', why: CHECKED_BEFORE },
  { file: 'src/drivers/mock/mock-iommu.ts', text: 'of a nested mock domain', why: CHECKED_BEFORE },
  { file: 'src/drivers/mock/viommu.ts', text: 'the parent does not map', why: 'a kernel calls that a bug of its own' },
];
