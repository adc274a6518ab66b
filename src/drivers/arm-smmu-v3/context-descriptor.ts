/** The context descriptor of a host stage 1 (5.4), as 16 words. */
import { CD, CD_WORDS } from '../../hardware/smmuv3/spec/cd.ts';
import { put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { TG0_LOG2 } from '../../hardware/smmuv3/spec/ste.ts';
import type { PageTable } from './page-table.ts';
import { addressSizeCode } from './table-format.ts';

const WRITE_BACK = 0b01;
const INNER_SHAREABLE = 0b11;
/** MAIR attribute 0, the only one that leaves name: normal memory, write-back, non-transient. */
const NORMAL_WRITE_BACK = 0xff;

export function stage1Context(table: PageTable, asid: number): Uint32Array {
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
  put(cd, 0, CD.R, 1);
  put(cd, 0, CD.ASET, 1);
  put(cd, 0, CD.ASID, asid);
  putFrame(cd, 0, CD.TTB0, table.rootFrame);
  put(cd, 0, CD.MAIR0, NORMAL_WRITE_BACK);
  return cd;
}
