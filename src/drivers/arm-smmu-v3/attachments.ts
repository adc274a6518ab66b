/**
 * What one device is attached to: a domain for its requests without a PASID, and one for each PASID in use. Those of
 * PASIDs stand in a table of contexts, which the STE then points to; the domain without one is in its first place, if it
 * is a stage 1. A stage 2 or a guest's stage 1 leaves no place for PASIDs of the host.
 *
 * Order of an attach: the new domain is told first, so that its unmaps reach this device from now on; page requests and
 * ATS go off in the function before the STE refuses them; then CD and STE; then ATS goes on, or the ATC is emptied of the
 * old domain; the old domain is told last. So at no moment does an unmap miss a cache that may hold its translations.
 */
import { fail } from '../../abi/errno.ts';
import { NO_SUBSTREAM } from '../../hardware/iommu.ts';
import { S1DSS_SSID0, S1DSS_TERMINATE } from '../../hardware/smmuv3/spec/ste.ts';
import { CommandBatch } from './commands.ts';
import { ContextTable } from './context-table.ts';
import { EntryWriter } from './entry-writer.ts';
import type { Attachment, PagingDomain } from './paging-domain.ts';
import { abortSte, type Ste, stage1Ste } from './ste.ts';
import type { Tag } from './tag.ts';
import type { Unit } from './unit.ts';
import type { Viommu } from './viommu.ts';

/** A capability of a function that its IOMMU driver switches. */
export interface Capability {
  /** Writes the enable bit. */
  enable(on: boolean): void;
}

/** An attached domain with all that it needs on this SMMU. */
export interface Present extends Attachment {
  readonly paging: PagingDomain;
  /** To be released with it; null when it belongs to a nested domain or vIOMMU. */
  readonly tag: Tag | null;
  /** Of a host stage 1: its descriptor. */
  readonly context: Uint32Array | null;
  /** Of anything else: the whole STE. */
  readonly ste: Ste | null;
  /** Somebody answers page requests. */
  readonly faults: boolean;
  /** Where events go, and the vSID that the device had there when it was attached. */
  readonly viommu: Viommu | null;
  readonly virtualId: bigint | null;
}

export interface StreamDescription {
  readonly unit: Unit;
  readonly streamId: number;
  readonly steAddress: number;
  readonly ats: Capability | null;
  readonly pri: Capability | null;
  readonly pasidBits: number;
  readonly stalls: boolean;
}

export class Attachments {
  private readonly stream: StreamDescription;
  private alone: Present | null;
  private readonly pasids: Map<number, Present>;
  /** What the STE points to. */
  private contexts: ContextTable | null;
  private atsOn: boolean;
  private priOn: boolean;

  constructor(stream: StreamDescription) {
    this.stream = stream;
    this.alone = null;
    this.pasids = new Map();
    this.contexts = null;
    this.atsOn = false;
    this.priOn = false;
  }

  /** Of requests without a PASID. */
  get withoutPasid(): Present | null {
    return this.alone;
  }

  /** Before an attach that leaves no place for PASIDs: EBUSY while any are attached. */
  checkNoPasids(): void {
    const { size } = this.pasids;
    if (size)
      throw fail('EBUSY', `${size} PASIDs of stream ${this.stream.streamId} are attached, which need a stage 1`);
  }

  /** Attaches requests without a PASID; checkNoPasids() comes first. ENOMEM. */
  replace(next: Present | null): void {
    const { unit, streamId } = this.stream;
    const kept = this.pasids.size > 0 ? this.contexts : null;
    kept?.cover(0);
    const contexts = kept ?? (next?.context ? new ContextTable(unit, streamId, 0, next.context) : null);
    const old = this.alone;
    this.alone = next;
    next?.paging.attachments.add(next);
    if (next) kept?.write(0, next.context);
    this.install(contexts, NO_SUBSTREAM);
    if (!next) kept?.write(0, null);
    this.dismiss(old, next);
  }

  /** Attaches a PASID. EINVAL beside what is no host stage 1, ENOMEM. */
  replacePasid(pasid: number, next: Present | null): void {
    if (next) this.attachPasid(pasid, next);
    else this.detachPasid(pasid);
  }

  private attachPasid(pasid: number, next: Present): void {
    const { unit, streamId, pasidBits } = this.stream;
    if (this.alone && !this.alone.context) {
      throw fail('EINVAL', `PASID ${pasid}: stream ${streamId} itself is attached to what is no host stage 1`);
    }
    const large = this.contexts?.log2Entries === pasidBits ? this.contexts : null;
    const contexts = large ?? new ContextTable(unit, streamId, pasidBits, this.alone?.context ?? null);
    try {
      contexts.cover(pasid);
    } catch (error) {
      if (!large) contexts.free();
      throw error;
    }
    const old = this.pasids.get(pasid) ?? null;
    this.pasids.set(pasid, next);
    next.paging.attachments.add(next);
    contexts.write(pasid, next.context);
    this.install(contexts, pasid);
    this.dismiss(old, next);
  }

  private detachPasid(pasid: number): void {
    const old = this.pasids.get(pasid);
    if (!old) return;
    this.pasids.delete(pasid);
    this.contexts!.write(pasid, null);
    this.install(this.pasids.size > 0 || this.alone ? this.contexts : null, pasid);
    this.dismiss(old, null);
  }

  /** Makes STE, ATS and page requests what the attachments say, and forgets translations of `substream`. */
  private install(contexts: ContextTable | null, substream: number): void {
    const { ats, pri, unit, streamId } = this.stream;
    const wasOn = this.atsOn;
    const all = [this.alone, ...this.pasids.values()];
    const wantsAts = all.some((present) => present?.ats);
    const wantsPri = wantsAts && pri !== null && all.some((present) => present?.faults);
    if (this.priOn && !wantsPri) pri!.enable(false);
    if (wasOn && !wantsAts) ats!.enable(false);
    this.writeSte(this.ste(contexts, wantsAts));
    if (contexts !== this.contexts) this.contexts?.free();
    this.contexts = contexts;
    if (wantsAts && !wasOn) ats!.enable(true);
    else if (wasOn) {
      const batch = new CommandBatch();
      batch.invalidateAtc(streamId, wantsAts ? substream : NO_SUBSTREAM);
      unit.commands.submit(batch);
    }
    if (wantsPri && !this.priOn) pri!.enable(true);
    this.atsOn = wantsAts;
    this.priOn = wantsPri;
  }

  private ste(contexts: ContextTable | null, ats: boolean): Ste {
    if (!contexts) return this.alone?.ste ?? abortSte();
    const { unit, stalls } = this.stream;
    return stage1Ste(unit.identity, contexts, { s1dss: this.alone ? S1DSS_SSID0 : S1DSS_TERMINATE, stalls, ats });
  }

  private writeSte(ste: Ste): void {
    const { unit, streamId, steAddress } = this.stream;
    const sync = () => {
      const batch = new CommandBatch();
      batch.invalidateSte(streamId);
      unit.commands.submit(batch);
    };
    new EntryWriter(unit.memory, steAddress, sync).write(ste);
  }

  private dismiss(old: Present | null, next: Present | null): void {
    this.stream.unit.counts.attachments += (next ? 1 : 0) - (old ? 1 : 0);
    if (!old) return;
    old.paging.attachments.delete(old);
    if (old.tag) old.paging.releaseTag(old.tag);
  }
}
