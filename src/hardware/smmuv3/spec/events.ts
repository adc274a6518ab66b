/** Event records (IHI 0070, 7.3): 32 bytes. Layouts only. */
import { bit, bits, type Field, type Fields } from './field.ts';

export const EVENT_BYTES = 32;
export const EVENT_WORDS = 8;

export const F_UUT = 0x01;
export const C_BAD_STREAMID = 0x02;
export const F_STE_FETCH = 0x03;
export const C_BAD_STE = 0x04;
export const F_BAD_ATS_TREQ = 0x05;
export const F_STREAM_DISABLED = 0x06;
export const F_TRANSL_FORBIDDEN = 0x07;
export const C_BAD_SUBSTREAMID = 0x08;
export const F_CD_FETCH = 0x09;
export const C_BAD_CD = 0x0a;
export const F_WALK_EABT = 0x0b;
export const F_TRANSLATION = 0x10;
export const F_ADDR_SIZE = 0x11;
export const F_ACCESS = 0x12;
export const F_PERMISSION = 0x13;

/** CLASS: what the SMMU was doing for the transaction. */
export const CLASS_CD = 0b00;
export const CLASS_TT = 0b01;
export const CLASS_IN = 0b10;

export const EVENT = {
  Type: bits(7, 0),
  SSV: bit(11),
  SubstreamID: bits(31, 12),
  StreamID: bits(63, 32),
  STAG: bits(79, 64),
  Reason: bits(79, 64),
  Stall: bit(95),
  PnU: bit(97),
  InD: bit(98),
  RnW: bit(99),
  NSIPA: bit(100),
  S2: bit(103),
  CLASS: bits(105, 104),
  /** F_PERMISSION with CLASS = TT: the descriptor access that stage 2 refused was a read. */
  TTRnW: bit(108),
  InputAddr: bits(191, 128),
  IPA: bits(243, 204),
  FetchAddr: bits(243, 195),
} as const satisfies Fields;

/**
 * F_BAD_ATS_TREQ (7.3.6) has fields of its own: the permissions that the request asked for and its length in STUs.
 * Their places are the one layout here that has a single source; nothing else in this record is affected.
 */
export const ATS_TREQ_EVENT = {
  Priv: bit(96),
  Execute: bit(97),
  Write: bit(98),
  Read: bit(99),
  Span: bits(135, 128),
  InputAddr: bits(191, 140),
} as const satisfies Fields;

export interface EventLayout {
  readonly name: string;
  /** Fields of this record beyond Type and StreamID, in the order of their bits. */
  readonly fields: Readonly<Record<string, Field>>;
}

const pick = (...names: Array<keyof typeof EVENT>): Fields =>
  Object.fromEntries(names.map((name) => [name, EVENT[name]]));

const TRANSLATION_FIELDS = [
  'SSV',
  'SubstreamID',
  'STAG',
  'Stall',
  'PnU',
  'InD',
  'RnW',
  'NSIPA',
  'S2',
  'CLASS',
  'InputAddr',
  'IPA',
] as const;

/** What each record holds, for printers and decoders. */
export const EVENT_LAYOUTS: Readonly<Record<number, EventLayout>> = {
  [F_UUT]: { name: 'F_UUT', fields: pick('SSV', 'SubstreamID', 'Reason', 'PnU', 'InD', 'RnW', 'InputAddr') },
  [C_BAD_STREAMID]: { name: 'C_BAD_STREAMID', fields: pick('SSV', 'SubstreamID') },
  [F_STE_FETCH]: { name: 'F_STE_FETCH', fields: pick('SSV', 'SubstreamID', 'Reason', 'FetchAddr') },
  [C_BAD_STE]: { name: 'C_BAD_STE', fields: pick('SSV', 'SubstreamID') },
  [F_BAD_ATS_TREQ]: { name: 'F_BAD_ATS_TREQ', fields: { ...pick('SSV', 'SubstreamID'), ...ATS_TREQ_EVENT } },
  [F_STREAM_DISABLED]: { name: 'F_STREAM_DISABLED', fields: {} },
  [F_TRANSL_FORBIDDEN]: { name: 'F_TRANSL_FORBIDDEN', fields: pick('RnW', 'InputAddr') },
  [C_BAD_SUBSTREAMID]: { name: 'C_BAD_SUBSTREAMID', fields: pick('SubstreamID') },
  [F_CD_FETCH]: { name: 'F_CD_FETCH', fields: pick('SSV', 'SubstreamID', 'Reason', 'FetchAddr') },
  [C_BAD_CD]: { name: 'C_BAD_CD', fields: pick('SSV', 'SubstreamID') },
  [F_WALK_EABT]: {
    name: 'F_WALK_EABT',
    fields: pick('SSV', 'SubstreamID', 'Reason', 'PnU', 'InD', 'RnW', 'S2', 'CLASS', 'InputAddr', 'FetchAddr'),
  },
  [F_TRANSLATION]: { name: 'F_TRANSLATION', fields: pick(...TRANSLATION_FIELDS) },
  [F_ADDR_SIZE]: { name: 'F_ADDR_SIZE', fields: pick(...TRANSLATION_FIELDS) },
  [F_ACCESS]: { name: 'F_ACCESS', fields: pick(...TRANSLATION_FIELDS) },
  [F_PERMISSION]: { name: 'F_PERMISSION', fields: pick(...TRANSLATION_FIELDS, 'TTRnW') },
};
