/**
 * The two table formats that the driver writes: VMSAv8-64 stage 1 and stage 2 (DDI 0487, D8.3), as frozen records of
 * numbers for the one writer in page-table.ts. Sizes are log2 bytes; frames are 4 KiB whatever the granule.
 */
import { ADDRESS_BITS } from '../../hardware/smmuv3/spec/ste.ts';
import { PROT_WRITE } from '../iommu-driver.ts';

/** log2 bytes of a granule. */
export type GranuleLog2 = 12 | 14 | 16;

export interface TableFormat {
  readonly stage: 1 | 2;
  readonly granuleLog2: GranuleLog2;
  readonly inputBits: number;
  readonly outputBits: number;
  readonly startLevel: number;
  /** Tables side by side at the start level: 1, or up to 16 concatenated ones at stage 2. */
  readonly rootTables: number;
  /** By level 0..3: log2 frames that one descriptor covers. */
  readonly frameShifts: readonly number[];
  /** First level whose descriptors may be leaves. */
  readonly firstLeafLevel: number;
  /** The hardware records writes (stage 1 only): leaves that may be written start dirty. */
  readonly dirtyTracking: boolean;
  /** Low and high word of a leaf without type and address, by prot (PROT_READ | PROT_WRITE). */
  readonly attributes: readonly number[];
  readonly highAttributes: readonly number[];
}

const TYPE_BLOCK = 0b01;
const TYPE_TABLE_OR_PAGE = 0b11;

export const tableDescriptorType = TYPE_TABLE_OR_PAGE;

/** Descriptor bits [1:0] of a leaf at `level`. */
export const leafType = (level: number): number => (level === 3 ? TYPE_TABLE_OR_PAGE : TYPE_BLOCK);

const AF = 1 << 10;
const INNER_SHAREABLE = 0b11 << 8;

// Stage 1 (D8.5). AttrIndx 0 is write-back in the MAIR that CDs get.
const NOT_GLOBAL = 1 << 11;
export const AP_READ_ONLY: number = 1 << 7;
const AP_UNPRIVILEGED = 1 << 6;
/** Bit 51, in the high word: with AP[2] the page is writable-clean, without it writable-dirty. */
export const DIRTY_BIT_MODIFIER: number = 1 << 19;

// Stage 2: MemAttr write-back cacheable, inner and outer; S2AP bits are the prot bits in place.
const S2_WRITE_BACK = 0b1111 << 2;
const S2AP_SHIFT = 6;

const stage1Attributes = (prot: number): number =>
  AF | INNER_SHAREABLE | NOT_GLOBAL | AP_UNPRIVILEGED | (prot & PROT_WRITE ? 0 : AP_READ_ONLY);

const stage2Attributes = (prot: number): number => AF | INNER_SHAREABLE | S2_WRITE_BACK | (prot << S2AP_SHIFT);

/**
 * @param inputBits  IOVA bits (stage 1) or IPA bits (stage 2)
 * @param outputBits IDR5.OAS in bits; both are cut to what the granule can hold without LPA2
 * @param dirtyTracking of stage 1 only
 */
export function tableFormat(
  stage: 1 | 2,
  granuleLog2: GranuleLog2,
  inputBits: number,
  outputBits: number,
  dirtyTracking = false,
): TableFormat {
  const most = granuleLog2 === 16 ? 52 : 48;
  const input = Math.min(inputBits, most);
  const output = Math.min(outputBits, most);
  const levelBits = granuleLog2 - 3;
  const levels = Math.ceil((input - granuleLog2) / levelBits);
  const rootBits = input - granuleLog2 - levelBits * (levels - 1);
  const naturalStart = 4 - levels;
  const concatenate = stage === 2 && naturalStart < firstStartLevel(granuleLog2, output);
  return Object.freeze({
    stage,
    granuleLog2,
    inputBits: input,
    outputBits: output,
    startLevel: concatenate ? naturalStart + 1 : naturalStart,
    rootTables: concatenate ? 2 ** rootBits : 1,
    frameShifts: Object.freeze([3, 2, 1, 0].map((up) => granuleLog2 - 12 + up * levelBits)),
    firstLeafLevel: granuleLog2 === 12 || output === 52 ? 1 : 2,
    dirtyTracking,
    attributes: Object.freeze([0, 1, 2, 3].map(stage === 1 ? stage1Attributes : stage2Attributes)),
    highAttributes: Object.freeze(
      [0, 1, 2, 3].map((prot) => (dirtyTracking && prot & PROT_WRITE ? DIRTY_BIT_MODIFIER : 0)),
    ),
  });
}

/**
 * Where a stage 2 may begin on hardware with so many bits of PA (D8.2, VTCR_EL2.SL0). Narrower hardware begins a level
 * later, with up to 16 tables side by side.
 */
function firstStartLevel(granuleLog2: GranuleLog2, outputBits: number): number {
  if (granuleLog2 === 12) return outputBits < 44 ? 1 : 0;
  return outputBits < (granuleLog2 === 14 ? 42 : 44) ? 2 : 1;
}

/** CD.IPS and STE.S2PS for a number of output bits. */
export const addressSizeCode = (bits: number): number => (ADDRESS_BITS as readonly number[]).indexOf(bits);

/** Bit n set: leaves of 2^n bytes. */
export function pageSizesOf(format: TableFormat): bigint {
  let sizes = 0n;
  for (let level = Math.max(format.firstLeafLevel, format.startLevel); level <= 3; level++) {
    sizes |= 1n << BigInt(format.frameShifts[level]! + 12);
  }
  return sizes;
}
