/** GET_HW_INFO: what the IOMMU behind a device can do. */
import { IOMMUFD_TYPE, io } from './ioctl.ts';
import { bytes, struct, u8, u32, u32s, u64, union } from './struct.ts';

export const IOMMU_GET_HW_INFO = io(IOMMUFD_TYPE, 0x8a);

export const IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1 << 0;
export const hwInfoFlags = { IOMMU_HW_INFO_FLAG_INPUT_TYPE } as const;

export const IOMMU_HW_INFO_TYPE_NONE = 0;
/** As input: the driver's own choice. */
export const IOMMU_HW_INFO_TYPE_DEFAULT = 0;
export const IOMMU_HW_INFO_TYPE_INTEL_VTD = 1;
export const IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2;
export const IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3;
export const IOMMU_HW_INFO_TYPE_AMD = 4;
export const hwInfoTypes = {
  IOMMU_HW_INFO_TYPE_NONE,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HW_INFO_TYPE_AMD,
} as const;

export const IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0;
export const IOMMU_HW_CAP_PCI_PASID_EXEC = 1 << 1;
export const IOMMU_HW_CAP_PCI_PASID_PRIV = 1 << 2;
export const IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 1 << 3;
export const hwCapabilities = {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_PASID_EXEC,
  IOMMU_HW_CAP_PCI_PASID_PRIV,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
} as const;

export const HwInfo = struct('iommu_hw_info', 40, {
  size: u32(0),
  flags: u32(4, { flags: hwInfoFlags }),
  devId: u32(8, 'id'),
  dataLen: u32(12, 'length'),
  dataUptr: u64(16, 'address'),
  inDataType: u32(24, { names: hwInfoTypes }),
  outDataType: union(u32(24, { names: hwInfoTypes })),
  outMaxPasidLog2: u8(28),
  reserved: bytes(29, 3),
  outCapabilities: u64(32, { flags: hwCapabilities }),
});

/** HwInfo as it was before Linux 6.15: the PASID width was part of a reserved word, which had to be zero. */
export const HwInfoWithoutPasid = struct('iommu_hw_info', 40, {
  size: u32(0),
  flags: u32(4, 'hex'),
  devId: u32(8, 'id'),
  dataLen: u32(12, 'length'),
  dataUptr: u64(16, 'address'),
  outDataType: u32(24, { names: hwInfoTypes }),
  reserved: u32(28),
  outCapabilities: u64(32, { flags: hwCapabilities }),
});

export const IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 1 << 0;
export const hwInfoVtdFlags = { IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 } as const;

/** The CAP and ECAP registers (VT-d specification 11.4.2, 11.4.3). */
export const HwInfoVtd = struct('iommu_hw_info_vtd', 24, {
  flags: u32(0, { flags: hwInfoVtdFlags }),
  reserved: u32(4),
  capReg: u64(8, 'hex'),
  ecapReg: u64(16, 'hex'),
});

/** IDR0 to IDR5, IIDR and AIDR (Arm IHI 0070, 6.3.1 to 6.3.6). */
export const HwInfoArmSmmuv3 = struct('iommu_hw_info_arm_smmuv3', 40, {
  flags: u32(0, 'hex'),
  reserved: u32(4),
  idr: u32s(8, 6),
  iidr: u32(32, 'hex'),
  aidr: u32(36, 'hex'),
});

export const HwInfoTegra241Cmdqv = struct('iommu_hw_info_tegra241_cmdqv', 8, {
  flags: u32(0, 'hex'),
  version: u8(4),
  log2vcmdqs: u8(5),
  log2vsids: u8(6),
  reserved: u8(7),
});

/** The Extended Feature Registers (AMD 48882, MMIO offsets 0030h and 01A0h). */
export const HwInfoAmd = struct('iommu_hw_info_amd', 16, { efr: u64(0, 'hex'), efr2: u64(8, 'hex') });
