/** Sequences that once went wrong, here or in an engine with a defect put in on purpose; as graph.test.ts prints them. */
import { describe, expect, it } from 'vitest';
import { replay } from './sequences.ts';
import type { StepText } from './world.ts';

interface Regression {
  readonly what: string;
  readonly machine: string;
  readonly abi: string;
  readonly steps: readonly StepText[];
}

const FOUND: readonly Regression[] = [
  {
    what: 'a page of a file is given back with its IOAS',
    machine: 'mock',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['ioasMapFile', [0]], // IOAS_MAP_FILE 0x1000 at 0x0 of a file in IOAS 1 at 0x1000000: ok
      ['mockDomain', [0]], // MOCK_DOMAIN_FLAGS 0 attached to 1 (ioas): ok
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
    ],
  },
  {
    what: 'pins of an access stay behind when it goes to another IOAS',
    machine: 'mock',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['createAccess', [0]], // CREATE_ACCESS to IOAS 1, flags 1: ok
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['ioasMap', [0]], // IOAS_MAP 0x1000 of 0x700a00000000 in IOAS 1 at 0x1000000, prot 3: ok
      ['accessPages', [0]], // ACCESS_PAGES 0x1000000 to 0x1000fff of IOAS 1 by access 2: ok
      ['accessReplaceIoas', [0, 0, 5409, 0, 0, 0, 0, 0, 0, 0]], // ACCESS_REPLACE_IOAS of access 2 by 3: ok
    ],
  },
  {
    what: 'a dma-buf that is taken back leaves every domain',
    machine: 'mock',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['mockDomain', [0]], // MOCK_DOMAIN_FLAGS 0 attached to 1 (ioas): ok
      ['dmabufGet', [0, 0, 3262, 0, 0, 0, 0, 0, 0, 0]], // DMABUF_GET of 3 pages: ok
      ['ioasMapFile', [0, 0, 0, 18627, 0, 0, 0, 0, 0, 0]], // IOAS_MAP_FILE 0x1000 of a dma-buf in IOAS 1: ok
      ['dmabufRevoke', [0]], // DMABUF_REVOKE 0 of descriptor 4: ok
    ],
  },
  {
    what: 'memory that changes hands is paid by one process only',
    machine: 'mock',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['spawn', [0]], // a new process: ok
      ['mockDomain', [0]], // MOCK_DOMAIN_FLAGS 0 attached to 1 (ioas): ok
      ['ioasMapFile', [951, 0, 0, 0, 0, 0, 0, 0, 0, 0]], // IOAS_MAP_FILE 0x1000 of a file in IOAS 1 at 0x1000000: ok
      ['ioasChangeProcess', [0]], // IOAS_CHANGE_PROCESS to 10: ok
    ],
  },
  {
    what: 'DMA to what was unmapped aborts, whatever the caches hold',
    machine: 'two-smmus',
    abi: 'linux-7.1',
    steps: [
      ['vfioOpen', [0]], // open vfio0: ok
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['ioasMap', [0]], // IOAS_MAP 0x1000 of 0x700a00000000 in IOAS 1 at 0x1000000, prot 3: ok
      ['ioasMap', [0, 0, 0, 20, 0, 0, 0, 0, 0, 0]], // IOAS_MAP 0x1000 of 0x700a00000000 in IOAS 1 at 0x1001000: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['vfioAttach', [0]], // ATTACH_IOMMUFD_PT of vfio0 to 1 (ioas): ok
      ['ioasUnmap', [0]], // IOAS_UNMAP 0x1000000 to 0x1000fff of IOAS 1: ok
    ],
  },
  {
    what: 'the MSI window goes with the attachment',
    machine: 'two-smmus',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['vfioOpen', [0]], // open vfio0: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['vfioAttach', [0]], // ATTACH_IOMMUFD_PT of vfio0 to 1 (ioas): ok
      ['vfioDetach', [0]], // DETACH_IOMMUFD_PT of vfio0: ok
    ],
  },
  {
    what: 'a PASID that is detached reaches nothing',
    machine: 'page-faults',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['ioasMap', [0]], // IOAS_MAP 0x1000 of 0x700a00000000 in IOAS 1 at 0x1000000, prot 3: ok
      ['vfioOpen', [0]], // open vfio0: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['hwptAllocPaging', [2]], // HWPT_ALLOC of IOAS 1 for device 2, flags 0x8: ok
      ['vfioAttach', [0]], // ATTACH_IOMMUFD_PT of vfio0 to 3 (hwpt-paging): ok
      ['vfioPasidAttach', [0]], // ATTACH_IOMMUFD_PT of PASID 1 of vfio0 to 3 (hwpt-paging): ok
      ['vfioPasidDetach', [0]], // DETACH_IOMMUFD_PT of PASID 1 of vfio0: ok
    ],
  },
  {
    what: 'a device that its group has opened twice is bound until the second close',
    machine: 'two-smmus',
    abi: 'linux-7.1',
    steps: [
      ['groupOpen', [0]], // open /dev/vfio/0: ok
      ['groupSetContainer', [0]], // VFIO_GROUP_SET_CONTAINER of group 0 to a iommufd: ok
      ['groupGetDevice', [0]], // VFIO_GROUP_GET_DEVICE_FD of group 0: ok
      ['groupGetDevice', [0]], // VFIO_GROUP_GET_DEVICE_FD of group 0, again: ok
      ['close', [1]], // close vfio 5 of 10: ok
      ['groupStatus', [0]], // VFIO_GROUP_GET_STATUS of group 0: ok
      ['close', [1]], // close vfio 6 of 10: ok
    ],
  },
  {
    what: 'what a parent loses, a guest that is nested on it loses',
    machine: 'two-smmus',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['vfioOpen', [0]], // open vfio0: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['hwptAllocPaging', [1]], // HWPT_ALLOC of IOAS 1 for device 2, flags 0x1: ok
      ['viommuAlloc', [0]], // VIOMMU_ALLOC on HWPT 3 for device 2: ok
      ['vdeviceAlloc', [0]], // VDEVICE_ALLOC 1 of vIOMMU 4 for device 2: ok
      ['hwptAllocNested', [2]], // HWPT_ALLOC on viommu 4 for device 2, flags 0x0, stage1: ok
      ['guestMap', [0]], // IOAS_MAP of the guest's tables of 10 in IOAS 1: ok
      ['ioasMap', [0]], // IOAS_MAP 0x1000 of 0x700a00000000 in IOAS 1 at 0x1000000, prot 3: ok
      ['vfioAttach', [1]], // ATTACH_IOMMUFD_PT of vfio0 to 6 (hwpt-nested): ok
      ['ioasUnmap', [0]], // IOAS_UNMAP 0x1000000 to 0x1000fff of IOAS 1: ok
    ],
  },
  {
    what: 'a write is found that was made after the bitmap was read and cleared',
    machine: 'one-smmu',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['vfioOpen', [0]], // open vfio0: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['ioasMap', [0]], // IOAS_MAP 0x1000 of 0x700a00000000 in IOAS 1 at 0x1000000, prot 3: ok
      ['hwptAllocPaging', [4]], // HWPT_ALLOC of IOAS 1 for device 2, flags 0x2: ok
      ['vfioAttach', [0]], // ATTACH_IOMMUFD_PT of vfio0 to 3 (hwpt-paging): ok
      ['getDirtyBitmap', [0]], // HWPT_GET_DIRTY_BITMAP of HWPT 3 at 0x1000000: ok
      ['dma', [0, 1, 0]], // write by vfio0, PASID null, at 0x1000ff8: done: ok
      ['getDirtyBitmap', [2]], // HWPT_GET_DIRTY_BITMAP of HWPT 3 at 0x1000000, NO_CLEAR: ok
    ],
  },
  {
    what: 'DMA that waits is refused when its device is attached to something else',
    machine: 'page-faults',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['vfioOpen', [0]], // open vfio0: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['faultQueueAlloc', [0]], // FAULT_QUEUE_ALLOC: ok
      ['hwptAllocPaging', [4]], // HWPT_ALLOC of IOAS 1 for device 2, flags 0x4: ok
      ['vfioAttach', [0]], // ATTACH_IOMMUFD_PT of vfio0 to 4 (hwpt-paging): ok
      ['dma', [0]], // read by vfio0, PASID null, at 0x1000ff8: waiting: ok
      ['faultRead', [0]], // read of fault queue 3: ok
      ['vfioAttach', [3]], // ATTACH_IOMMUFD_PT of vfio0 to 1 (ioas): ok
    ],
  },
  {
    what: 'a group whose second device is refused goes back to what it was attached to, whatever fails on the way',
    machine: 'page-faults with groups',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['vfioOpen', [0]], // open vfio0: ok
      ['vfioBind', [0]], // BIND_IOMMUFD of vfio0: ok
      ['ioasMap', [17148, 6092, 11693, 12060]], // IOAS_MAP 0x4000 of 0x700a0000c000 in IOAS 2 at 0x2400000, prot 1: ok
      ['faultQueueAlloc', [0]], // FAULT_QUEUE_ALLOC: ok
      ['hwptAllocPaging', [0]], // HWPT_ALLOC of IOAS 1 for device 3, flags 0x0: ok
      ['hwptAllocPaging', [43662, 27857]], // HWPT_ALLOC of IOAS 2 for device 3, flags 0x4: ok
      ['hwptAllocPaging', [1717, 16771, 46674, 51749, 22425, 26344]], // HWPT_ALLOC of IOAS 2 for device 3, flags 0x1: ok
      ['viommuAlloc', [0]], // VIOMMU_ALLOC on HWPT 7 for device 3: ok
      ['vdeviceAlloc', [0]], // VDEVICE_ALLOC 1 of vIOMMU 8 for device 3: ok
      ['hwptAllocNested', [31484, 61708]], // HWPT_ALLOC on viommu 8 for device 3, flags 0x0, stage1 0: ok
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['vfioAttach', [10629, 21844]], // ATTACH_IOMMUFD_PT of vfio0 to 2 (ioas): ok
      ['vfioAttach', [46398, 29214, 23362, 13311, 17359, 4281, 6690, 40140, 24860, 2376], 5], // to 10 (hwpt-nested): ENOENT
    ],
  },
  {
    what: 'a container that cannot take a group has no IOAS because of it',
    machine: 'two-smmus',
    abi: 'linux-7.1',
    steps: [
      ['groupOpen', [0]], // open /dev/vfio/0: ok
      ['openIommufd', [61917, 27215]], // open /dev/vfio/vfio in 10: ok
      ['groupSetContainer', [16426, 61108, 19197, 22291, 15961, 50393, 48232, 54886, 47921, 11197], 2], // VFIO_GROUP_SET_CONTAINER of group 0 to a iommufd: ok
    ],
  },
];

describe('sequences that found a defect', () => {
  it.each(FOUND)('$what', async ({ machine, abi, steps }) => {
    await expect(replay(machine, abi, steps)).resolves.toBeUndefined();
  });
});
