/** vEVENTQ: events of a vIOMMU, read from its fd as header and data, header and data, ... */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { struct, u32, u64s } from './struct.ts';

export const IOMMU_VEVENTQ_ALLOC = io(IOMMUFD_TYPE, 0x93);

/** Refused: kept for the future. */
export const IOMMU_VEVENTQ_TYPE_DEFAULT = 0;
export const IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1;
export const IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2;
export const veventqTypes = {
  IOMMU_VEVENTQ_TYPE_DEFAULT,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
} as const;

export const VeventqAlloc = struct('iommu_veventq_alloc', 32, {
  size: u32(0),
  flags: u32(4, 'hex'),
  viommuId: u32(8, 'id'),
  type: u32(12, { names: veventqTypes }),
  veventqDepth: u32(16),
  outVeventqId: u32(20, 'id'),
  outVeventqFd: u32(24, 'fd'),
  reserved: u32(28),
});

export const IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 1 << 0;
export const veventqFlags = { IOMMU_VEVENTQ_FLAG_LOST_EVENTS } as const;

/** A header with LOST_EVENTS has no data behind it. `sequence` goes from 2^31 - 1 back to 0. */
export const VeventHeader = struct('iommufd_vevent_header', 8, {
  flags: u32(0, { flags: veventqFlags }),
  sequence: u32(4),
});

/** An event record (Arm IHI 0070, 7.3) with the virtual StreamID. */
export const VeventArmSmmuv3 = struct('iommu_vevent_arm_smmuv3', 32, { evt: u64s(0, 4) });

/** The LVCMDQ_ERR_MAP registers of the virtual interface. */
export const VeventTegra241Cmdqv = struct('iommu_vevent_tegra241_cmdqv', 16, { lvcmdqErrMap: u64s(0, 2) });
