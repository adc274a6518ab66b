/**
 * The tag under which one SMMU caches translations of one paging domain: a VMID for a stage 2, an ASID (of VMID 0) for
 * a host stage 1. As long as a tag exists, every unmap of its domain invalidates it; when it goes, the IOTLB is cleaned
 * of it before the number can be given to somebody else.
 */
import { fail } from '../../abi/errno.ts';
import { CMD_TLBI_NH_VA, CMD_TLBI_S2_IPA } from '../../hardware/smmuv3/spec/commands.ts';
import { mayFail } from '../failure-points.ts';
import { CommandBatch } from './commands.ts';
import { addRange, type TableChange } from './invalidation.ts';
import type { Unit } from './unit.ts';

export class Tag {
  readonly unit: Unit;
  readonly stage: 1 | 2;
  readonly id: number;
  /** Found by whoever uses the domain on this SMMU next; false when it belongs to one vIOMMU. */
  readonly shared: boolean;
  /** Attachments, nested domains and vIOMMUs that rely on it. */
  users: number;

  /** ENOSPC when the SMMU has no VMID left, EBUSY when it has no ASID. */
  constructor(unit: Unit, stage: 1 | 2, shared: boolean) {
    mayFail(stage === 1 ? 'an ASID' : 'a VMID');
    this.unit = unit;
    this.stage = stage;
    this.id = stage === 1 ? takeAsid(unit) : takeVmid(unit);
    this.shared = shared;
    this.users = 0;
  }

  get vmid(): number {
    return this.stage === 2 ? this.id : 0;
  }

  /** Adds what drops this tag's translations of `change`. @returns false when it dropped the tag as a whole */
  addInvalidation(batch: CommandBatch, change: TableChange): boolean {
    const [opcode, asid] = this.stage === 1 ? [CMD_TLBI_NH_VA, this.id] : [CMD_TLBI_S2_IPA, 0];
    if (addRange(batch, this.unit.identity.rangeInvalidation, opcode, this.vmid, asid, change)) return true;
    this.addFlush(batch);
    return false;
  }

  free(): void {
    const batch = new CommandBatch();
    this.addFlush(batch);
    this.unit.commands.submit(batch);
    if (this.stage === 1) this.unit.asids.give(this.id);
    else if (this.unit.policy.vmidOverride === undefined) this.unit.vmids.give(this.id);
  }

  private addFlush(batch: CommandBatch): void {
    if (this.stage === 1) batch.invalidateAsid(this.id);
    else batch.invalidateVmid(this.id);
  }
}

function takeVmid(unit: Unit): number {
  if (unit.policy.vmidOverride !== undefined) return unit.policy.vmidOverride;
  const vmid = unit.vmids.take();
  if (vmid < 0) throw fail('ENOSPC', `${unit.name} has no VMID left: ${unit.vmids.used} are in use`);
  return vmid;
}

function takeAsid(unit: Unit): number {
  const asid = unit.asids.take();
  if (asid < 0) throw fail('EBUSY', `${unit.name} has no ASID left: ${unit.asids.used} are in use`);
  return asid;
}
