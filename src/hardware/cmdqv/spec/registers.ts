/**
 * Registers of a Tegra241 CMDQV, the command queue virtualisation in front of an SMMUv3. There is no public manual:
 * offsets, fields and reset values are those that drivers and emulators agree on. Bits without a field are RES0.
 *
 * The block: the CONFIG page, two pages of the VCMDQs by global index, and for each VINTF two pages of the same registers
 * by the logical index of a queue in that VINTF. Only a VINTF's page 0 is ever given to a guest.
 */
import { bit, bits, type Fields } from '../../smmuv3/spec/field.ts';

export const PAGE_BYTES = 0x10000;
export const CONFIG_PAGE = 0;
export const VCMDQ_PAGE0 = 0x10000;
export const VCMDQ_PAGE1 = 0x20000;
/** Page 0 of VINTF 0; page 1 follows, then the next VINTF's. */
export const VINTF_PAGES = 0x30000;
/** What a VCMDQ has of a page. */
export const VCMDQ_BYTES = 0x80;
/** Within the CONFIG page: VINTF 0, and what each has. */
export const VINTF_REGISTERS = 0x1000;
export const VINTF_BYTES = 0x100;

export const MOST_LOG2_VINTFS = 6;
export const MOST_LOG2_VCMDQS = 7;
export const MOST_LOG2_SIDS = 4;

export interface RegisterSpec<F extends Fields = Fields> {
  /** From the page, from the VINTF's registers in it, or from the queue's. */
  readonly offset: number;
  /** Words of 32 bits: those of one register, or as many registers in a row with the same fields. */
  readonly words: number;
  readonly access: 'RO' | 'RW';
  readonly reset: number;
  readonly fields: F;
}

interface Options {
  words?: number;
  access?: 'RO' | 'RW';
  reset?: number;
}

function register<const F extends Fields>(offset: number, fields: F, options: Options = {}): RegisterSpec<F> {
  const { words = 1, access = 'RW', reset = 0 } = options;
  return Object.freeze({ offset, words, access, reset, fields });
}

const MAP = { MAP: bits(31, 0) } as const;

export const CONFIG_REGISTERS = {
  /**
   * Batch sizes are kept, without effect on a functional model. CONS_DRAM_EN (bit 20: copies of CONS in memory) is left
   * out: what is written there is not known.
   */
  CONFIG: register(
    0x000,
    {
      CMDQV_EN: bit(0),
      CMDQV_PER_CMD_OFFSET: bits(3, 1),
      CMDQ_MAX_CLK_BATCH: bits(11, 4),
      CMDQ_MAX_CMD_BATCH: bits(19, 12),
    },
    { reset: 0x0002_0083 },
  ),
  PARAM: register(
    0x004,
    {
      CMDQV_VER: bits(3, 0),
      CMDQV_NUM_CMDQ_LOG2: bits(7, 4),
      CMDQV_NUM_VI_LOG2: bits(11, 8),
      CMDQV_NUM_SID_PER_VI_LOG2: bits(15, 12),
    },
    { access: 'RO' },
  ),
  STATUS: register(0x008, { CMDQV_ENABLED: bit(0) }, { access: 'RO' }),
  /** A bit per VINTF. */
  VI_ERR_MAP: register(0x014, MAP, { words: 2, access: 'RO' }),
  VI_INT_MASK: register(0x01c, MAP, { words: 2 }),
  /** A bit per VCMDQ, by global index. */
  CMDQ_ERR_MAP: register(0x024, MAP, { words: 4, access: 'RO' }),
  /** Whose a VCMDQ is. */
  CMDQ_ALLOC_MAP: register(0x200, { ALLOC: bit(0), LVCMDQ: bits(7, 1), VIRT_INTF_INDX: bits(20, 15) }, { words: 128 }),
} as const satisfies Record<string, RegisterSpec>;

export const VINTF = {
  CONFIG: register(0x00, { ENABLE: bit(0), VMID: bits(16, 1), HYP_OWN: bit(17) }),
  STATUS: register(0x04, { ENABLE_OK: bit(0), STATUS: bits(3, 1), VI_NUM_LVCMDQ: bits(23, 16) }, { access: 'RO' }),
  SID_MATCH: register(0x40, { ENABLE: bit(0), VIRT_SID: bits(20, 1) }, { words: 16 }),
  SID_REPLACE: register(0x80, { PHYS_SID: bits(19, 0) }, { words: 16 }),
  /** A bit per queue, by its index in the VINTF. */
  LVCMDQ_ERR_MAP: register(0xc0, MAP, { words: 4, access: 'RO' }),
} as const satisfies Record<string, RegisterSpec>;

/** VINTF.STATUS.STATUS */
export const VINTF_NO_ERROR = 0;
export const VINTF_VCMDQ_ERROR = 1;

const ERRORS = { CMDQ_ERR: bit(0), CONS_DRAM_WR_ABT_ERR: bit(1), CMDQ_INIT_ERR: bit(2) } as const;

/** Of a queue, in page 0. */
export const PAGE0 = {
  CONS_INDX: register(0x00, { RD: bits(19, 0), ERR: bits(30, 24) }),
  PROD_INDX: register(0x04, { WR: bits(19, 0) }),
  CONFIG: register(0x08, { CMDQ_EN: bit(0) }),
  STATUS: register(0x0c, { CMDQ_EN_OK: bit(0) }, { access: 'RO' }),
  GERROR: register(0x10, ERRORS, { access: 'RO' }),
  GERRORN: register(0x14, ERRORS),
} as const satisfies Record<string, RegisterSpec>;

/** Of a queue, in page 1: physical addresses. */
export const PAGE1 = {
  BASE: register(0x00, { LOG2SIZE: bits(4, 0), ADDR: bits(47, 5) }, { words: 2 }),
  CONS_INDX_BASE_DRAM: register(0x08, { ADDR: bits(47, 0) }, { words: 2 }),
} as const satisfies Record<string, RegisterSpec>;

/** Of the CONFIG page, but not here; a touch is RAZ/WI and noted by this name. */
export const ABSENT_REGISTERS: Readonly<Record<number, string>> = { 12: 'GLB_FILT_CFG', 16: 'GLB_FILT_DATA' };

/** CONS_INDX.ERR beyond the SMMU's own codes: the queue's owner may not give this command, or not for this stream. */
export const CERROR_ILL_ACCESS = 0x04;
