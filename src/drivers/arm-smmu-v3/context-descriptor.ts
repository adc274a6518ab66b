/** The context descriptor of a host stage 1 (5.4), as 16 words. */
import { CD, CD_WORDS } from '../../hardware/smmuv3/spec/cd.ts';
import { fieldBits, get, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { TG0_LOG2 } from '../../hardware/smmuv3/spec/ste.ts';
import type { PageTable } from './page-table.ts';
import { addressSizeCode } from './table-format.ts';

const WRITE_BACK = 0b01;
const INNER_SHAREABLE = 0b11;
/** MAIR attribute 0, the only one that leaves name: normal memory, write-back, non-transient. */
const NORMAL_WRITE_BACK = 0xff;

/** @param stalls transactions of the device may stall */
export function stage1Context(table: PageTable, asid: number, stalls: boolean): Uint32Array {
  const cd = new Uint32Array(CD_WORDS);
  const { format } = table;
  put(cd, 0, CD.V, 1);
  put(cd, 0, CD.AA64, 1);
  put(cd, 0, CD.T0SZ, 64 - format.inputBits);
  put(cd, 0, CD.TG0, TG0_LOG2.indexOf(format.granuleLog2));
  put(cd, 0, CD.IR0, WRITE_BACK);
  put(cd, 0, CD.OR0, WRITE_BACK);
  put(cd, 0, CD.SH0, INNER_SHAREABLE);
  put(cd, 0, CD.EPD1, 1);
  put(cd, 0, CD.IPS, addressSizeCode(format.outputBits));
  // A: abort to the device; R: record the fault. ASET: the ASID is ours alone, no CPU broadcast concerns it.
  put(cd, 0, CD.A, 1);
  put(cd, 0, CD.S, stalls ? 1 : 0);
  put(cd, 0, CD.R, 1);
  put(cd, 0, CD.ASET, 1);
  put(cd, 0, CD.ASID, asid);
  // The dirty state is recorded only together with the access flag (3.13); our leaves have AF = 1 already.
  put(cd, 0, CD.HA, format.dirtyTracking ? 1 : 0);
  put(cd, 0, CD.HD, format.dirtyTracking ? 1 : 0);
  putFrame(cd, 0, CD.TTB0, table.rootFrame);
  put(cd, 0, CD.MAIR0, NORMAL_WRITE_BACK);
  return cd;
}

const V_ONLY = Uint32Array.from({ length: CD_WORDS }, (_, word) => fieldBits({ V: CD.V }, word));
const EVERY_BIT = new Uint32Array(CD_WORDS).fill(0xffff_ffff);

/** Mask of the bits that mean something in a descriptor (3.21.3): all of a valid one of ours. */
export const usedBitsOfContext = (cd: Uint32Array): Uint32Array => (get(cd, 0, CD.V) ? EVERY_BIT : V_ONLY);
