/** What an SMMU says of itself (IDR0 to IDR5), as the named facts that the driver decides by. */
import { type Field, get } from '../../hardware/smmuv3/spec/field.ts';
import {
  HTTU_ACCESS_DIRTY,
  REGISTERS,
  STALL_MODEL_STALL,
  STALL_MODEL_TERMINATE,
} from '../../hardware/smmuv3/spec/registers.ts';
import { ADDRESS_BITS } from '../../hardware/smmuv3/spec/ste.ts';
import type { Registers } from './registers.ts';
import type { GranuleLog2 } from './table-format.ts';

export interface Identity {
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly coherent: boolean;
  /** Devices' writes are recorded in the tables (IDR0.HTTU), which the driver reads through its caches. */
  readonly dirtyTracking: boolean;
  readonly ats: boolean;
  readonly pri: boolean;
  /** Devices may be made to stall, so a stage 1 that should terminate has to say so. */
  readonly stalls: boolean;
  /** They all have to. */
  readonly stallsForced: boolean;
  readonly twoLevelContextTable: boolean;
  readonly twoLevelStreamTable: boolean;
  readonly rangeInvalidation: boolean;
  readonly overridesShareability: boolean;
  readonly asidBits: number;
  readonly vmidBits: number;
  readonly streamBits: number;
  readonly substreamBits: number;
  readonly commandQueueLog2: number;
  readonly eventQueueLog2: number;
  readonly pageRequestQueueLog2: number;
  /** Smallest granule that the tables of the driver use. */
  readonly granuleLog2: GranuleLog2;
  readonly outputBits: number;
  /** Raw, for GET_HW_INFO. */
  readonly idr: readonly number[];
  readonly iidr: number;
  readonly aidr: number;
}

const { IDR0, IDR1, IDR2, IDR3, IDR4, IDR5, IIDR, AIDR } = REGISTERS;

/** Reads and judges the identity registers; an SMMU that the driver cannot run is an Error that says why. */
export function readIdentity(registers: Registers): Identity {
  const idr = Uint32Array.from([IDR0, IDR1, IDR2, IDR3, IDR4, IDR5], (register) => registers.read(register));
  const value = (index: number, field: Field): number => get(idr, index, field);
  const has = (index: number, field: Field): boolean => get(idr, index, field) === 1;

  const id0 = IDR0.fields;
  const id1 = IDR1.fields;
  if (!has(0, id0.S1P) && !has(0, id0.S2P)) throw new Error('the SMMU has neither stage 1 nor stage 2 (IDR0.S1P, S2P)');
  if (!(value(0, id0.TTF) & 0b10)) throw new Error('the SMMU does not walk AArch64 tables (IDR0.TTF)');
  const endian = value(0, id0.TTENDIAN);
  if (endian !== 0b00 && endian !== 0b10)
    throw new Error('the SMMU does not walk little-endian tables (IDR0.TTENDIAN)');
  if (has(1, id1.TABLES_PRESET) || has(1, id1.QUEUES_PRESET) || has(1, id1.REL)) {
    throw new Error('the SMMU has preset tables or queues (IDR1.TABLES_PRESET, QUEUES_PRESET, REL)');
  }
  return Object.freeze({
    stage1: has(0, id0.S1P),
    stage2: has(0, id0.S2P),
    coherent: has(0, id0.COHACC),
    dirtyTracking: value(0, id0.HTTU) === HTTU_ACCESS_DIRTY && has(0, id0.COHACC),
    ats: has(0, id0.ATS),
    pri: has(0, id0.PRI),
    stalls: value(0, id0.STALL_MODEL) !== STALL_MODEL_TERMINATE,
    stallsForced: value(0, id0.STALL_MODEL) === STALL_MODEL_STALL,
    twoLevelContextTable: has(0, id0.CD2L),
    twoLevelStreamTable: value(0, id0.ST_LEVEL) === 1,
    rangeInvalidation: has(3, IDR3.fields.RIL),
    overridesShareability: has(1, id1.ATTR_TYPES_OVR),
    asidBits: has(0, id0.ASID16) ? 16 : 8,
    vmidBits: has(0, id0.VMID16) ? 16 : 8,
    streamBits: value(1, id1.SIDSIZE),
    substreamBits: value(1, id1.SSIDSIZE),
    commandQueueLog2: value(1, id1.CMDQS),
    eventQueueLog2: value(1, id1.EVENTQS),
    pageRequestQueueLog2: value(1, id1.PRIQS),
    granuleLog2: smallestGranule(idr),
    outputBits: ADDRESS_BITS[value(5, IDR5.fields.OAS)]!,
    idr: Object.freeze([...idr]),
    iidr: registers.read(IIDR),
    aidr: registers.read(AIDR),
  });
}

function smallestGranule(idr: Uint32Array): GranuleLog2 {
  const { GRAN4K, GRAN16K, GRAN64K } = IDR5.fields;
  if (get(idr, 5, GRAN4K)) return 12;
  if (get(idr, 5, GRAN16K)) return 14;
  if (get(idr, 5, GRAN64K)) return 16;
  throw new Error('the SMMU has no granule (IDR5.GRAN4K, GRAN16K, GRAN64K)');
}
