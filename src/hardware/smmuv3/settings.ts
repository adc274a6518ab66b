/** What an SMMU is, as named fields, and the ID registers built from them (IHI 0070, 6.3.1 to 6.3.8). */
import { put } from './spec/field.ts';
import { REGISTERS, type RegisterName, STALL_MODEL_TERMINATE, TTENDIAN_LITTLE, TTF_AARCH64 } from './spec/registers.ts';
import { ADDRESS_BITS } from './spec/ste.ts';

export interface SmmuSettings {
  readonly s1p: boolean;
  readonly s2p: boolean;
  /** Translation granules in KiB. */
  readonly granules: readonly (4 | 16 | 64)[];
  /** Output address bits. The intermediate size (IAS) follows: equal, as only AArch64 tables exist (3.4). */
  readonly oas: 32 | 36 | 40 | 42 | 44 | 48 | 52;
  readonly asid16: boolean;
  readonly vmid16: boolean;
  /** log2 of the StreamIDs, 0 to 32, and of the SubstreamIDs, 0 (none) to 20. */
  readonly sidSize: number;
  readonly ssidSize: number;
  /** IDR0.ST_LEVEL, IDR0.CD2L. */
  readonly twoLevelStreamTable: boolean;
  readonly twoLevelCdTable: boolean;
  readonly ril: boolean;
  readonly bbml: 0 | 1 | 2;
  readonly had: boolean;
  /** IDR3.XNX: stage 2 tells privileged from unprivileged execution. */
  readonly xnx: boolean;
  /** IDR1.ATTR_PERMS_OVR: STE.{PRIVCFG, INSTCFG} and those of GBPA are obeyed. */
  readonly attrPermsOvr: boolean;
  /** IDR0.TERM_MODEL: transactions that end abort (1), or software chooses between that and RAZ/WI (0). */
  readonly termModel: 0 | 1;
  /** IDR0.STALL_MODEL: faulting transactions may stall (0), never stall (1), always stall (2). */
  readonly stallModel: 0 | 1 | 2;
  /** IDR5.STALL_MAX: transactions that are stalled at a time. */
  readonly stallMax: number;
  readonly ats: boolean;
  readonly pri: boolean;
  readonly msi: boolean;
  readonly cohacc: boolean;
  /** IDR0.HTTU: updates of flags in descriptors: 0 none, 1 of the access flag, 2 of the dirty state too. */
  readonly httu: 0 | 1 | 2;
  /** log2 of the most entries of each queue, at most 19. */
  readonly cmdqs: number;
  readonly eventqs: number;
  readonly priqs: number;
  /** SMMUv3.n. */
  readonly archMinorRev: number;
  readonly iidr: number;
  /** Capacities of the caches: powers of two. */
  readonly iotlbEntries: number;
  readonly steEntries: number;
  readonly cdEntries: number;
}

/** A server-class SMMUv3.1 with ATS and PRI. */
export const DEFAULT_SETTINGS: SmmuSettings = Object.freeze({
  s1p: true,
  s2p: true,
  granules: [4, 16, 64] as const,
  oas: 48,
  asid16: true,
  vmid16: true,
  sidSize: 24,
  ssidSize: 20,
  twoLevelStreamTable: true,
  twoLevelCdTable: true,
  ril: true,
  bbml: 2,
  had: true,
  xnx: true,
  attrPermsOvr: true,
  termModel: 1,
  stallModel: 1,
  stallMax: 256,
  ats: true,
  pri: true,
  msi: true,
  cohacc: true,
  httu: 0,
  cmdqs: 19,
  eventqs: 19,
  priqs: 19,
  archMinorRev: 1,
  iidr: 0,
  iotlbEntries: 4096,
  steEntries: 256,
  cdEntries: 256,
});

export type IdentityName = 'IDR0' | 'IDR1' | 'IDR2' | 'IDR3' | 'IDR4' | 'IDR5' | 'IIDR' | 'AIDR';

/** ID register values. Throws with one sentence that names the setting when it is out of range or not supported. */
export function identityRegisters(settings: SmmuSettings): Record<IdentityName, number> {
  checkSettings(settings);
  return {
    IDR0: build('IDR0', {
      S2P: settings.s2p,
      S1P: settings.s1p,
      TTF: TTF_AARCH64,
      COHACC: settings.cohacc,
      HTTU: settings.httu,
      ATS: settings.ats,
      // Split-stage ATS is not supported.
      NS1ATS: settings.ats,
      ASID16: settings.asid16,
      MSI: settings.msi,
      PRI: settings.pri,
      VMID16: settings.vmid16,
      CD2L: settings.twoLevelCdTable,
      TTENDIAN: TTENDIAN_LITTLE,
      STALL_MODEL: settings.stallModel,
      TERM_MODEL: settings.termModel,
      ST_LEVEL: settings.twoLevelStreamTable,
    }),
    IDR1: build('IDR1', {
      SIDSIZE: settings.sidSize,
      SSIDSIZE: settings.ssidSize,
      PRIQS: settings.pri ? settings.priqs : 0,
      EVENTQS: settings.eventqs,
      CMDQS: settings.cmdqs,
      ATTR_PERMS_OVR: settings.attrPermsOvr,
    }),
    IDR2: 0,
    IDR3: build('IDR3', {
      HAD: settings.had,
      XNX: settings.xnx,
      PPS: settings.pri,
      RIL: settings.ril,
      BBML: settings.bbml,
    }),
    IDR4: 0,
    IDR5: build('IDR5', {
      OAS: ADDRESS_BITS.indexOf(settings.oas),
      GRAN4K: settings.granules.includes(4),
      GRAN16K: settings.granules.includes(16),
      GRAN64K: settings.granules.includes(64),
      STALL_MAX: settings.stallModel === STALL_MODEL_TERMINATE ? 0 : settings.stallMax,
    }),
    IIDR: settings.iidr,
    AIDR: build('AIDR', { ArchMinorRev: settings.archMinorRev }),
  };
}

function build<N extends RegisterName>(
  name: N,
  values: Partial<Record<keyof (typeof REGISTERS)[N]['fields'], number | boolean>>,
): number {
  const word = new Uint32Array(1);
  for (const [field, layout] of Object.entries(REGISTERS[name].fields)) {
    put(word, 0, layout, Number(values[field as keyof typeof values] ?? 0));
  }
  return word[0]!;
}

function checkSettings(settings: SmmuSettings): void {
  const range = (key: keyof SmmuSettings, low: number, high: number): void => {
    const value = settings[key] as number;
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new Error(`SMMU setting ${key} is ${value}; expected an integer from ${low} to ${high}`);
    }
  };
  const capacity = (key: keyof SmmuSettings): void => {
    range(key, 1, 2 ** 20);
    const value = settings[key] as number;
    if ((value & (value - 1)) !== 0) throw new Error(`SMMU setting ${key} is ${value}; expected a power of two`);
  };
  if (!settings.s1p && !settings.s2p)
    throw new Error('SMMU settings s1p and s2p are both false; expected at least one');
  if (settings.granules.length === 0) throw new Error('SMMU setting granules is empty; expected 4, 16 or 64');
  if (!ADDRESS_BITS.includes(settings.oas)) {
    throw new Error(`SMMU setting oas is ${settings.oas}; expected 32, 36, 40, 42, 44, 48 or 52`);
  }
  if (settings.pri && !settings.ats) throw new Error('SMMU setting pri is true; expected ats to be true too (IDR0)');
  range('httu', 0, 2);
  range('termModel', 0, 1);
  range('stallModel', 0, 2);
  range('stallMax', 1, 0xffff);
  range('sidSize', 0, 32);
  range('ssidSize', 0, 20);
  for (const key of ['cmdqs', 'eventqs', 'priqs'] as const) range(key, 0, 19);
  range('archMinorRev', 1, 5);
  for (const key of ['iotlbEntries', 'steEntries', 'cdEntries'] as const) capacity(key);
}
