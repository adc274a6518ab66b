/** Sequences that once went wrong, here or in an engine with a defect put in on purpose; as graph.test.ts prints them. */
import { describe, expect, it } from 'vitest';
import { replay, type StepText } from './sequences.ts';

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
];

describe('sequences that found a defect', () => {
  it.each(FOUND)('$what', async ({ machine, abi, steps }) => {
    await expect(replay(machine, abi, steps)).resolves.toBeUndefined();
  });
});
