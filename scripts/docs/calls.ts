/** The tables of docs/objects: which ioctls make, use and end an object, since when, and how their structs grew. */
import { type CommandLayout, DIALECTS, type Dialect } from '../../src/abi/dialects.ts';
import { GROUP_COMMANDS, TYPE1_COMMANDS } from '../../src/abi/vfio-commands.ts';
import { code, table } from './markdown.ts';

/** By page. Names as in the uAPI. */
export const CALLS: Readonly<Record<string, readonly string[]>> = {
  iommufd: ['IOMMU_DESTROY', 'IOMMU_OPTION', 'IOMMU_IOAS_CHANGE_PROCESS'],
  ioas: [
    'IOMMU_IOAS_ALLOC',
    'IOMMU_IOAS_MAP',
    'IOMMU_IOAS_MAP_FILE',
    'IOMMU_IOAS_COPY',
    'IOMMU_IOAS_UNMAP',
    'IOMMU_IOAS_IOVA_RANGES',
    'IOMMU_IOAS_ALLOW_IOVAS',
    'IOMMU_OPTION',
  ],
  device: [
    'VFIO_DEVICE_BIND_IOMMUFD',
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    'VFIO_DEVICE_DETACH_IOMMUFD_PT',
    'IOMMU_GET_HW_INFO',
  ],
  'hwpt-paging': ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'IOMMU_DESTROY'],
  'hwpt-nested': ['IOMMU_HWPT_ALLOC', 'IOMMU_HWPT_INVALIDATE', 'IOMMU_DESTROY'],
  'dirty-tracking': ['IOMMU_HWPT_SET_DIRTY_TRACKING', 'IOMMU_HWPT_GET_DIRTY_BITMAP'],
  viommu: ['IOMMU_VIOMMU_ALLOC', 'IOMMU_HWPT_INVALIDATE', 'IOMMU_DESTROY'],
  vdevice: ['IOMMU_VDEVICE_ALLOC', 'IOMMU_DESTROY'],
  veventq: ['IOMMU_VEVENTQ_ALLOC', 'IOMMU_DESTROY'],
  'hw-queue': ['IOMMU_HW_QUEUE_ALLOC', 'IOMMU_DESTROY'],
  'fault-queue': ['IOMMU_FAULT_QUEUE_ALLOC', 'IOMMU_DESTROY'],
  'vfio-container': [
    'VFIO_GROUP_GET_STATUS',
    'VFIO_GROUP_SET_CONTAINER',
    'VFIO_GROUP_UNSET_CONTAINER',
    'VFIO_GROUP_GET_DEVICE_FD',
    'VFIO_CHECK_EXTENSION',
    'VFIO_SET_IOMMU',
    'VFIO_IOMMU_GET_INFO',
    'VFIO_IOMMU_MAP_DMA',
    'VFIO_IOMMU_UNMAP_DMA',
    'IOMMU_VFIO_IOAS',
  ],
};

const RELEASES = DIALECTS.filter(({ name }) => name.startsWith('linux-'));

export const callsOf = (page: string): string =>
  table(['call', 'number', 'since', 'size of its struct, in bytes'], CALLS[page]!.map(row));

function row(name: string): string[] {
  const first = RELEASES.find((release) => find(release, name));
  if (!first) throw new Error(`no release has ${name}`);
  return [code(name), hex(find(first, name)!.command), first.name, sizes(name)];
}

/** Groups and containers speak the same in every release. */
function find({ commands, vfioCommands }: Dialect, name: string): CommandLayout | undefined {
  const tables = [commands, vfioCommands, GROUP_COMMANDS, TYPE1_COMMANDS];
  return tables.flatMap((table) => [...table.values()]).find((command) => command.name === name);
}

/** '24, 40 from linux-6.7, 48 from linux-6.11' */
function sizes(name: string): string {
  const parts: string[] = [];
  let last = 0;
  for (const release of RELEASES) {
    const size = find(release, name)?.size ?? 0;
    if (size === last) continue;
    parts.push(last === 0 ? String(size) : `${size} from ${release.name}`);
    last = size;
  }
  return parts.join(', ') || 'none';
}

const hex = (value: number): string => `0x${value.toString(16)}`;
