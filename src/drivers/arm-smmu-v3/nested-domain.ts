/** A guest's stage 1 on a nesting parent: the guest's STE, as far as the guest may choose it. */
import { fail } from '../../abi/errno.ts';
import { IOMMU_HWPT_DATA_ARM_SMMUV3 } from '../../abi/iommufd.ts';
import { type Field, fieldBits, get, put } from '../../hardware/smmuv3/spec/field.ts';
import { CONFIG_ABORT, CONFIG_BYPASS, CONFIG_S1, EATS_ABORT, EATS_FULL, STE } from '../../hardware/smmuv3/spec/ste.ts';
import { mayFail } from '../failure-points.ts';
import type { NestedDomain as Contract, InvalidateResult, UserData, UserDataArray } from '../iommu-driver.ts';
import { issueGuestCommands } from './guest-commands.ts';
import type { PagingDomain } from './paging-domain.ts';
import type { Tag } from './tag.ts';
import type { Unit } from './unit.ts';
import type { Viommu } from './viommu.ts';

/** iommu_hwpt_arm_smmuv3: two doublewords. */
const GUEST_STE_BYTES = 16;

/**
 * EATS in every dialect. The list of viommu-v2's header leaves it out, but the series builds on "Allow ATS for
 * IOMMU_DOMAIN_NESTED" (its cover letter), and its VMM passes the bits on: without them no guest could use ATS.
 */
const GUEST_FIELDS: readonly Field[] = [
  STE.V,
  STE.Config,
  STE.S1Fmt,
  STE.S1ContextPtr,
  STE.S1CDMax,
  STE.S1DSS,
  STE.S1CIR,
  STE.S1COR,
  STE.S1CSH,
  STE.S1STALLD,
  STE.EATS,
];
const GUEST_BITS = Uint32Array.from([0, 1, 2, 3], (word) =>
  fieldBits(Object.fromEntries(GUEST_FIELDS.entries()), word),
);

export interface GuestSte {
  /** The two doublewords without EATS; all zero when the guest's V is 0. */
  readonly words: Uint32Array;
  /** CONFIG_ABORT, CONFIG_BYPASS or CONFIG_S1. */
  readonly config: number;
  /** The guest turned ATS on (only with a stage 1 of its own). */
  readonly ats: boolean;
}

/** EIO for bits and values that a guest may not choose; EINVAL, E2BIG, EFAULT as the copy gives. */
export function readGuestSte(data: UserData): GuestSte {
  if (data.type !== IOMMU_HWPT_DATA_ARM_SMMUV3) {
    throw fail('EINVAL', `nested HWPT data_type is ${data.type}, this IOMMU takes ${IOMMU_HWPT_DATA_ARM_SMMUV3}`);
  }
  const bytes = data.copy(GUEST_STE_BYTES, GUEST_STE_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, GUEST_STE_BYTES);
  const words = Uint32Array.from([0, 4, 8, 12], (at) => view.getUint32(at, true));
  if (!get(words, 0, STE.V)) return { words: words.fill(0), config: CONFIG_ABORT, ats: false };
  for (let word = 0; word < words.length; word++) {
    const illegal = (words[word]! & ~GUEST_BITS[word]!) >>> 0;
    if (illegal)
      throw fail('EIO', `guest STE word ${word} has bits 0x${illegal.toString(16)} that are the host's to set`);
  }
  const config = get(words, 0, STE.Config);
  if (config !== CONFIG_ABORT && config !== CONFIG_BYPASS && config !== CONFIG_S1) {
    throw fail('EIO', `guest STE.Config is ${config}, expected abort (0), bypass (4) or stage 1 (5)`);
  }
  const eats = get(words, 0, STE.EATS);
  if (eats !== EATS_ABORT && eats !== EATS_FULL) throw fail('EIO', `guest STE.EATS is ${eats}, expected 0 or 1`);
  put(words, 0, STE.EATS, EATS_ABORT);
  return { words, config, ats: config === CONFIG_S1 && eats === EATS_FULL };
}

export class NestedDomain implements Contract {
  readonly kind = 'nested' as const;
  readonly parent: PagingDomain;
  readonly unit: Unit;
  readonly guest: GuestSte;
  /** Null on a parent without a vIOMMU (dialect viommu-v2). */
  readonly viommu: Viommu | null;
  readonly tag: Tag;
  readonly invalidate?: (commands: UserDataArray) => InvalidateResult;

  constructor(unit: Unit, parent: PagingDomain, guest: GuestSte, viommu: Viommu | null) {
    mayFail('a nested domain');
    this.parent = parent;
    this.unit = unit;
    this.guest = guest;
    this.viommu = viommu;
    this.tag = viommu ? viommu.tag : parent.sharedTag(unit);
    if (unit.behaviour.invalidateOnNestedHwptSmmuv3) {
      this.invalidate = (commands) => issueGuestCommands(unit.queue, this.tag.vmid, null, commands);
    }
    unit.counts.nestedDomains++;
  }

  free(): void {
    if (!this.viommu) this.parent.releaseTag(this.tag);
    this.unit.counts.nestedDomains--;
  }
}
