/**
 * The device part of the VFIO uAPI (include/uapi/linux/vfio.h, Linux 7.1): what a VFIO character device answers.
 * `argsz` is the struct's size as the program gives it; flexible arrays follow the struct and do not count in its size.
 */
import { io, VFIO_BASE, VFIO_TYPE } from './ioctl.ts';
import { bytes, plain, s32, struct, u8, u16, u32, u64, union } from './struct.ts';

export * from './vfio-feature.ts';

const vfio = (nr: number): number => io(VFIO_TYPE, VFIO_BASE + nr);

// Binding to iommufd

export const VFIO_DEVICE_BIND_IOMMUFD = vfio(18);

export const VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0;
export const bindFlags = { VFIO_DEVICE_BIND_FLAG_TOKEN } as const;

export const DeviceBindIommufd = struct('vfio_device_bind_iommufd', 24, {
  argsz: u32(0),
  flags: u32(4, { flags: bindFlags }),
  iommufd: s32(8, 'fd'),
  outDevid: u32(12, 'id'),
  tokenUuidPtr: u64(16, 'address'),
});

export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = vfio(19);

export const VFIO_DEVICE_ATTACH_PASID = 1 << 0;
export const attachFlags = { VFIO_DEVICE_ATTACH_PASID } as const;

/** pt_id names an IOAS or an HWPT, and comes back as the HWPT that is attached. */
export const DeviceAttachIommufdPt = struct('vfio_device_attach_iommufd_pt', 16, {
  argsz: u32(0),
  flags: u32(4, { flags: attachFlags }),
  ptId: u32(8, 'id'),
  pasid: u32(12),
});

export const VFIO_DEVICE_DETACH_IOMMUFD_PT = vfio(20);

export const VFIO_DEVICE_DETACH_PASID = 1 << 0;
export const detachFlags = { VFIO_DEVICE_DETACH_PASID } as const;

export const DeviceDetachIommufdPt = struct('vfio_device_detach_iommufd_pt', 12, {
  argsz: u32(0),
  flags: u32(4, { flags: detachFlags }),
  pasid: u32(8),
});

// Device

/** Begins every capability; `next` is an offset from the start of the info struct, 0 at the end. */
export const InfoCapHeader = struct('vfio_info_cap_header', 8, { id: u16(0), version: u16(2), next: u32(4, 'hex') });

export const VFIO_DEVICE_GET_INFO = vfio(7);

export const VFIO_DEVICE_FLAGS_RESET = 1 << 0;
export const VFIO_DEVICE_FLAGS_PCI = 1 << 1;
export const VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2;
export const VFIO_DEVICE_FLAGS_AMBA = 1 << 3;
export const VFIO_DEVICE_FLAGS_CCW = 1 << 4;
export const VFIO_DEVICE_FLAGS_AP = 1 << 5;
export const VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6;
export const VFIO_DEVICE_FLAGS_CAPS = 1 << 7;
export const VFIO_DEVICE_FLAGS_CDX = 1 << 8;
export const deviceFlags = {
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_PLATFORM,
  VFIO_DEVICE_FLAGS_AMBA,
  VFIO_DEVICE_FLAGS_CCW,
  VFIO_DEVICE_FLAGS_AP,
  VFIO_DEVICE_FLAGS_FSL_MC,
  VFIO_DEVICE_FLAGS_CAPS,
  VFIO_DEVICE_FLAGS_CDX,
} as const;

export const DeviceInfo = struct('vfio_device_info', 24, {
  argsz: u32(0),
  flags: u32(4, { flags: deviceFlags }),
  numRegions: u32(8),
  numIrqs: u32(12),
  capOffset: u32(16, 'hex'),
  pad: u32(20),
});

export const VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5;

export const VFIO_PCI_ATOMIC_COMP32 = 1 << 0;
export const VFIO_PCI_ATOMIC_COMP64 = 1 << 1;
export const VFIO_PCI_ATOMIC_COMP128 = 1 << 2;
export const atomicCompFlags = { VFIO_PCI_ATOMIC_COMP32, VFIO_PCI_ATOMIC_COMP64, VFIO_PCI_ATOMIC_COMP128 } as const;

export const DeviceInfoCapPciAtomicComp = struct('vfio_device_info_cap_pci_atomic_comp', 16, {
  header: bytes(0, InfoCapHeader.size),
  flags: u32(8, { flags: atomicCompFlags }),
  reserved: plain(u32(12)),
});

export const VFIO_DEVICE_RESET = vfio(11);

// Regions

export const VFIO_DEVICE_GET_REGION_INFO = vfio(8);

export const VFIO_PCI_BAR0_REGION_INDEX = 0;
export const VFIO_PCI_BAR1_REGION_INDEX = 1;
export const VFIO_PCI_BAR2_REGION_INDEX = 2;
export const VFIO_PCI_BAR3_REGION_INDEX = 3;
export const VFIO_PCI_BAR4_REGION_INDEX = 4;
export const VFIO_PCI_BAR5_REGION_INDEX = 5;
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_VGA_REGION_INDEX = 8;
export const VFIO_PCI_NUM_REGIONS = 9;
export const pciRegions = {
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_BAR1_REGION_INDEX,
  VFIO_PCI_BAR2_REGION_INDEX,
  VFIO_PCI_BAR3_REGION_INDEX,
  VFIO_PCI_BAR4_REGION_INDEX,
  VFIO_PCI_BAR5_REGION_INDEX,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_VGA_REGION_INDEX,
} as const;

export const VFIO_REGION_INFO_FLAG_READ = 1 << 0;
export const VFIO_REGION_INFO_FLAG_WRITE = 1 << 1;
export const VFIO_REGION_INFO_FLAG_MMAP = 1 << 2;
export const VFIO_REGION_INFO_FLAG_CAPS = 1 << 3;
export const regionFlags = {
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_CAPS,
} as const;

/** `offset` is where the region lies in the device's fd. */
export const RegionInfo = struct('vfio_region_info', 32, {
  argsz: u32(0),
  flags: u32(4, { flags: regionFlags }),
  index: u32(8, { names: pciRegions }),
  capOffset: u32(12, 'hex'),
  size: u64(16, 'length'),
  offset: u64(24, 'address'),
});

export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_TYPE = 2;
/** A bare header: the whole region, the MSI-X table included, can be mapped. */
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

/** Followed by nr_areas of RegionSparseMmapArea. */
export const RegionInfoCapSparseMmap = struct('vfio_region_info_cap_sparse_mmap', 16, {
  header: bytes(0, InfoCapHeader.size),
  nrAreas: u32(8),
  reserved: plain(u32(12)),
});

export const RegionSparseMmapArea = struct('vfio_region_sparse_mmap_area', 16, {
  offset: u64(0, 'address'),
  size: u64(8, 'length'),
});

export const RegionInfoCapType = struct('vfio_region_info_cap_type', 16, {
  header: bytes(0, InfoCapHeader.size),
  type: u32(8, 'hex'),
  subtype: u32(12),
});

// Interrupts

export const VFIO_DEVICE_GET_IRQ_INFO = vfio(9);

export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
export const VFIO_PCI_NUM_IRQS = 5;
export const pciIrqs = {
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} as const;

export const VFIO_IRQ_INFO_EVENTFD = 1 << 0;
export const VFIO_IRQ_INFO_MASKABLE = 1 << 1;
export const VFIO_IRQ_INFO_AUTOMASKED = 1 << 2;
export const VFIO_IRQ_INFO_NORESIZE = 1 << 3;
export const irqInfoFlags = {
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_NORESIZE,
} as const;

export const IrqInfo = struct('vfio_irq_info', 16, {
  argsz: u32(0),
  flags: u32(4, { flags: irqInfoFlags }),
  index: u32(8, { names: pciIrqs }),
  count: u32(12),
});

export const VFIO_DEVICE_SET_IRQS = vfio(10);

export const VFIO_IRQ_SET_DATA_NONE = 1 << 0;
export const VFIO_IRQ_SET_DATA_BOOL = 1 << 1;
export const VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2;
export const VFIO_IRQ_SET_ACTION_MASK = 1 << 3;
export const VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 0x07;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;
export const irqSetFlags = {
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
} as const;

/** Followed by `count` items: a byte each (DATA_BOOL), a signed 32-bit fd each (DATA_EVENTFD), or nothing (DATA_NONE). */
export const IrqSet = struct('vfio_irq_set', 20, {
  argsz: u32(0),
  flags: u32(4, { flags: irqSetFlags }),
  index: u32(8, { names: pciIrqs }),
  start: u32(12),
  count: u32(16),
});

// Hot reset

export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = vfio(12);

export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0;
export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1;
export const hotResetFlags = { VFIO_PCI_HOT_RESET_FLAG_DEV_ID, VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED } as const;

/** Followed by `count` of PciDependentDevice. */
export const PciHotResetInfo = struct('vfio_pci_hot_reset_info', 12, {
  argsz: u32(0),
  flags: u32(4, { flags: hotResetFlags }),
  count: u32(8),
});

/** devid of a device that the caller owns without a devid, and of one that it does not own (-1 in C). */
export const VFIO_PCI_DEVID_OWNED = 0;
export const VFIO_PCI_DEVID_NOT_OWNED = -1;

export const PciDependentDevice = struct('vfio_pci_dependent_device', 8, {
  groupId: u32(0, 'id'),
  devid: union(u32(0, 'id')),
  segment: u16(4, 'hex'),
  bus: u8(6, 'hex'),
  devfn: u8(7, 'hex'),
});

export const VFIO_DEVICE_PCI_HOT_RESET = vfio(13);

/** Followed by `count` signed 32-bit group fds; none when iommufd proves ownership. */
export const PciHotReset = struct('vfio_pci_hot_reset', 12, { argsz: u32(0), flags: u32(4, 'hex'), count: u32(8) });

// Eventfds behind writes to a region

export const VFIO_DEVICE_IOEVENTFD = vfio(16);

export const VFIO_DEVICE_IOEVENTFD_8 = 1 << 0;
export const VFIO_DEVICE_IOEVENTFD_16 = 1 << 1;
export const VFIO_DEVICE_IOEVENTFD_32 = 1 << 2;
export const VFIO_DEVICE_IOEVENTFD_64 = 1 << 3;
export const VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xf;
export const ioeventfdFlags = {
  VFIO_DEVICE_IOEVENTFD_8,
  VFIO_DEVICE_IOEVENTFD_16,
  VFIO_DEVICE_IOEVENTFD_32,
  VFIO_DEVICE_IOEVENTFD_64,
} as const;

/** fd -1 takes the eventfd off again. */
export const DeviceIoeventfd = struct('vfio_device_ioeventfd', 32, {
  argsz: u32(0),
  flags: u32(4, { flags: ioeventfdFlags }),
  offset: u64(8, 'address'),
  data: u64(16, 'hex'),
  fd: s32(24, 'fd'),
  reserved: plain(u32(28)),
});
