/** An STE as the SMMU uses it, decoded and checked (IHI 0070, 5.2 and 5.2.2). */
import { EXECUTE, PRIVILEGED } from '../iommu.ts';
import { GRANULES, stage2StartAllowed } from '../pagetable/granule.ts';
import { XNX } from '../pagetable/leaf.ts';
import { TableRoot } from '../pagetable/table-root.ts';
import type { SmmuSettings } from './settings.ts';
import { frameAt, get, offsetAt } from './spec/field.ts';
import { STALL_MODEL_BOTH, STALL_MODEL_STALL, STALL_MODEL_TERMINATE } from './spec/registers.ts';
import {
  ADDRESS_BITS,
  CONFIG_S1,
  EATS_FULL,
  EATS_SPLIT,
  OVERRIDE_CLEAR,
  OVERRIDE_SET,
  S1FMT_4K_L2,
  S1FMT_64K_L2,
  STE,
  TG0_LOG2,
} from './spec/ste.ts';

export class StreamConfig {
  /** STE.Config. */
  config: number;
  stage1: boolean;
  stage2: boolean;
  /** Tag of everything that is cached for this stream: S2VMID, or 0 without stage 2 support. */
  vmid: number;
  s1Fmt: number;
  s1ContextFrame: number;
  s1ContextOffset: number;
  s1CdMax: number;
  s1Dss: number;
  /** Effective EATS allows Full ATS. */
  fullAts: boolean;
  /** 0b0x incoming, 0b10 clear, 0b11 set. */
  privCfg: number;
  instCfg: number;
  /** The same for access bits: those that stay as they come in, and those that are set. */
  incomingAccess: number;
  setAccess: number;
  /** STE.S1STALLD is 0. */
  s1MayStall: boolean;
  /** STE.S2R, or S2S. */
  s2Record: boolean;
  s2Stall: boolean;
  readonly second: TableRoot;

  constructor() {
    this.config = 0;
    this.stage1 = false;
    this.stage2 = false;
    this.vmid = 0;
    this.s1Fmt = 0;
    this.s1ContextFrame = 0;
    this.s1ContextOffset = 0;
    this.s1CdMax = 0;
    this.s1Dss = 0;
    this.fullAts = false;
    this.privCfg = 0;
    this.instCfg = 0;
    this.incomingAccess = -1;
    this.setAccess = 0;
    this.s1MayStall = true;
    this.s2Record = false;
    this.s2Stall = false;
    this.second = new TableRoot();
  }

  /** Takes an STE. False: it is not valid or ILLEGAL (C_BAD_STE). */
  decode(ste: Uint32Array, settings: SmmuSettings): boolean {
    if (get(ste, 0, STE.V) === 0) return false;
    this.config = get(ste, 0, STE.Config);
    const passes = (this.config & 0b100) !== 0;
    this.stage1 = passes && (this.config & 0b001) !== 0;
    this.stage2 = passes && (this.config & 0b010) !== 0;
    if (!passes) return true;
    this.vmid = settings.s2p ? get(ste, 0, STE.S2VMID) : 0;
    if (!settings.vmid16 && this.vmid > 0xff && (this.stage1 || this.stage2)) return false;
    this.privCfg = settings.attrPermsOvr ? get(ste, 0, STE.PRIVCFG) : 0;
    this.instCfg = settings.attrPermsOvr ? get(ste, 0, STE.INSTCFG) : 0;
    this.incomingAccess = ~((overridden(this.privCfg) ? PRIVILEGED : 0) | (overridden(this.instCfg) ? EXECUTE : 0));
    this.setAccess = (this.privCfg === OVERRIDE_SET ? PRIVILEGED : 0) | (this.instCfg === OVERRIDE_SET ? EXECUTE : 0);
    return (
      this.decodeAts(ste, settings) &&
      (!this.stage1 || this.decodeStage1(ste, settings)) &&
      (!this.stage2 || this.decodeStage2(ste, settings))
    );
  }

  private decodeAts(ste: Uint32Array, settings: SmmuSettings): boolean {
    this.fullAts = false;
    if (!settings.ats || !(this.stage1 || this.stage2)) return true;
    const eats = get(ste, 0, STE.EATS);
    // Split-stage ATS is not there (IDR0.NS1ATS = 1), so its encoding is ILLEGAL; 0b11 behaves as 0b00.
    if (eats === EATS_SPLIT) return false;
    this.fullAts = eats === EATS_FULL;
    return true;
  }

  private decodeStage1(ste: Uint32Array, settings: SmmuSettings): boolean {
    if (!settings.s1p) return false;
    // STRW is RES0: there is no EL2 stream world (IDR0.Hyp = 0). S1STALLD is for those who can choose.
    this.s1MayStall = get(ste, 0, STE.S1STALLD) === 0;
    if (!this.s1MayStall && settings.stallModel !== STALL_MODEL_BOTH) return false;
    this.s1CdMax = get(ste, 0, STE.S1CDMax);
    // 5.2: "0 to SSIDSIZE inclusive, other values are ILLEGAL". Later issues (H.a) ignore the field when SSIDSIZE = 0.
    if (this.s1CdMax > settings.ssidSize) return false;
    this.s1Fmt = get(ste, 0, STE.S1Fmt);
    const twoLevel = this.s1Fmt === S1FMT_4K_L2 || this.s1Fmt === S1FMT_64K_L2;
    if (this.s1CdMax > 0 && twoLevel && !settings.twoLevelCdTable) return false;
    this.s1Dss = get(ste, 0, STE.S1DSS);
    this.s1ContextFrame = frameAt(ste, 0, STE.S1ContextPtr);
    this.s1ContextOffset = offsetAt(ste, 0, STE.S1ContextPtr);
    // 3.4.3 (1): C_BAD_STE for a PA beyond OAS. An IPA goes to stage 2, which refuses it: case (2) b.
    return this.config !== CONFIG_S1 || this.s1ContextFrame < 2 ** (settings.oas - 12);
  }

  private decodeStage2(ste: Uint32Array, settings: SmmuSettings): boolean {
    if (!settings.s2p) return false;
    if (get(ste, 0, STE.S2ENDI) === 1 || get(ste, 0, STE.S2AA64) === 0) return false;
    this.s2Stall = get(ste, 0, STE.S2S) === 1;
    if (settings.stallModel === (this.s2Stall ? STALL_MODEL_TERMINATE : STALL_MODEL_STALL)) return false;
    if (settings.httu < 1 && get(ste, 0, STE.S2HA) === 1) return false;
    if (settings.httu < 2 && get(ste, 0, STE.S2HD) === 1) return false;
    const granule = GRANULES[TG0_LOG2[get(ste, 0, STE.S2TG) as 0 | 1 | 2 | 3]];
    if (granule === undefined || !settings.granules.includes((2 ** (granule.log2Bytes - 10)) as 4 | 16 | 64))
      return false;
    const t0sz = get(ste, 0, STE.S2T0SZ);
    const widest = granule.log2Bytes === 16 ? 52 : 48;
    if (t0sz > 39 || t0sz < 64 - Math.min(widest, settings.oas)) return false;
    const level = startLevel(granule.log2Bytes, get(ste, 0, STE.S2SL0), settings.oas);
    if (level < 0 || !stage2StartAllowed(granule, 64 - t0sz, level)) return false;
    const outputBits = Math.min(ADDRESS_BITS[get(ste, 0, STE.S2PS)]!, settings.oas);
    const frame = frameAt(ste, 0, STE.S2TTB);
    const reach = granule.log2Bytes === 16 ? outputBits : Math.min(outputBits, 48);
    if (frame >= 2 ** (reach - 12)) return false;
    this.second.configure(granule, 64 - t0sz, level, frame, offsetAt(ste, 0, STE.S2TTB), outputBits, settings.oas);
    this.second.configureFlags(get(ste, 0, STE.S2AFFD) === 1, get(ste, 0, STE.S2HA) === 1, get(ste, 0, STE.S2HD) === 1);
    this.second.xnxBit = settings.xnx ? XNX : 0;
    this.second.protectsTables = get(ste, 0, STE.S2PTW) === 1;
    this.s2Record = this.s2Stall || get(ste, 0, STE.S2R) === 1;
    return true;
  }
}

const overridden = (cfg: number): boolean => cfg === OVERRIDE_CLEAR || cfg === OVERRIDE_SET;

/** S2SL0 to the level it names, or -1 (DDI 0487, VTCR_EL2.SL0: reserved, or beyond what `oas` bits can use). */
function startLevel(log2Bytes: number, sl0: number, oas: number): number {
  if (log2Bytes === 12) return sl0 === 3 || (sl0 === 2 && oas < 44) ? -1 : 2 - sl0;
  return sl0 === 3 || (sl0 === 2 && oas < (log2Bytes === 14 ? 42 : 44)) ? -1 : 3 - sl0;
}
