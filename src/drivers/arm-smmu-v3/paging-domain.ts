/**
 * A kernel-managed table, stage 1 or stage 2. It belongs to no SMMU: every SMMU that uses it has a tag of its own for
 * it (or several: a VMID per vIOMMU), and unmap cleans all of them, and the ATCs behind them, before it returns.
 *
 * Order of an unmap, per SMMU: TLBI of the range and SYNC; TLBI of what guests nested on it and SYNC; ATC_INV and SYNC.
 * An ATC asks the SMMU again at once, so the IOTLB must be clean before the ATC is.
 */
import { fail } from '../../abi/errno.ts';
import { FRAME_BYTES } from '../../memory/physical-memory.ts';
import { mayFail } from '../failure-points.ts';
import type { Aperture, PagingDomain as Contract } from '../iommu-driver.ts';
import { CommandBatch } from './commands.ts';
import { addAtcRange, type TableChange } from './invalidation.ts';
import { PageTable } from './page-table.ts';
import { pageSizesOf, type TableFormat } from './table-format.ts';
import { Tag } from './tag.ts';
import type { Unit } from './unit.ts';

const PAGE_BYTES = BigInt(FRAME_BYTES);

/** A device that translates through a domain, directly or through a nested one. */
export interface Attachment {
  readonly unit: Unit;
  readonly streamId: number;
  /** PASID, or NO_SUBSTREAM. */
  readonly substream: number;
  /** The device's ATC may hold translations. */
  readonly ats: boolean;
  /** The ATC is indexed by addresses of a guest's stage 1, which this domain does not know. */
  readonly behindStage1: boolean;
}

export class PagingDomain implements Contract {
  readonly kind = 'paging' as const;
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  readonly enforceCacheCoherency: boolean;
  readonly pageSizes: bigint;
  readonly aperture: Aperture;
  readonly table: PageTable;
  readonly attachments: Set<Attachment>;
  private readonly home: Unit;
  private readonly tags: Tag[];

  /** ENOMEM when there is no memory for a table; ENOSPC with the policy of a VMID per domain, when `home` has none. */
  constructor(home: Unit, format: TableFormat, nestParent: boolean) {
    mayFail('a paging domain');
    this.home = home;
    this.nestParent = nestParent;
    this.dirtyTracking = format.dirtyTracking;
    this.enforceCacheCoherency = home.identity.coherent;
    this.pageSizes = pageSizesOf(format);
    this.aperture = Object.freeze({ start: 0n, last: 2n ** BigInt(format.inputBits) - 1n });
    this.attachments = new Set();
    this.tags = [];
    this.table = new PageTable(home.memory, home.frames, format);
    try {
      if (this.keepsTag(home)) this.findOrMakeShared(home);
    } catch (error) {
      this.table.free();
      throw error;
    }
    home.domains.add(this);
  }

  /** Whether hardware of `unit` can walk these tables. */
  fits(unit: Unit): boolean {
    const { format } = this.table;
    const { identity } = unit;
    return (
      (format.stage === 1 ? identity.stage1 : identity.stage2) &&
      (identity.dirtyTracking || !format.dirtyTracking) &&
      identity.granuleLog2 === format.granuleLog2 &&
      identity.outputBits >= format.outputBits &&
      identity.coherent === this.home.identity.coherent &&
      unit.memory === this.home.memory
    );
  }

  map(iova: bigint, pa: number, length: number, prot: number): void {
    const frame = this.frameOf(iova);
    const { format } = this.table;
    if (!(prot & 3)) throw fail('EINVAL', `mapping at ${hex(iova)} is neither readable nor writable (prot ${prot})`);
    if (pa + length > 2 ** format.outputBits || iova + BigInt(length) - 1n > this.aperture.last) {
      throw fail(
        'ERANGE',
        `mapping ${hex(iova)} to ${hex(pa)} leaves ${format.inputBits} or ${format.outputBits} bits`,
      );
    }
    try {
      this.table.map(frame, pa / FRAME_BYTES, length / FRAME_BYTES, prot & 3);
    } catch (error) {
      this.invalidate(frame, length / FRAME_BYTES);
      throw error;
    }
  }

  unmap(iova: bigint, length: bigint): void {
    const frame = this.frameOf(iova);
    const count = this.frameOf(length);
    this.table.unmap(frame, count);
    this.invalidate(frame, count);
  }

  /** Nothing to do: the context descriptors of such a domain have the hardware record writes all the time. */
  setDirtyTracking(_on: boolean): void {}

  /**
   * A leaf is reported as far as it lies in the range, and cleared as a whole. Caches that hold it as dirty are cleaned
   * before this returns: a write through them would not be recorded.
   */
  readDirty(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): boolean {
    const { table } = this;
    const whole = table.readDirty(this.frameOf(iova), this.frameOf(length), clear, (frame, count) => {
      report(BigInt(frame) * PAGE_BYTES, BigInt(count) * PAGE_BYTES);
    });
    if (table.clearedEnd > 0) this.invalidate(table.clearedFirst, table.clearedEnd - table.clearedFirst);
    return whole;
  }

  physical(iova: bigint): number | null {
    if (iova > this.aperture.last) return null;
    const frame = this.table.lookup(this.frameOf(iova));
    return frame < 0 ? null : frame * FRAME_BYTES + Number(iova & 0xfffn);
  }

  /** The tag of direct attachments on `unit`; with a VMID per domain, of its vIOMMUs too. The caller is a user of it. */
  sharedTag(unit: Unit): Tag {
    const tag = this.findOrMakeShared(unit);
    tag.users++;
    return tag;
  }

  /** The tag of a new vIOMMU on `unit`. */
  viommuTag(unit: Unit): Tag {
    if (unit.policy.vmid === 'per-domain') return this.sharedTag(unit);
    const tag = this.newTag(unit, false);
    tag.users++;
    return tag;
  }

  releaseTag(tag: Tag): void {
    if (--tag.users > 0) return;
    this.tags.splice(this.tags.indexOf(tag), 1);
    tag.free();
  }

  free(): void {
    if (this.attachments.size) throw new Error(`a domain is freed under ${this.attachments.size} attached devices`);
    for (const tag of [...this.tags]) {
      if (tag.users !== 1 || !this.keepsTag(tag.unit))
        throw new Error(`a domain is freed under a user of tag ${tag.id}`);
      this.releaseTag(tag);
    }
    this.table.free();
    this.home.domains.delete(this);
  }

  private findOrMakeShared(unit: Unit): Tag {
    const found = this.tags.find((tag) => tag.unit === unit && tag.shared);
    if (found) return found;
    const tag = this.newTag(unit, true);
    if (this.keepsTag(unit)) tag.users++;
    return tag;
  }

  private newTag(unit: Unit, shared: boolean): Tag {
    const tag = new Tag(unit, this.table.format.stage, shared);
    this.tags.push(tag);
    return tag;
  }

  /** With a VMID per domain, the domain itself is a user of its tags until it is freed. */
  private keepsTag(unit: Unit): boolean {
    return this.table.format.stage === 2 && unit.policy.vmid === 'per-domain';
  }

  /** Cleans every cache of [frame, frame + count) and of the tables that it emptied, then frees those. */
  private invalidate(frame: number, count: number): void {
    const { table } = this;
    const change: TableChange = {
      format: table.format,
      frame,
      count,
      lowestLevel: table.lowestLevel,
      highestLevel: table.highestLevel,
      tables: table.retired.length > 0,
    };
    for (const unit of new Set(this.tags.map((tag) => tag.unit))) this.invalidateUnit(unit, change);
    table.reclaim();
  }

  private invalidateUnit(unit: Unit, change: TableChange): void {
    const batch = new CommandBatch();
    const ranged = this.tags.filter((tag) => tag.unit === unit && tag.addInvalidation(batch, change));
    unit.commands.submit(batch);
    if (this.nestParent && ranged.length) {
      // TLBI_S2_IPA leaves combined entries of nested stage 1s alone (4.4.3): all of the VMID's must go.
      for (const tag of ranged) batch.invalidateStage1(tag.vmid);
      unit.commands.submit(batch);
    }
    for (const attachment of this.attachments) {
      if (attachment.unit !== unit || !attachment.ats) continue;
      const { streamId, substream } = attachment;
      if (attachment.behindStage1) batch.invalidateAtc(streamId, substream);
      else addAtcRange(batch, streamId, substream, change.frame, change.count);
    }
    if (batch.length) unit.commands.submit(batch);
  }

  private frameOf(bytes: bigint): number {
    return Number(bytes >> 12n);
  }
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
