/** NVM Express 1.4: registers of BAR0 (3.1). Facts only; what a controller shows in CAP is chosen in ../limits.ts. */
import type { Register } from '../../spec/register.ts';

export const VERSION_1_4 = 0x0001_0400;

/** Fields of CAP (3.1.1) as bits of 64. */
export const CAP_MQES = 0n;
export const CAP_CQR = 1n << 16n;
export const CAP_TO = 24n;
export const CAP_CSS_NVM = 1n << 37n;
export const CAP_MPSMAX = 52n;

/** CC (3.1.5). */
export const CC_EN = 0x1;
export const CC_CSS = 0x70;
export const CC_MPS_SHIFT = 7;
export const CC_MPS = 0xf;
export const CC_AMS = 0x3800;
export const CC_SHN = 0xc000;
export const CC_IOSQES_SHIFT = 16;
export const CC_IOCQES_SHIFT = 20;
export const CC_ENTRY_SIZE = 0xf;

/** CSTS (3.1.6). */
export const CSTS_RDY = 0x1;
export const CSTS_CFS = 0x2;
export const CSTS_SHST_COMPLETE = 0x8;

/** AQA (3.1.8): sizes are 0's based. */
export const AQA_ACQS_SHIFT = 16;
export const AQA_SIZE = 0xfff;

/** Doorbells (3.1.24, 3.1.25): the tail of SQ y at 8 * y, the head of CQ y at 8 * y + 4, with CAP.DSTRD 0. */
export const DOORBELLS_AT = 0x1000;

export const nvmeRegisters = (capabilities: bigint): readonly Register[] => [
  { name: 'CAP', offset: 0x00, bytes: 8, reset: capabilities },
  { name: 'VS', offset: 0x08, bytes: 4, reset: BigInt(VERSION_1_4) },
  { name: 'INTMS', offset: 0x0c, bytes: 4, writable: 0xffff_ffffn },
  { name: 'INTMC', offset: 0x10, bytes: 4, writeOneToClear: 0xffff_ffffn },
  { name: 'CC', offset: 0x14, bytes: 4, writable: 0x00ff_fff1n },
  { name: 'CSTS', offset: 0x1c, bytes: 4 },
  { name: 'AQA', offset: 0x24, bytes: 4, writable: 0x0fff_0fffn },
  { name: 'ASQ', offset: 0x28, bytes: 8, writable: 0xffff_ffff_ffff_f000n },
  { name: 'ACQ', offset: 0x30, bytes: 8, writable: 0xffff_ffff_ffff_f000n },
  { name: 'CMBLOC', offset: 0x38, bytes: 4 },
  { name: 'CMBSZ', offset: 0x3c, bytes: 4 },
];
