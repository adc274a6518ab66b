/**
 * PCI configuration space: offsets and bits of PCI Local Bus 3.0 (type 0 header), PCI PM 1.2, MSI-X (PCI 3.0, 6.8.2),
 * PCIe base 5.0 (7.5 Express, 10.5 ATS and PRI, 7.8.9 PASID). Facts only.
 */

export const CONFIG_BYTES = 4096;
export const STANDARD_CONFIG_BYTES = 256;
export const STANDARD_HEADER_BYTES = 64;

export const COMMAND = 0x04;
export const COMMAND_IO = 0x0001;
export const COMMAND_MEMORY = 0x0002;
export const COMMAND_MASTER = 0x0004;
export const COMMAND_INTX_DISABLE = 0x0400;

export const STATUS = 0x06;
export const STATUS_INTERRUPT = 0x0008;
export const STATUS_CAP_LIST = 0x0010;

export const BAR0 = 0x10;
export const BARS = 6;
export const BAR_MEMORY_64 = 0x4;
export const ROM_ADDRESS = 0x30;
export const CAPABILITY_POINTER = 0x34;
export const INTERRUPT_LINE = 0x3c;
export const INTERRUPT_PIN = 0x3d;

/** HEADER_TYPE of a bridge, and the flag of a device with several functions. */
export const HEADER_BRIDGE = 0x01;
export const HEADER_MULTIFUNCTION = 0x80;

export const CAP_PM = 0x01;
export const CAP_MSI = 0x05;
export const CAP_EXPRESS = 0x10;
export const CAP_MSIX = 0x11;

export const EXT_CAP_AER = 0x01;
export const EXT_CAP_ACS = 0x0d;
export const EXT_CAP_ATS = 0x0f;
export const EXT_CAP_PRI = 0x13;
export const EXT_CAP_SECONDARY_EXPRESS = 0x19;
export const EXT_CAP_PASID = 0x1b;

/** Power management: PMC at +2, PMCSR at +4. */
export const PM_BYTES = 8;
export const PMCSR_POWER_STATE = 0x3;
export const PMCSR_NO_SOFT_RESET = 0x8;
export const POWER_D3HOT = 3;

/** Express: capabilities at +2, DEVCAP +4, DEVCTL +8, DEVSTA +10, LNKCAP +12, LNKCTL +16, LNKSTA +18, DEVCAP2 +36, DEVCTL2 +40, LNKCAP2 +44, LNKCTL2 +48. */
export const EXPRESS_BYTES = 0x3c;
/** Device/port type, flags [7:4]. */
export const EXPRESS_ROOT_PORT = 0x4;
export const DEVCAP_FLR = 1 << 28;
/** DEVCAP2: the extended format of TLPs, and end-to-end prefixes, of which there is one at most (23:22): the PASID. */
export const DEVCAP2_ONE_PREFIX = 0x0070_0000;
export const DEVCTL_PAYLOAD = 0x00e0;
export const DEVCTL_PHANTOM = 0x0200;
export const DEVCTL_READRQ = 0x7000;
export const DEVCTL_FLR = 0x8000;
export const DEVCTL2_ARI = 0x0020;

/**
 * MSI with 64-bit addresses and masks: control at +2 (log2 of the vectors there are 3:1, log2 of those enabled 6:4),
 * address +4, data +12, mask +16, pending +20.
 */
export const MSI_BYTES = 24;
export const MSI_CONTROL_ENABLE = 0x0001;
export const MSI_CONTROL_CAPABLE_LOG2 = 0x000e;
export const MSI_CONTROL_ENABLED_LOG2 = 0x0070;
export const MSI_CONTROL_64BIT = 0x0080;
export const MSI_CONTROL_MASKABLE = 0x0100;

/** MSI-X: control at +2 (table size - 1 in bits 10:0), table offset and BIR at +4, PBA offset and BIR at +8. */
export const MSIX_BYTES = 12;
export const MSIX_CONTROL_SIZE = 0x07ff;
export const MSIX_CONTROL_MASK_ALL = 0x4000;
export const MSIX_CONTROL_ENABLE = 0x8000;
export const MSIX_ENTRY_BYTES = 16;
export const MSIX_ENTRY_MASKED = 0x1;

/** ATS: capability at +4 (queue depth 4:0, page-aligned 5, global 6), control at +6 (STU 4:0, enable 15). */
export const ATS_BYTES = 8;
export const ATS_CONTROL_ENABLE = 0x8000;

/** PRI: control at +4, status at +6, outstanding capacity +8, outstanding allocation +12. */
export const PRI_BYTES = 16;
export const PRI_CONTROL_ENABLE = 0x0001;
export const PRI_CONTROL_RESET = 0x0002;
export const PRI_STATUS_FAILURE = 0x0001;
export const PRI_STATUS_UNEXPECTED = 0x0002;
export const PRI_STATUS_STOPPED = 0x0100;
export const PRI_STATUS_PASID_REQUIRED = 0x8000;
/** PASID: capability at +4 (width in 12:8), control at +6. */
export const PASID_BYTES = 8;
export const PASID_CONTROL_ENABLE = 0x0001;

/** ACS: capability at +4, control at +6. Source validation, request and completion redirect, upstream forwarding. */
export const ACS_REDIRECTS = 0x001d;
/** What of them an endpoint with several functions can have: request and completion redirect. */
export const ACS_PEER_REDIRECTS = 0x000c;
export const ACS_BYTES = 8;
