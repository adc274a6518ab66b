/** A CD as the SMMU uses it, decoded and checked (IHI 0070, 5.4 and 5.4.2). */
import { GRANULES, startLevelOf } from '../pagetable/granule.ts';
import { PAN, WXN } from '../pagetable/leaf.ts';
import { TableRoot } from '../pagetable/table-root.ts';
import { GLOBAL_SHARED, GLOBAL_UNSHARED } from './iotlb.ts';
import type { SmmuSettings } from './settings.ts';
import { CD, TG1_LOG2 } from './spec/cd.ts';
import { type Field, frameAt, get, offsetAt } from './spec/field.ts';
import { STALL_MODEL_STALL, STALL_MODEL_TERMINATE } from './spec/registers.ts';
import { ADDRESS_BITS, TG0_LOG2 } from './spec/ste.ts';

export class ContextConfig {
  asid: number;
  /** Tag of the global entries that this context makes and hits, by CD.ASET. */
  globalTag: number;
  /** CD.R: stage 1 faults are recorded; always when they stall (5.5). */
  record: boolean;
  /** CD.A = 0: transactions with stage 1 faults end RAZ/WI. */
  discard: boolean;
  /** CD.S: transactions with stage 1 faults stall. */
  stall: boolean;
  /** Null when EPDx = 1: every address of that half faults. */
  lower: TableRoot | null;
  upper: TableRoot | null;
  /** Top byte ignored, per half. */
  tbi0: boolean;
  tbi1: boolean;
  private readonly root0: TableRoot;
  private readonly root1: TableRoot;

  constructor() {
    this.asid = 0;
    this.globalTag = GLOBAL_SHARED;
    this.record = false;
    this.discard = false;
    this.stall = false;
    this.lower = null;
    this.upper = null;
    this.tbi0 = false;
    this.tbi1 = false;
    this.root0 = new TableRoot();
    this.root1 = new TableRoot();
  }

  /**
   * Takes a CD. False: it is not valid or ILLEGAL (C_BAD_CD).
   * @param mayStall STE.S1STALLD is 0
   */
  decode(cd: Uint32Array, settings: SmmuSettings, mayStall: boolean): boolean {
    if (get(cd, 0, CD.V) === 0 || get(cd, 0, CD.AA64) === 0) return false;
    this.discard = get(cd, 0, CD.A) === 0;
    if (this.discard && settings.termModel === 1) return false;
    this.stall = get(cd, 0, CD.S) === 1;
    if (
      this.stall
        ? !mayStall || settings.stallModel === STALL_MODEL_TERMINATE
        : settings.stallModel === STALL_MODEL_STALL
    )
      return false;
    if (settings.httu < 1 && get(cd, 0, CD.HA) === 1) return false;
    if (settings.httu < 2 && get(cd, 0, CD.HD) === 1) return false;
    this.asid = get(cd, 0, CD.ASID);
    if (!settings.asid16 && this.asid > 0xff) return false;
    this.globalTag = get(cd, 0, CD.ASET) === 1 ? GLOBAL_UNSHARED : GLOBAL_SHARED;
    this.record = this.stall || get(cd, 0, CD.R) === 1;
    this.tbi0 = get(cd, 0, CD.TBI0) === 1;
    this.tbi1 = get(cd, 0, CD.TBI1) === 1;
    this.lower = get(cd, 0, CD.EPD0) === 1 ? null : this.root0;
    this.upper = get(cd, 0, CD.EPD1) === 1 ? null : this.root1;
    if ((this.lower ?? this.upper) !== null && get(cd, 0, CD.ENDI) === 1) return false;
    const log2Bytes0 = TG0_LOG2[get(cd, 0, CD.TG0) as 0 | 1 | 2 | 3];
    const log2Bytes1 = TG1_LOG2[get(cd, 0, CD.TG1) as 0 | 1 | 2 | 3];
    return (
      decodeRoot(this.lower, cd, settings, log2Bytes0, CD.T0SZ, CD.TTB0, CD.HAD0) &&
      decodeRoot(this.upper, cd, settings, log2Bytes1, CD.T1SZ, CD.TTB1, CD.HAD1)
    );
  }
}

function decodeRoot(
  root: TableRoot | null,
  cd: Uint32Array,
  settings: SmmuSettings,
  log2Bytes: number,
  txsz: Field,
  ttb: Field,
  had: Field,
): boolean {
  if (root === null) return true;
  const granule = GRANULES[log2Bytes];
  if (granule === undefined || !settings.granules.includes((2 ** (log2Bytes - 10)) as 4 | 16 | 64)) return false;
  const size = get(cd, 0, txsz);
  if (size < 16 || size > 39) return false;
  const outputBits = Math.min(ADDRESS_BITS[get(cd, 0, CD.IPS)]!, settings.oas);
  const frame = frameAt(cd, 0, ttb);
  if (frame >= 2 ** ((log2Bytes === 16 ? outputBits : Math.min(outputBits, 48)) - 12)) return false;
  const level = startLevelOf(granule, 64 - size);
  root.configure(granule, 64 - size, level, frame, offsetAt(cd, 0, ttb), outputBits, settings.oas);
  root.configureFlags(get(cd, 0, CD.AFFD) === 1, get(cd, 0, CD.HA) === 1, get(cd, 0, CD.HD) === 1);
  root.hierarchical = !(settings.had && get(cd, 0, had) === 1);
  root.wxnAndPan = (get(cd, 0, CD.WXN) === 1 ? WXN : 0) | (get(cd, 0, CD.PAN) === 1 ? PAN : 0);
  return true;
}
