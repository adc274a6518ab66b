/**
 * Registers of the Non-secure programming interface (IHI 0070, chapter 6): page 0 at 0x0, page 1 at 0x10000. One table
 * drives reset, sanitising, save / restore and the documentation: bits without a field are RES0, registers without an
 * entry are RAZ/WI. Everything resets to 0 unless `reset` says otherwise; ID registers get theirs from the settings.
 */
import { bit, bits, type Fields } from './field.ts';

/** Who enables what this register configures: while that bit of CR0 or IRQ_CTRL is 1, writes are ignored (6.3). */
export type Lock = 'SMMUEN' | 'CMDQEN' | 'EVENTQEN' | 'PRIQEN' | 'EVENTQ_IRQEN' | 'PRIQ_IRQEN' | 'GERROR_IRQEN';

export interface RegisterSpec<F extends Fields = Fields> {
  readonly offset: number;
  /** 1 or 2 words of 32 bits. */
  readonly words: number;
  readonly access: 'RO' | 'RW';
  readonly reset: number;
  readonly lock: Lock | null;
  readonly fields: F;
}

interface Options {
  words?: number;
  access?: 'RO' | 'RW';
  reset?: number;
  lock?: Lock;
}

function register<const F extends Fields>(offset: number, fields: F, options: Options = {}): RegisterSpec<F> {
  const { words = 1, access = 'RW', reset = 0, lock = null } = options;
  return Object.freeze({ offset, words, access, reset, lock, fields });
}

const RO: Options = { access: 'RO' };
export const REGISTER_BYTES = 0x20000;
export const PAGE1 = 0x10000;

const CR0_FIELDS = { SMMUEN: bit(0), PRIQEN: bit(1), EVENTQEN: bit(2), CMDQEN: bit(3), ATSCHK: bit(4) } as const;
const IRQ_FIELDS = { GERROR_IRQEN: bit(0), PRIQ_IRQEN: bit(1), EVENTQ_IRQEN: bit(2) } as const;
const GERROR_FIELDS = {
  CMDQ_ERR: bit(0),
  EVENTQ_ABT_ERR: bit(2),
  PRIQ_ABT_ERR: bit(3),
  MSI_CMDQ_ABT_ERR: bit(4),
  MSI_EVENTQ_ABT_ERR: bit(5),
  MSI_PRIQ_ABT_ERR: bit(6),
  MSI_GERROR_ABT_ERR: bit(7),
  SFM_ERR: bit(8),
} as const;
const QUEUE_BASE = { LOG2SIZE: bits(4, 0), ADDR: bits(51, 5), WA: bit(62) } as const;
const MSI_ADDRESS = { ADDR: bits(51, 2) } as const;
const MSI_DATA = { DATA: bits(31, 0) } as const;
const MSI_ATTRIBUTES = { MemAttr: bits(3, 0), SH: bits(5, 4) } as const;

export const REGISTERS = {
  IDR0: register(
    0x00,
    {
      S2P: bit(0),
      S1P: bit(1),
      TTF: bits(3, 2),
      COHACC: bit(4),
      BTM: bit(5),
      HTTU: bits(7, 6),
      DORMHINT: bit(8),
      Hyp: bit(9),
      ATS: bit(10),
      NS1ATS: bit(11),
      ASID16: bit(12),
      MSI: bit(13),
      SEV: bit(14),
      ATOS: bit(15),
      PRI: bit(16),
      VMW: bit(17),
      VMID16: bit(18),
      CD2L: bit(19),
      VATOS: bit(20),
      TTENDIAN: bits(22, 21),
      ATSRECERR: bit(23),
      STALL_MODEL: bits(25, 24),
      TERM_MODEL: bit(26),
      ST_LEVEL: bits(28, 27),
      RME_IMPL: bit(30),
    },
    RO,
  ),
  IDR1: register(
    0x04,
    {
      SIDSIZE: bits(5, 0),
      SSIDSIZE: bits(10, 6),
      PRIQS: bits(15, 11),
      EVENTQS: bits(20, 16),
      CMDQS: bits(25, 21),
      ATTR_PERMS_OVR: bit(26),
      ATTR_TYPES_OVR: bit(27),
      REL: bit(28),
      QUEUES_PRESET: bit(29),
      TABLES_PRESET: bit(30),
      ECMDQ: bit(31),
    },
    RO,
  ),
  IDR2: register(0x08, { BA_VATOS: bits(9, 0) }, RO),
  IDR3: register(
    0x0c,
    {
      HAD: bit(2),
      PBHA: bit(3),
      XNX: bit(4),
      PPS: bit(5),
      MPAM: bit(7),
      FWB: bit(8),
      STT: bit(9),
      RIL: bit(10),
      BBML: bits(12, 11),
      E0PD: bit(13),
      PTWNNC: bit(14),
      DPT: bit(15),
      PASIDTT: bit(16),
      EPAN: bit(17),
      S1PI: bit(18),
      S2PI: bit(19),
      S2PO: bit(20),
      THE: bit(21),
      MTEPERM: bit(22),
      AIE: bit(23),
    },
    RO,
  ),
  IDR4: register(0x10, { IMPDEF: bits(31, 0) }, RO),
  IDR5: register(
    0x14,
    {
      OAS: bits(2, 0),
      GRAN4K: bit(4),
      GRAN16K: bit(5),
      GRAN64K: bit(6),
      DS: bit(7),
      D128: bit(8),
      VAX: bits(11, 10),
      STALL_MAX: bits(31, 16),
    },
    RO,
  ),
  IIDR: register(
    0x18,
    { Implementer: bits(11, 0), Revision: bits(15, 12), Variant: bits(19, 16), ProductID: bits(31, 20) },
    RO,
  ),
  AIDR: register(0x1c, { ArchMinorRev: bits(3, 0), ArchMajorRev: bits(7, 4) }, RO),
  CR0: register(0x20, CR0_FIELDS),
  CR0ACK: register(0x24, CR0_FIELDS, RO),
  /** Attributes of table and queue accesses: kept, without effect on a functional model. Locked by halves (6.3.11). */
  CR1: register(0x28, {
    QUEUE_IC: bits(1, 0),
    QUEUE_OC: bits(3, 2),
    QUEUE_SH: bits(5, 4),
    TABLE_IC: bits(7, 6),
    TABLE_OC: bits(9, 8),
    TABLE_SH: bits(11, 10),
  }),
  CR2: register(0x2c, { RECINVSID: bit(1), PTM: bit(2) }, { lock: 'SMMUEN' }),
  STATUSR: register(0x40, { DORMANT: bit(0) }, RO),
  GBPA: register(
    0x44,
    {
      MemAttr: bits(3, 0),
      MTCFG: bit(4),
      ALLOCCFG: bits(11, 8),
      SHCFG: bits(13, 12),
      PRIVCFG: bits(17, 16),
      INSTCFG: bits(19, 18),
      ABORT: bit(20),
      Update: bit(31),
    },
    // SHCFG = "use incoming".
    { reset: 0x1000 },
  ),
  IRQ_CTRL: register(0x50, IRQ_FIELDS),
  IRQ_CTRLACK: register(0x54, IRQ_FIELDS, RO),
  GERROR: register(0x60, GERROR_FIELDS, RO),
  GERRORN: register(0x64, GERROR_FIELDS),
  GERROR_IRQ_CFG0: register(0x68, MSI_ADDRESS, { words: 2, lock: 'GERROR_IRQEN' }),
  GERROR_IRQ_CFG1: register(0x70, MSI_DATA, { lock: 'GERROR_IRQEN' }),
  GERROR_IRQ_CFG2: register(0x74, MSI_ATTRIBUTES, { lock: 'GERROR_IRQEN' }),
  STRTAB_BASE: register(0x80, { ADDR: bits(51, 6), RA: bit(62) }, { words: 2, lock: 'SMMUEN' }),
  STRTAB_BASE_CFG: register(0x88, { LOG2SIZE: bits(5, 0), SPLIT: bits(10, 6), FMT: bits(17, 16) }, { lock: 'SMMUEN' }),
  CMDQ_BASE: register(0x90, { LOG2SIZE: bits(4, 0), ADDR: bits(51, 5), RA: bit(62) }, { words: 2, lock: 'CMDQEN' }),
  CMDQ_PROD: register(0x98, { WR: bits(19, 0) }),
  CMDQ_CONS: register(0x9c, { RD: bits(19, 0), ERR: bits(30, 24) }, { lock: 'CMDQEN' }),
  EVENTQ_BASE: register(0xa0, QUEUE_BASE, { words: 2, lock: 'EVENTQEN' }),
  EVENTQ_IRQ_CFG0: register(0xb0, MSI_ADDRESS, { words: 2, lock: 'EVENTQ_IRQEN' }),
  EVENTQ_IRQ_CFG1: register(0xb8, MSI_DATA, { lock: 'EVENTQ_IRQEN' }),
  EVENTQ_IRQ_CFG2: register(0xbc, MSI_ATTRIBUTES, { lock: 'EVENTQ_IRQEN' }),
  PRIQ_BASE: register(0xc0, QUEUE_BASE, { words: 2, lock: 'PRIQEN' }),
  PRIQ_IRQ_CFG0: register(0xd0, MSI_ADDRESS, { words: 2, lock: 'PRIQ_IRQEN' }),
  PRIQ_IRQ_CFG1: register(0xd8, MSI_DATA, { lock: 'PRIQ_IRQEN' }),
  PRIQ_IRQ_CFG2: register(0xdc, { ...MSI_ATTRIBUTES, LO: bit(31) }, { lock: 'PRIQ_IRQEN' }),
  EVENTQ_PROD: register(PAGE1 + 0xa8, { WR: bits(19, 0), OVFLG: bit(31) }, { lock: 'EVENTQEN' }),
  EVENTQ_CONS: register(PAGE1 + 0xac, { RD: bits(19, 0), OVACKFLG: bit(31) }),
  PRIQ_PROD: register(PAGE1 + 0xc8, { WR: bits(19, 0), OVFLG: bit(31) }, { lock: 'PRIQEN' }),
  PRIQ_CONS: register(PAGE1 + 0xcc, { RD: bits(19, 0), OVACKFLG: bit(31) }),
} as const satisfies Record<string, RegisterSpec>;

export type RegisterName = keyof typeof REGISTERS;

/** Registers that exist in the architecture but not here; a touch is RAZ/WI and noted by this name. */
export const ABSENT_REGISTERS: Readonly<Record<number, string>> = {
  72: 'AGBPA',
  168: 'EVENTQ_PROD (page 0 alias)',
  172: 'EVENTQ_CONS (page 0 alias)',
  200: 'PRIQ_PROD (page 0 alias)',
  204: 'PRIQ_CONS (page 0 alias)',
  256: 'GATOS_CTRL',
  264: 'GATOS_SID',
  272: 'GATOS_ADDR',
  280: 'GATOS_PAR',
  304: 'MPAMIDR',
  312: 'GMPAM',
  316: 'GBPMPAM',
  384: 'VATOS_SEL',
  400: 'IDR6',
  512: 'DPT_BASE',
  520: 'DPT_BASE_CFG',
  528: 'DPT_CFG_FAR',
};

/** GERROR conditions by name, as masks. */
export const CMDQ_ERR = 1 << 0;
export const EVENTQ_ABT_ERR = 1 << 2;
export const PRIQ_ABT_ERR = 1 << 3;
export const MSI_CMDQ_ABT_ERR = 1 << 4;
export const MSI_EVENTQ_ABT_ERR = 1 << 5;
export const MSI_PRIQ_ABT_ERR = 1 << 6;
export const MSI_GERROR_ABT_ERR = 1 << 7;

/** IDR0.TTF, IDR0.HTTU, IDR0.TTENDIAN, IDR0.STALL_MODEL, STRTAB_BASE_CFG.FMT values in use. */
export const TTF_AARCH64 = 0b10;
export const HTTU_ACCESS_DIRTY = 0b10;
export const TTENDIAN_LITTLE = 0b10;
export const STALL_MODEL_BOTH = 0b00;
export const STALL_MODEL_TERMINATE = 0b01;
export const STALL_MODEL_STALL = 0b10;
export const FMT_LINEAR = 0b00;
export const FMT_2LEVEL = 0b01;
