/** Commands (IHI 0070, chapter 4): 16 bytes. Layouts only. */
import { bit, bits, type Fields } from './field.ts';

export const COMMAND_BYTES = 16;
export const COMMAND_WORDS = 4;

export const CMD_PREFETCH_CONFIG = 0x01;
export const CMD_PREFETCH_ADDR = 0x02;
export const CMD_CFGI_STE = 0x03;
/** With Range = 31 this is CMD_CFGI_ALL. */
export const CMD_CFGI_STE_RANGE = 0x04;
export const CMD_CFGI_CD = 0x05;
export const CMD_CFGI_CD_ALL = 0x06;
export const CMD_TLBI_NH_ALL = 0x10;
export const CMD_TLBI_NH_ASID = 0x11;
export const CMD_TLBI_NH_VA = 0x12;
export const CMD_TLBI_NH_VAA = 0x13;
export const CMD_TLBI_EL2_ALL = 0x20;
export const CMD_TLBI_EL2_ASID = 0x21;
export const CMD_TLBI_EL2_VA = 0x22;
export const CMD_TLBI_EL2_VAA = 0x23;
export const CMD_TLBI_S12_VMALL = 0x28;
export const CMD_TLBI_S2_IPA = 0x2a;
export const CMD_TLBI_NSNH_ALL = 0x30;
export const CMD_ATC_INV = 0x40;
export const CMD_PRI_RESP = 0x41;
export const CMD_RESUME = 0x44;
export const CMD_STALL_TERM = 0x45;
export const CMD_SYNC = 0x46;

/** Every field of every command. Fields with the same place and name share one entry. */
export const CMD = {
  Opcode: bits(7, 0),
  SSec: bit(10),
  SSV: bit(11),
  SubstreamID: bits(31, 12),
  StreamID: bits(63, 32),
  /** CMD_CFGI_STE, CMD_CFGI_CD and the TLBI commands by address. */
  Leaf: bit(64),
  /** CMD_CFGI_STE_RANGE: 2^(Range + 1) StreamIDs. */
  Range: bits(68, 64),
  /** TLBI by address, with IDR3.RIL and TG != 0: (NUM + 1) * 2^SCALE granules. */
  NUM: bits(16, 12),
  SCALE: bits(24, 20),
  VMID: bits(47, 32),
  ASID: bits(63, 48),
  TTL: bits(73, 72),
  TG: bits(75, 74),
  /** VA, IPA or the address of CMD_ATC_INV. */
  Address: bits(127, 76),
  /** CMD_ATC_INV. */
  Global: bit(9),
  Size: bits(69, 64),
  /** CMD_PRI_RESP. */
  PRGIndex: bits(72, 64),
  Resp: bits(77, 76),
  /** CMD_RESUME. */
  Action: bit(12),
  Abort: bit(13),
  STAG: bits(79, 64),
  /** CMD_SYNC. */
  CS: bits(13, 12),
  MSH: bits(23, 22),
  MSIAttr: bits(27, 24),
  MSIData: bits(63, 32),
  MSIAddress: bits(115, 66),
  /** CMD_PREFETCH_ADDR. */
  PrefetchSize: bits(68, 64),
} as const satisfies Fields;

/** TG of a TLBI command: log2 bytes of the granule; 0 means "no range, no level hint". */
export const TLBI_TG_LOG2 = [0, 12, 14, 16] as const;

export const CS_NONE = 0b00;
export const CS_IRQ = 0b01;
export const CS_SEV = 0b10;

export const RESP_FAILURE = 0b00;
export const RESP_INVALID = 0b01;
export const RESP_SUCCESS = 0b10;

/** CMDQ_CONS.ERR (7.1). */
export const CERROR_NONE = 0x00;
export const CERROR_ILL = 0x01;
export const CERROR_ABT = 0x02;
export const CERROR_ATC_INV_SYNC = 0x03;
export const CERROR_NAMES: Readonly<Record<number, string>> = {
  [CERROR_ILL]: 'CERROR_ILL',
  [CERROR_ABT]: 'CERROR_ABT',
  [CERROR_ATC_INV_SYNC]: 'CERROR_ATC_INV_SYNC',
};

export interface CommandLayout {
  readonly name: string;
  readonly fields: Fields;
}

const pick = (...names: Array<keyof typeof CMD>): Fields => Object.fromEntries(names.map((name) => [name, CMD[name]]));

const BY_ADDRESS = ['NUM', 'SCALE', 'TTL', 'TG', 'Leaf', 'Address'] as const;

/** Name and fields by opcode, for printers and checks. Opcodes that are not here are CERROR_ILL. */
export const COMMAND_LAYOUTS: Readonly<Record<number, CommandLayout>> = {
  [CMD_PREFETCH_CONFIG]: { name: 'CMD_PREFETCH_CONFIG', fields: pick('SSec', 'SSV', 'SubstreamID', 'StreamID') },
  [CMD_PREFETCH_ADDR]: {
    name: 'CMD_PREFETCH_ADDR',
    fields: pick('SSec', 'SSV', 'SubstreamID', 'StreamID', 'PrefetchSize', 'Address'),
  },
  [CMD_CFGI_STE]: { name: 'CMD_CFGI_STE', fields: pick('SSec', 'StreamID', 'Leaf') },
  [CMD_CFGI_STE_RANGE]: { name: 'CMD_CFGI_STE_RANGE', fields: pick('SSec', 'StreamID', 'Range') },
  [CMD_CFGI_CD]: { name: 'CMD_CFGI_CD', fields: pick('SSec', 'SubstreamID', 'StreamID', 'Leaf') },
  [CMD_CFGI_CD_ALL]: { name: 'CMD_CFGI_CD_ALL', fields: pick('SSec', 'StreamID') },
  [CMD_TLBI_NH_ALL]: { name: 'CMD_TLBI_NH_ALL', fields: pick('VMID') },
  [CMD_TLBI_NH_ASID]: { name: 'CMD_TLBI_NH_ASID', fields: pick('VMID', 'ASID') },
  [CMD_TLBI_NH_VA]: { name: 'CMD_TLBI_NH_VA', fields: pick('VMID', 'ASID', ...BY_ADDRESS) },
  [CMD_TLBI_NH_VAA]: { name: 'CMD_TLBI_NH_VAA', fields: pick('VMID', ...BY_ADDRESS) },
  [CMD_TLBI_EL2_ALL]: { name: 'CMD_TLBI_EL2_ALL', fields: {} },
  [CMD_TLBI_EL2_ASID]: { name: 'CMD_TLBI_EL2_ASID', fields: pick('ASID') },
  [CMD_TLBI_EL2_VA]: { name: 'CMD_TLBI_EL2_VA', fields: pick('ASID', ...BY_ADDRESS) },
  [CMD_TLBI_EL2_VAA]: { name: 'CMD_TLBI_EL2_VAA', fields: pick(...BY_ADDRESS) },
  [CMD_TLBI_S12_VMALL]: { name: 'CMD_TLBI_S12_VMALL', fields: pick('VMID') },
  [CMD_TLBI_S2_IPA]: { name: 'CMD_TLBI_S2_IPA', fields: pick('VMID', ...BY_ADDRESS) },
  [CMD_TLBI_NSNH_ALL]: { name: 'CMD_TLBI_NSNH_ALL', fields: {} },
  [CMD_ATC_INV]: {
    name: 'CMD_ATC_INV',
    fields: pick('Global', 'SSV', 'SubstreamID', 'StreamID', 'Size', 'Address'),
  },
  [CMD_PRI_RESP]: { name: 'CMD_PRI_RESP', fields: pick('SSV', 'SubstreamID', 'StreamID', 'PRGIndex', 'Resp') },
  [CMD_RESUME]: { name: 'CMD_RESUME', fields: pick('SSec', 'Action', 'Abort', 'StreamID', 'STAG') },
  [CMD_STALL_TERM]: { name: 'CMD_STALL_TERM', fields: pick('SSec', 'StreamID') },
  [CMD_SYNC]: { name: 'CMD_SYNC', fields: pick('CS', 'MSH', 'MSIAttr', 'MSIData', 'MSIAddress') },
};
