/** Stream table: L1STD (IHI 0070, 5.1) and STE (5.2). Layouts only. */
import { bit, bits } from './field.ts';

export const L1STD_BYTES = 8;
export const STE_BYTES = 64;
export const STE_WORDS = 16;

export const L1STD = {
  Span: bits(4, 0),
  L2Ptr: bits(51, 6),
} as const;

export const STE = {
  V: bit(0),
  Config: bits(3, 1),
  S1Fmt: bits(5, 4),
  S1ContextPtr: bits(51, 6),
  S1CDMax: bits(63, 59),
  S1DSS: bits(65, 64),
  S1CIR: bits(67, 66),
  S1COR: bits(69, 68),
  S1CSH: bits(71, 70),
  DRE: bit(76),
  CONT: bits(80, 77),
  DCP: bit(81),
  PPAR: bit(82),
  MEV: bit(83),
  SW_RESERVED: bits(87, 84),
  S2FWB: bit(89),
  S1MPAM: bit(90),
  S1STALLD: bit(91),
  EATS: bits(93, 92),
  STRW: bits(95, 94),
  MemAttr: bits(99, 96),
  MTCFG: bit(100),
  ALLOCCFG: bits(104, 101),
  SHCFG: bits(109, 108),
  NSCFG: bits(111, 110),
  PRIVCFG: bits(113, 112),
  INSTCFG: bits(115, 114),
  S2VMID: bits(143, 128),
  S2T0SZ: bits(165, 160),
  S2SL0: bits(167, 166),
  S2IR0: bits(169, 168),
  S2OR0: bits(171, 170),
  S2SH0: bits(173, 172),
  S2TG: bits(175, 174),
  S2PS: bits(178, 176),
  S2AA64: bit(179),
  S2ENDI: bit(180),
  S2AFFD: bit(181),
  S2PTW: bit(182),
  S2HD: bit(183),
  S2HA: bit(184),
  S2S: bit(185),
  S2R: bit(186),
  S2NSW: bit(192),
  S2NSA: bit(193),
  S2TTB: bits(243, 196),
  PARTID: bits(287, 272),
  PMG: bits(327, 320),
  VMSPtr: bits(371, 332),
} as const;

/** STE.Config: bit 2 lets traffic pass, bit 1 enables stage 2, bit 0 stage 1. */
export const CONFIG_ABORT = 0b000;
export const CONFIG_BYPASS = 0b100;
export const CONFIG_S1 = 0b101;
export const CONFIG_S2 = 0b110;
export const CONFIG_NESTED = 0b111;

export const S1FMT_LINEAR = 0b00;
export const S1FMT_4K_L2 = 0b01;
export const S1FMT_64K_L2 = 0b10;

export const S1DSS_TERMINATE = 0b00;
export const S1DSS_BYPASS = 0b01;
export const S1DSS_SSID0 = 0b10;

export const EATS_ABORT = 0b00;
export const EATS_FULL = 0b01;
export const EATS_SPLIT = 0b10;

export const STRW_NS_EL1 = 0b00;
export const STRW_NS_EL2 = 0b10;

/** STE.{PRIVCFG, INSTCFG}: 0b0x uses the incoming attribute. */
export const OVERRIDE_CLEAR = 0b10;
export const OVERRIDE_SET = 0b11;

/** STE.S2TG: log2 bytes of the granule; 0 is reserved. The encoding of CD.TG0 is the same. */
export const TG0_LOG2 = [12, 16, 14, 0] as const;

/** CD.IPS, STE.S2PS and IDR5.OAS: bits of address. 0b111 is reserved and behaves as 0b110. */
export const ADDRESS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;
