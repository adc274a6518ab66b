/** What the virtual SMMU says of itself: what the host's has, less what the guest does not get. */

import { DEFAULT_SETTINGS, type SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import { COMMAND_BYTES } from '../../hardware/smmuv3/spec/commands.ts';
import { type Field, get } from '../../hardware/smmuv3/spec/field.ts';
import { REGISTERS, STALL_MODEL_TERMINATE, TTF_AARCH64 } from '../../hardware/smmuv3/spec/registers.ts';
import { ADDRESS_BITS } from '../../hardware/smmuv3/spec/ste.ts';
import type { Faults } from '../faults.ts';

const { IDR0, IDR1, IDR3, IDR5 } = REGISTERS;
const LARGEST_EVENT_QUEUE_LOG2 = 8;
const STREAM_BITS = 16;

const FIELDS = {
  TTF: [0, IDR0.fields.TTF],
  ATS: [0, IDR0.fields.ATS],
  ASID16: [0, IDR0.fields.ASID16],
  CD2L: [0, IDR0.fields.CD2L],
  CMDQS: [1, IDR1.fields.CMDQS],
  SSIDSIZE: [1, IDR1.fields.SSIDSIZE],
  HAD: [3, IDR3.fields.HAD],
  RIL: [3, IDR3.fields.RIL],
  OAS: [5, IDR5.fields.OAS],
  GRAN4K: [5, IDR5.fields.GRAN4K],
  GRAN16K: [5, IDR5.fields.GRAN16K],
  GRAN64K: [5, IDR5.fields.GRAN64K],
} as const satisfies Record<string, readonly [number, Field]>;

/**
 * @param idr IDR0 to IDR5 as GET_HW_INFO gives them
 * @param pageBytes of guest memory: more than one is not contiguous, and the hardware may have to read a command queue in it
 */
export function virtualSettings(idr: readonly number[], faults: Faults, pageBytes: number): SmmuSettings {
  const value = hostValue(idr);
  if (!(value('TTF') & TTF_AARCH64)) throw new Error('the SMMU of the host does not walk AArch64 tables (IDR0.TTF)');
  const granules = ([4, 16, 64] as const).filter((kib) => value(`GRAN${kib}K`) === 1);
  return {
    ...DEFAULT_SETTINGS,
    s2p: false,
    vmid16: false,
    granules,
    oas: faults.advertiseWideOas ? 48 : (ADDRESS_BITS[value('OAS')] as SmmuSettings['oas']),
    asid16: value('ASID16') === 1,
    sidSize: STREAM_BITS,
    ssidSize: faults.hideSsids ? 0 : value('SSIDSIZE'),
    twoLevelCdTable: value('CD2L') === 1,
    twoLevelStreamTable: false,
    ril: value('RIL') === 1,
    had: value('HAD') === 1,
    stallModel: STALL_MODEL_TERMINATE,
    ats: value('ATS') === 1 && !faults.hideAts,
    pri: false,
    msi: false,
    httu: 0,
    cmdqs: faults.wideQueues ? value('CMDQS') : Math.min(value('CMDQS'), Math.log2(pageBytes / COMMAND_BYTES)),
    eventqs: LARGEST_EVENT_QUEUE_LOG2,
  };
}

/** In what another SMMU of the host differs, as far as the guest has been told: '' when in nothing. */
export function difference(idr: readonly number[], other: readonly number[]): string {
  const [first, second] = [hostValue(idr), hostValue(other)];
  const names = Object.keys(FIELDS) as (keyof typeof FIELDS)[];
  return names.filter((name) => first(name) !== second(name)).join(', ');
}

const hostValue =
  (idr: readonly number[]) =>
  (name: keyof typeof FIELDS): number => {
    const [register, field] = FIELDS[name];
    return get(Uint32Array.of(idr[register]!), 0, field);
  };
