/** Context descriptors: L1CD (IHI 0070, 5.3) and CD (5.4). Layouts only. */
import { bit, bits } from './field.ts';

export const L1CD_BYTES = 8;
export const CD_BYTES = 64;
export const CD_WORDS = 16;

export const L1CD = {
  V: bit(0),
  L2Ptr: bits(51, 12),
} as const;

export const CD = {
  T0SZ: bits(5, 0),
  TG0: bits(7, 6),
  IR0: bits(9, 8),
  OR0: bits(11, 10),
  SH0: bits(13, 12),
  EPD0: bit(14),
  ENDI: bit(15),
  T1SZ: bits(21, 16),
  TG1: bits(23, 22),
  IR1: bits(25, 24),
  OR1: bits(27, 26),
  SH1: bits(29, 28),
  EPD1: bit(30),
  V: bit(31),
  IPS: bits(34, 32),
  AFFD: bit(35),
  WXN: bit(36),
  UWXN: bit(37),
  TBI0: bit(38),
  TBI1: bit(39),
  PAN: bit(40),
  AA64: bit(41),
  HD: bit(42),
  HA: bit(43),
  S: bit(44),
  R: bit(45),
  A: bit(46),
  ASET: bit(47),
  ASID: bits(63, 48),
  NSCFG0: bit(64),
  HAD0: bit(65),
  TTB0: bits(115, 68),
  NSCFG1: bit(128),
  HAD1: bit(129),
  TTB1: bits(179, 132),
  MAIR0: bits(223, 192),
  MAIR1: bits(255, 224),
  AMAIR0: bits(287, 256),
  AMAIR1: bits(319, 288),
  PARTID: bits(367, 352),
  PMG: bits(375, 368),
} as const;

/** CD.TG1: log2 bytes of the granule (not the encoding of TG0); 0 is reserved. */
export const TG1_LOG2 = [0, 14, 12, 16] as const;
