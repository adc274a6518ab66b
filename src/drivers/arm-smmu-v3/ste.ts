/** The stream table entries that the driver writes (5.2), as 16 words, and which of their bits hardware looks at. */
import { type Field, fieldBits, get, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import {
  CONFIG_ABORT,
  CONFIG_BYPASS,
  CONFIG_NESTED,
  CONFIG_S1,
  CONFIG_S2,
  EATS_FULL,
  S1DSS_BYPASS,
  STE,
  STE_WORDS,
  STRW_NS_EL1,
  TG0_LOG2,
} from '../../hardware/smmuv3/spec/ste.ts';
import type { Identity } from './identity.ts';
import type { PageTable } from './page-table.ts';
import { addressSizeCode } from './table-format.ts';

/** Write-back, read- and write-allocate; inner shareable: what every table access of ours is. */
const WRITE_BACK = 0b01;
const INNER_SHAREABLE = 0b11;
const SHARE_AS_INCOMING = 0b01;

export type Ste = Uint32Array;

function valid(config: number): Ste {
  const ste = new Uint32Array(STE_WORDS);
  put(ste, 0, STE.V, 1);
  put(ste, 0, STE.Config, config);
  return ste;
}

export const abortSte = (): Ste => valid(CONFIG_ABORT);

/** What the STEs of a device have in common. */
export interface SteOptions {
  /** Its transactions may stall. */
  readonly stalls: boolean;
  readonly ats: boolean;
}

/** A table of context descriptors (5.3). */
export interface Contexts {
  readonly format: number;
  readonly firstFrame: number;
  readonly log2Entries: number;
}

/** Host stage 1: tagged with VMID 0, which no stage 2 ever gets. `s1dss`: where requests without a PASID go. */
export function stage1Ste(
  identity: Identity,
  contexts: Contexts,
  { s1dss, stalls, ats }: SteOptions & { readonly s1dss: number },
): Ste {
  const ste = valid(CONFIG_S1);
  put(ste, 0, STE.S1Fmt, contexts.format);
  putFrame(ste, 0, STE.S1ContextPtr, contexts.firstFrame);
  put(ste, 0, STE.S1CDMax, contexts.log2Entries);
  put(ste, 0, STE.S1DSS, s1dss);
  put(ste, 0, STE.S1CIR, WRITE_BACK);
  put(ste, 0, STE.S1COR, WRITE_BACK);
  put(ste, 0, STE.S1CSH, INNER_SHAREABLE);
  // Where stalls are not possible, S1STALLD is reserved.
  if (identity.stalls && !stalls) put(ste, 0, STE.S1STALLD, 1);
  put(ste, 0, STE.STRW, STRW_NS_EL1);
  if (ats) put(ste, 0, STE.EATS, EATS_FULL);
  return ste;
}

export function stage2Ste(identity: Identity, table: PageTable, vmid: number, { stalls, ats }: SteOptions): Ste {
  const ste = valid(CONFIG_S2);
  if (ats) put(ste, 0, STE.EATS, EATS_FULL);
  if (identity.overridesShareability) put(ste, 0, STE.SHCFG, SHARE_AS_INCOMING);
  const { format } = table;
  put(ste, 0, STE.S2VMID, vmid);
  put(ste, 0, STE.S2T0SZ, 64 - format.inputBits);
  put(ste, 0, STE.S2SL0, format.granuleLog2 === 12 ? 2 - format.startLevel : 3 - format.startLevel);
  put(ste, 0, STE.S2IR0, WRITE_BACK);
  put(ste, 0, STE.S2OR0, WRITE_BACK);
  put(ste, 0, STE.S2SH0, INNER_SHAREABLE);
  put(ste, 0, STE.S2TG, TG0_LOG2.indexOf(format.granuleLog2));
  put(ste, 0, STE.S2PS, addressSizeCode(format.outputBits));
  put(ste, 0, STE.S2AA64, 1);
  put(ste, 0, STE.S2PTW, 1);
  put(ste, 0, STE.S2S, stalls ? 1 : 0);
  put(ste, 0, STE.S2R, 1);
  putFrame(ste, 0, STE.S2TTB, table.rootFrame);
  return ste;
}

/**
 * What the guest's STE becomes: its stage 1 on top of the host's stage 2. `guest` is its two validated doublewords
 * without EATS. An invalid one is an abort: the guest's own SMMU would record C_BAD_STE, here its transactions end without
 * a record.
 */
export function nestedSte(
  identity: Identity,
  table: PageTable,
  vmid: number,
  guest: Uint32Array,
  options: SteOptions,
): Ste {
  const config = get(guest, 0, STE.V) ? get(guest, 0, STE.Config) : CONFIG_ABORT;
  if (config === CONFIG_ABORT) return abortSte();
  const ste = stage2Ste(identity, table, vmid, options);
  if (config === CONFIG_BYPASS) return ste;
  for (let word = 0; word < guest.length; word++) ste[word] = ste[word]! | guest[word]!;
  put(ste, 0, STE.Config, CONFIG_NESTED);
  // A guest that faults all the time may fill the event queue of the host: let equal events merge.
  put(ste, 0, STE.MEV, 1);
  return ste;
}

const S1_FIELDS = [
  STE.S1Fmt,
  STE.S1ContextPtr,
  STE.S1CDMax,
  STE.S1DSS,
  STE.S1CIR,
  STE.S1COR,
  STE.S1CSH,
  STE.S1STALLD,
  STE.STRW,
  STE.EATS,
  STE.MEV,
  STE.S2VMID,
];
const S2_FIELDS = [
  STE.EATS,
  STE.MEV,
  STE.SHCFG,
  STE.S2FWB,
  STE.S2VMID,
  STE.S2T0SZ,
  STE.S2SL0,
  STE.S2IR0,
  STE.S2OR0,
  STE.S2SH0,
  STE.S2TG,
  STE.S2PS,
  STE.S2AA64,
  STE.S2ENDI,
  STE.S2AFFD,
  STE.S2PTW,
  STE.S2S,
  STE.S2R,
  STE.S2TTB,
];

const maskOf = (fields: readonly Field[]): Uint32Array =>
  Uint32Array.from({ length: STE_WORDS }, (_, word) => fieldBits(Object.fromEntries(fields.entries()), word));

const V_ONLY = maskOf([STE.V]);
const PASSES = maskOf([STE.V, STE.Config, STE.SHCFG]);
const ABORTS = maskOf([STE.V, STE.Config]);
const S1 = maskOf([STE.V, STE.Config, ...S1_FIELDS]);
const S1_OR_BYPASS = maskOf([STE.V, STE.Config, ...S1_FIELDS, STE.SHCFG]);
const S2 = maskOf([STE.V, STE.Config, ...S2_FIELDS]);
const BOTH = maskOf([STE.V, STE.Config, ...S1_FIELDS, ...S2_FIELDS]);

/** Mask of the bits of `ste` that mean something in its own configuration; hardware ignores the others (5.2). */
export function usedBitsOfSte(ste: Uint32Array): Uint32Array {
  if (!get(ste, 0, STE.V)) return V_ONLY;
  switch (get(ste, 0, STE.Config)) {
    case CONFIG_BYPASS:
      return PASSES;
    case CONFIG_S1:
      return get(ste, 0, STE.S1DSS) === S1DSS_BYPASS ? S1_OR_BYPASS : S1;
    case CONFIG_S2:
      return S2;
    case CONFIG_NESTED:
      return BOTH;
    default:
      return ABORTS;
  }
}

/**
 * Bits that may change at any moment even while both entries use them: MEV only merges events, and the function's ATS
 * is off whenever EATS changes. (The driver writes no split-stage EATS, the exception in 5.2.)
 */
export const STE_ANY_TIME: Uint32Array = maskOf([STE.MEV, STE.EATS]);
