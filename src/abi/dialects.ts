/**
 * Which release accepts what: commands with the sizes that it knows, flags, types, and behaviours that changed. Each
 * release is the one before it and a difference, so that this file reads as the history of the uAPI.
 *
 * Sources: the headers of 6.6 to 7.1 as VMMs carry them, and, for viommu-v2, the VMM fork paired with the design thread.
 */
import * as iommufd from './iommufd.ts';
import * as v2 from './iommufd-viommu-v2.ts';
import type { AnyStruct, StructType } from './struct.ts';
import * as vfio from './vfio.ts';

export interface CommandLayout {
  /** Low byte of the ioctl number. */
  readonly nr: number;
  /** The whole ioctl number; another one with the same nr is ENOTTY. */
  readonly command: number;
  /** As in the uAPI: 'IOMMU_IOAS_MAP'. */
  readonly name: string;
  /** Its layout; null when the command takes no struct. May be newer, and so longer, than `size`. */
  readonly struct: AnyStruct | null;
  /** A shorter struct is EINVAL: the size in the command's first release. */
  readonly minimumSize: number;
  /** What this release knows: bytes beyond it must be zero (E2BIG) and are never written. */
  readonly size: number;
}

/** Masks of flags, and lists of the types that the release's header names. A driver (the mock) may have others. */
export interface Accepted {
  readonly ioasMapFlags: number;
  /** For an HWPT on an IOAS. */
  readonly hwptAllocFlags: number;
  /** For an HWPT on a nesting parent or a vIOMMU. */
  readonly nestedHwptAllocFlags: number;
  readonly hwptDataTypes: readonly number[];
  readonly invalidateDataTypes: readonly number[];
  readonly hwInfoFlags: number;
  readonly hwInfoTypes: readonly number[];
  /** Bits of out_capabilities that the release reports. */
  readonly hwCapabilities: number;
  readonly viommuTypes: readonly number[];
  /** Types of vEVENTQ, or of VIRQ in viommu-v2. */
  readonly eventTypes: readonly number[];
  /** Types of HW queue, or of VQUEUE data in viommu-v2. */
  readonly queueTypes: readonly number[];
  readonly vfioBindFlags: number;
  readonly vfioAttachFlags: number;
  readonly vfioDetachFlags: number;
  /** Numbers of VFIO_DEVICE_FEATURE. */
  readonly vfioFeatures: readonly number[];
}

export interface Behaviour {
  /** VIOMMU_ALLOC with type 0 gives a vIOMMU that the core manages, on any driver. */
  readonly viommuTypeDefaultAllowed: boolean;
  /** HWPT_INVALIDATE takes SMMUv3 commands (the TLBI ones) on a nested HWPT too, not only on a vIOMMU. */
  readonly invalidateOnNestedHwptSmmuv3: boolean;
  /** Which nested SMMUv3 HWPTs a device without a vDEVICE cannot be attached to (ENOENT): bypass and abort are not `translating`. */
  readonly nestedAttachNeedsVdevice: 'never' | 'always' | 'translating';
  /** read() of an event fd gives a header before each record, and LOST_EVENTS. */
  readonly veventHeader: boolean;
  /** GET_HW_INFO reports the PASID width; before, its byte was reserved and had to be zero. */
  readonly hwInfoPasid: boolean;
  /** SMMUv3 nests at all: nesting parents, vIOMMUs, and its registers in GET_HW_INFO (before, type NONE). */
  readonly smmuv3Nesting: boolean;
  /** Dirty tracking of SMMUv3 (HTTU) can be had. */
  readonly smmuv3DirtyTracking: boolean;
  /** An HWPT with a fault queue refuses a device of an SMMUv3 that never asks for pages (EINVAL). */
  readonly smmuv3FaultsNeedRequests: boolean;
  /** A second virtual ID for a device is EEXIST. */
  readonly oneVirtualIdPerDevice: boolean;
  /** A device that goes away leaves the ID of its vDEVICE taken until the context closes. */
  readonly vdeviceTombstone: boolean;
  /** mmap() of /dev/iommu: not at all, at vIOMMU ID times page size, or at offsets that the driver reported. */
  readonly mmap: 'none' | 'viommu-id' | 'reported-offset';
  /** IOAS_MAP_FILE takes a dma-buf, not only a memfd. */
  readonly mapFileDmabuf: boolean;
  /** VFIO_IOMMU_UNMAP_DMA of a range with nothing in it succeeds, as a VFIO container's does, or is ENOENT. */
  readonly type1UnmapsNothing: boolean;
  /** read() of an event fd with a count in which nothing fits is EINVAL, or reads 0 bytes. */
  readonly eventReadCountChecked: boolean;
}

export interface Dialect {
  readonly name: string;
  /** Commands of /dev/iommu by nr. */
  readonly commands: ReadonlyMap<number, CommandLayout>;
  /** Commands of a VFIO device by nr. Those of its character device begin with the release that has BIND_IOMMUFD. */
  readonly vfioCommands: ReadonlyMap<number, CommandLayout>;
  readonly accepted: Accepted;
  readonly behaviour: Behaviour;
}

/** Room for every command of every dialect, the mock driver's test command too: zero-filled, it suits any layout. */
export const COMMAND_BUFFER_SIZE = 128;

type Entries = Readonly<Record<string, Omit<CommandLayout, 'name' | 'nr'>>>;

/** @param first the last field of the command's first release @param known the last field of this release, if not all */
const takes = <F extends StructType>(
  command: number,
  struct: F,
  first: keyof F['fields'] & string,
  known?: keyof F['fields'] & string,
): Entries[string] => ({
  command,
  struct,
  minimumSize: struct.end(first),
  size: known === undefined ? struct.size : struct.end(known),
});

const bare = (command: number): Entries[string] => ({ command, struct: null, minimumSize: 0, size: 0 });

interface Difference {
  readonly commands?: Entries;
  readonly vfioCommands?: Entries;
  readonly accepted?: Partial<Accepted>;
  readonly behaviour?: Partial<Behaviour>;
}

const merge = (old: ReadonlyMap<number, CommandLayout>, entries: Entries = {}): Map<number, CommandLayout> => {
  const merged = new Map(old);
  for (const [name, entry] of Object.entries(entries)) {
    const nr = entry.command & 0xff;
    merged.set(nr, { ...entry, name, nr });
  }
  return merged;
};

const after = (previous: Dialect, name: string, difference: Difference): Dialect => ({
  name,
  commands: merge(previous.commands, difference.commands),
  vfioCommands: merge(previous.vfioCommands, difference.vfioCommands),
  accepted: { ...previous.accepted, ...difference.accepted },
  behaviour: { ...previous.behaviour, ...difference.behaviour },
});

const same = (previous: Dialect, name: string): Dialect => after(previous, name, {});

const nothing: Dialect = {
  name: '',
  commands: new Map(),
  vfioCommands: new Map(),
  accepted: {
    ioasMapFlags: 0,
    hwptAllocFlags: 0,
    nestedHwptAllocFlags: 0,
    hwptDataTypes: [],
    invalidateDataTypes: [],
    hwInfoFlags: 0,
    hwInfoTypes: [],
    hwCapabilities: 0,
    viommuTypes: [],
    eventTypes: [],
    queueTypes: [],
    vfioBindFlags: 0,
    vfioAttachFlags: 0,
    vfioDetachFlags: 0,
    vfioFeatures: [],
  },
  behaviour: {
    viommuTypeDefaultAllowed: false,
    invalidateOnNestedHwptSmmuv3: false,
    nestedAttachNeedsVdevice: 'never',
    veventHeader: false,
    hwInfoPasid: false,
    smmuv3Nesting: false,
    smmuv3DirtyTracking: false,
    smmuv3FaultsNeedRequests: false,
    oneVirtualIdPerDevice: true,
    vdeviceTombstone: false,
    mmap: 'none',
    mapFileDmabuf: false,
    type1UnmapsNothing: false,
    eventReadCountChecked: false,
  },
};

const numbersFrom0 = (last: number): readonly number[] => Array.from({ length: last + 1 }, (_, number) => number);

const linux62 = after(nothing, 'linux-6.2', {
  commands: {
    IOMMU_DESTROY: takes(iommufd.IOMMU_DESTROY, iommufd.Destroy, 'id'),
    IOMMU_IOAS_ALLOC: takes(iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc, 'outIoasId'),
    IOMMU_IOAS_ALLOW_IOVAS: takes(iommufd.IOMMU_IOAS_ALLOW_IOVAS, iommufd.IoasAllowIovas, 'allowedIovas'),
    IOMMU_IOAS_COPY: takes(iommufd.IOMMU_IOAS_COPY, iommufd.IoasCopy, 'srcIova'),
    IOMMU_IOAS_IOVA_RANGES: takes(iommufd.IOMMU_IOAS_IOVA_RANGES, iommufd.IoasIovaRanges, 'outIovaAlignment'),
    IOMMU_IOAS_MAP: takes(iommufd.IOMMU_IOAS_MAP, iommufd.IoasMap, 'iova'),
    IOMMU_IOAS_UNMAP: takes(iommufd.IOMMU_IOAS_UNMAP, iommufd.IoasUnmap, 'length'),
    IOMMU_OPTION: takes(iommufd.IOMMU_OPTION, iommufd.Option, 'val64'),
    IOMMU_VFIO_IOAS: takes(iommufd.IOMMU_VFIO_IOAS, iommufd.VfioIoas, 'reserved'),
  },
  vfioCommands: {
    VFIO_DEVICE_GET_INFO: takes(vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo, 'numIrqs'),
    VFIO_DEVICE_GET_REGION_INFO: takes(vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo, 'offset'),
    VFIO_DEVICE_GET_IRQ_INFO: takes(vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.IrqInfo, 'count'),
    VFIO_DEVICE_SET_IRQS: takes(vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, 'count'),
    VFIO_DEVICE_RESET: bare(vfio.VFIO_DEVICE_RESET),
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: takes(vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.PciHotResetInfo, 'count'),
    VFIO_DEVICE_PCI_HOT_RESET: takes(vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.PciHotReset, 'count'),
    VFIO_DEVICE_IOEVENTFD: takes(vfio.VFIO_DEVICE_IOEVENTFD, vfio.DeviceIoeventfd, 'fd'),
    VFIO_DEVICE_FEATURE: takes(vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, 'flags'),
  },
  accepted: {
    ioasMapFlags:
      iommufd.IOMMU_IOAS_MAP_FIXED_IOVA | iommufd.IOMMU_IOAS_MAP_WRITEABLE | iommufd.IOMMU_IOAS_MAP_READABLE,
  },
});

const linux63 = same(linux62, 'linux-6.3');
const linux64 = same(linux63, 'linux-6.4');
const linux65 = same(linux64, 'linux-6.5');

const linux66 = after(linux65, 'linux-6.6', {
  commands: {
    IOMMU_HWPT_ALLOC: takes(iommufd.IOMMU_HWPT_ALLOC, iommufd.HwptAlloc, 'reserved', 'reserved'),
    IOMMU_GET_HW_INFO: takes(iommufd.IOMMU_GET_HW_INFO, iommufd.HwInfoWithoutPasid, 'reserved', 'reserved'),
  },
  vfioCommands: {
    VFIO_DEVICE_BIND_IOMMUFD: takes(vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, 'outDevid', 'outDevid'),
    VFIO_DEVICE_ATTACH_IOMMUFD_PT: takes(
      vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
      vfio.DeviceAttachIommufdPt,
      'ptId',
      'ptId',
    ),
    VFIO_DEVICE_DETACH_IOMMUFD_PT: takes(
      vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT,
      vfio.DeviceDetachIommufdPt,
      'flags',
      'flags',
    ),
  },
  accepted: {
    hwInfoTypes: [iommufd.IOMMU_HW_INFO_TYPE_NONE, iommufd.IOMMU_HW_INFO_TYPE_INTEL_VTD],
    vfioFeatures: numbersFrom0(vfio.VFIO_DEVICE_FEATURE_BUS_MASTER),
  },
});

const linux67 = after(linux66, 'linux-6.7', {
  commands: {
    IOMMU_HWPT_ALLOC: takes(iommufd.IOMMU_HWPT_ALLOC, iommufd.HwptAlloc, 'reserved', 'dataUptr'),
    IOMMU_GET_HW_INFO: takes(iommufd.IOMMU_GET_HW_INFO, iommufd.HwInfoWithoutPasid, 'reserved'),
    IOMMU_HWPT_SET_DIRTY_TRACKING: takes(
      iommufd.IOMMU_HWPT_SET_DIRTY_TRACKING,
      iommufd.HwptSetDirtyTracking,
      'reserved',
    ),
    IOMMU_HWPT_GET_DIRTY_BITMAP: takes(iommufd.IOMMU_HWPT_GET_DIRTY_BITMAP, iommufd.HwptGetDirtyBitmap, 'data'),
  },
  accepted: {
    hwptAllocFlags: iommufd.IOMMU_HWPT_ALLOC_NEST_PARENT | iommufd.IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
    hwptDataTypes: [iommufd.IOMMU_HWPT_DATA_NONE, iommufd.IOMMU_HWPT_DATA_VTD_S1],
    hwCapabilities: iommufd.IOMMU_HW_CAP_DIRTY_TRACKING,
  },
});

const linux68 = after(linux67, 'linux-6.8', {
  commands: {
    IOMMU_HWPT_INVALIDATE: takes(iommufd.IOMMU_HWPT_INVALIDATE, iommufd.HwptInvalidate, 'reserved'),
  },
  accepted: { invalidateDataTypes: [iommufd.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1] },
});

const linux69 = same(linux68, 'linux-6.9');
const linux610 = same(linux69, 'linux-6.10');

const linux611 = after(linux610, 'linux-6.11', {
  commands: {
    IOMMU_HWPT_ALLOC: takes(iommufd.IOMMU_HWPT_ALLOC, iommufd.HwptAlloc, 'reserved'),
    IOMMU_FAULT_QUEUE_ALLOC: takes(iommufd.IOMMU_FAULT_QUEUE_ALLOC, iommufd.FaultAlloc, 'outFaultFd'),
  },
  accepted: { nestedHwptAllocFlags: iommufd.IOMMU_HWPT_FAULT_ID_VALID },
  behaviour: { smmuv3DirtyTracking: true, smmuv3FaultsNeedRequests: true },
});

const linux612 = same(linux611, 'linux-6.12');

const linux613 = after(linux612, 'linux-6.13', {
  commands: {
    IOMMU_IOAS_MAP_FILE: takes(iommufd.IOMMU_IOAS_MAP_FILE, iommufd.IoasMapFile, 'iova'),
    IOMMU_VIOMMU_ALLOC: takes(iommufd.IOMMU_VIOMMU_ALLOC, iommufd.ViommuAlloc, 'outViommuId', 'outViommuId'),
    IOMMU_VDEVICE_ALLOC: takes(iommufd.IOMMU_VDEVICE_ALLOC, iommufd.VdeviceAlloc, 'virtId'),
    IOMMU_IOAS_CHANGE_PROCESS: takes(iommufd.IOMMU_IOAS_CHANGE_PROCESS, iommufd.IoasChangeProcess, 'reserved'),
  },
  accepted: {
    hwptAllocFlags: linux612.accepted.hwptAllocFlags | iommufd.IOMMU_HWPT_FAULT_ID_VALID,
    hwptDataTypes: [...linux612.accepted.hwptDataTypes, iommufd.IOMMU_HWPT_DATA_ARM_SMMUV3],
    invalidateDataTypes: [...linux612.accepted.invalidateDataTypes, iommufd.IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3],
    hwInfoTypes: [...linux612.accepted.hwInfoTypes, iommufd.IOMMU_HW_INFO_TYPE_ARM_SMMUV3],
    viommuTypes: [iommufd.IOMMU_VIOMMU_TYPE_ARM_SMMUV3],
  },
  behaviour: { smmuv3Nesting: true, oneVirtualIdPerDevice: false },
});

const linux614 = same(linux613, 'linux-6.14');

// HWPT_ALLOC_PASID stands in the header since 6.13, but HWPT_ALLOC refuses it until 6.15.
const linux615 = after(linux614, 'linux-6.15', {
  commands: {
    IOMMU_GET_HW_INFO: takes(iommufd.IOMMU_GET_HW_INFO, iommufd.HwInfo, 'reserved'),
    IOMMU_VEVENTQ_ALLOC: takes(iommufd.IOMMU_VEVENTQ_ALLOC, iommufd.VeventqAlloc, 'outVeventqFd'),
  },
  vfioCommands: {
    VFIO_DEVICE_ATTACH_IOMMUFD_PT: takes(vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, 'ptId'),
    VFIO_DEVICE_DETACH_IOMMUFD_PT: takes(vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt, 'flags'),
  },
  accepted: {
    hwptAllocFlags: linux614.accepted.hwptAllocFlags | iommufd.IOMMU_HWPT_ALLOC_PASID,
    nestedHwptAllocFlags: linux614.accepted.nestedHwptAllocFlags | iommufd.IOMMU_HWPT_ALLOC_PASID,
    hwCapabilities:
      linux614.accepted.hwCapabilities | iommufd.IOMMU_HW_CAP_PCI_PASID_EXEC | iommufd.IOMMU_HW_CAP_PCI_PASID_PRIV,
    eventTypes: [iommufd.IOMMU_VEVENTQ_TYPE_ARM_SMMUV3],
    vfioAttachFlags: vfio.VFIO_DEVICE_ATTACH_PASID,
    vfioDetachFlags: vfio.VFIO_DEVICE_DETACH_PASID,
  },
  behaviour: {
    hwInfoPasid: true,
    veventHeader: true,
    nestedAttachNeedsVdevice: 'always',
  },
});

const linux616 = after(linux615, 'linux-6.16', { behaviour: { smmuv3FaultsNeedRequests: false } });

const linux617 = after(linux616, 'linux-6.17', {
  commands: {
    IOMMU_VIOMMU_ALLOC: takes(iommufd.IOMMU_VIOMMU_ALLOC, iommufd.ViommuAlloc, 'outViommuId'),
    IOMMU_HW_QUEUE_ALLOC: takes(iommufd.IOMMU_HW_QUEUE_ALLOC, iommufd.HwQueueAlloc, 'length'),
  },
  vfioCommands: {
    VFIO_DEVICE_BIND_IOMMUFD: takes(vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, 'outDevid'),
  },
  accepted: {
    hwInfoFlags: iommufd.IOMMU_HW_INFO_FLAG_INPUT_TYPE,
    hwInfoTypes: [...linux616.accepted.hwInfoTypes, iommufd.IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV],
    viommuTypes: [...linux616.accepted.viommuTypes, iommufd.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV],
    eventTypes: [...linux616.accepted.eventTypes, iommufd.IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV],
    queueTypes: [iommufd.IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV],
    vfioBindFlags: vfio.VFIO_DEVICE_BIND_FLAG_TOKEN,
  },
  behaviour: { oneVirtualIdPerDevice: true, vdeviceTombstone: true, mmap: 'reported-offset' },
});

const linux618 = after(linux617, 'linux-6.18', { behaviour: { type1UnmapsNothing: true } });

const linux619 = after(linux618, 'linux-6.19', {
  accepted: { vfioFeatures: numbersFrom0(vfio.VFIO_DEVICE_FEATURE_DMA_BUF) },
  behaviour: {
    mapFileDmabuf: true,
    nestedAttachNeedsVdevice: 'translating',
  },
});

// AMD's driver takes any vIOMMU type but 0; the header names none.
const linux70 = after(linux619, 'linux-7.0', {
  accepted: {
    hwptDataTypes: [...linux619.accepted.hwptDataTypes, iommufd.IOMMU_HWPT_DATA_AMD_GUEST],
    hwInfoTypes: [...linux619.accepted.hwInfoTypes, iommufd.IOMMU_HW_INFO_TYPE_AMD],
  },
});

const linux71 = after(linux70, 'linux-7.1', {
  accepted: {
    hwCapabilities: linux70.accepted.hwCapabilities | iommufd.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
    vfioFeatures: numbersFrom0(vfio.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2),
  },
});

// Newer than the header that everything here is checked against, so not the default. Its limits of veventq_depth, entry_num
// and entry_len are not here; that a count which fits nothing is EINVAL is its one difference to a program that works.
const linux72 = after(linux71, 'linux-7.2', { behaviour: { eventReadCountChecked: true } });

// The series stood on 6.11 and brought its own SMMUv3 nesting types, two releases before mainline had them.
const viommuV2 = after(linux611, 'viommu-v2', {
  commands: {
    IOMMU_VIOMMU_ALLOC: takes(v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, 'outViommuId'),
    IOMMU_VIOMMU_SET_VDEV_ID: takes(v2.IOMMU_VIOMMU_SET_VDEV_ID, v2.ViommuSetVdevId, 'vdevId'),
    IOMMU_VIOMMU_UNSET_VDEV_ID: takes(v2.IOMMU_VIOMMU_UNSET_VDEV_ID, v2.ViommuUnsetVdevId, 'vdevId'),
    IOMMU_VIRQ_ALLOC: takes(v2.IOMMU_VIRQ_ALLOC, v2.VirqAlloc, 'outVirqFd'),
    IOMMU_VQUEUE_ALLOC: takes(v2.IOMMU_VQUEUE_ALLOC, v2.VqueueAlloc, 'dataUptr'),
  },
  accepted: {
    hwptDataTypes: linux613.accepted.hwptDataTypes,
    invalidateDataTypes: [iommufd.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1, v2.IOMMU_HWPT_INVALIDATE_DATA_ARM_SMMUV3],
    hwInfoTypes: linux613.accepted.hwInfoTypes,
    viommuTypes: [v2.V2_IOMMU_VIOMMU_TYPE_DEFAULT, v2.V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV],
    eventTypes: [v2.IOMMU_VIRQ_TYPE_ARM_SMMUV3],
    queueTypes: [v2.IOMMU_VQUEUE_DATA_TEGRA241_CMDQV],
  },
  behaviour: {
    smmuv3Nesting: true,
    viommuTypeDefaultAllowed: true,
    invalidateOnNestedHwptSmmuv3: true,
    mmap: 'viommu-id',
  },
});

/** Every dialect, oldest release first. */
export const DIALECTS: readonly Dialect[] = [
  linux62,
  linux63,
  linux64,
  linux65,
  linux66,
  linux67,
  linux68,
  linux69,
  linux610,
  linux611,
  linux612,
  linux613,
  linux614,
  linux615,
  linux616,
  linux617,
  linux618,
  linux619,
  linux70,
  linux71,
  linux72,
  viommuV2,
];

export const DEFAULT_DIALECT = 'linux-7.1';

/** @throws Error that lists the known names */
export const dialect = (name: string): Dialect => {
  const found = DIALECTS.find((candidate) => candidate.name === name);
  if (found) return found;
  throw new Error(`unknown ABI '${name}': expected one of ${DIALECTS.map((known) => known.name).join(', ')}`);
};
