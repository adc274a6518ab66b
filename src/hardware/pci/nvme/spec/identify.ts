/** NVM Express 1.4: the data structures of Identify (5.15.2) as byte offsets. Facts only. */

export const IDENTIFY_BYTES = 4096;

/** CNS, command dword 10 bits 7:0. */
export const CNS_NAMESPACE = 0x00;
export const CNS_CONTROLLER = 0x01;
export const CNS_ACTIVE_NAMESPACES = 0x02;
export const CNS_NAMESPACE_DESCRIPTORS = 0x03;

/** Identify Controller. Numbers are little-endian; SN, MN and FR are ASCII filled up with spaces. */
export const ID_VID = 0;
export const ID_SSVID = 2;
export const ID_SN = 4;
export const ID_SN_BYTES = 20;
export const ID_MN = 24;
export const ID_MN_BYTES = 40;
export const ID_FR = 64;
export const ID_FR_BYTES = 8;
export const ID_MDTS = 77;
export const ID_VER = 80;
export const ID_OAES = 92;
export const ID_CNTRLTYPE = 111;
export const ID_ACL = 258;
export const ID_AERL = 259;
export const ID_FRMW = 260;
export const ID_LPA = 261;
export const ID_ELPE = 262;
export const ID_WCTEMP = 266;
export const ID_CCTEMP = 268;
export const ID_SQES = 512;
export const ID_CQES = 513;
export const ID_NN = 516;
export const ID_ONCS = 520;
export const ID_VWC = 525;
export const ID_SUBNQN = 768;
/** Power state 0: maximum power in hundredths of a watt. */
export const ID_PSD0 = 2048;

export const OAES_NAMESPACE_ATTRIBUTES = 0x100;
export const CNTRLTYPE_IO = 1;
/** One firmware slot, read only. */
export const FRMW_ONE_READ_ONLY = 0x03;
export const LPA_EFFECTS = 0x02;
export const LPA_EXTENDED = 0x04;
export const ONCS_COMPARE = 0x01;
export const ONCS_DATASET_MANAGEMENT = 0x04;
export const ONCS_WRITE_ZEROES = 0x08;
export const ONCS_SAVE_AND_SELECT = 0x10;
export const VWC_PRESENT = 0x01;
/** Flush takes NSID FFFFFFFFh. */
export const VWC_FLUSH_ALL = 0x06;

/** Identify Namespace. */
export const NS_NSZE = 0;
export const NS_NCAP = 8;
export const NS_NUSE = 16;
export const NS_EUI64 = 120;
export const NS_LBAF0_LBADS = 130;

/** Namespace identification descriptors (figure 249): type, length, two reserved bytes, the identifier. */
export const DESCRIPTOR_EUI64 = 1;
export const DESCRIPTOR_EUI64_BYTES = 8;
