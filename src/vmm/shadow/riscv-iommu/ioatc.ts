/** The address translation cache of an emulated RISC-V IOMMU: pages of 4 KiB, by what they were translated through. */
import type { ShadowFaults } from '../faults.ts';

/** What tags an entry: null for a stage that is bare. */
export interface Tag {
  readonly pscid: number | null;
  readonly gscid: number | null;
}

export interface Cached {
  readonly tag: Tag;
  readonly iova: bigint;
  readonly pa: bigint;
  /** READ | WRITE */
  readonly prot: number;
}

export class Ioatc {
  private readonly faults: ShadowFaults;
  private entries: Cached[];

  constructor(faults: ShadowFaults) {
    this.faults = faults;
    this.entries = [];
  }

  fill(entry: Cached): void {
    this.entries.push(entry);
  }

  find({ pscid, gscid }: Tag, iova: bigint): Cached | null {
    return this.entries.find(({ tag, iova: at }) => at === iova && tag.pscid === pscid && tag.gscid === gscid) ?? null;
  }

  /** Everything cached under a tag. */
  of({ pscid, gscid }: Tag): Cached[] {
    return this.entries.filter(({ tag }) => tag.pscid === pscid && tag.gscid === gscid);
  }

  /** IOTINVAL.VMA (4.1.1): entries of the first stage, of the host's (null) or of a guest's; null is any. */
  invalidateVma(gscid: number | null, pscid: number | null, iova: bigint | null): void {
    this.drop(({ tag, iova: at }) => {
      if (tag.pscid === null || tag.gscid !== gscid) return false;
      return (pscid === null || tag.pscid === pscid) && (iova === null || at === iova);
    });
  }

  /**
   * IOTINVAL.GVMA: whatever went through a guest's second stage, or any guest's (null). An entry of two stages does not know
   * all the guest-physical addresses that it comes from, those of tables among them, and so goes with any.
   */
  invalidateGvma(gscid: number | null, gpa: bigint | null): void {
    this.drop(({ tag, iova }) => {
      if (tag.gscid === null || (gscid !== null && tag.gscid !== gscid)) return false;
      if (gscid === null || gpa === null) return true;
      return tag.pscid === null ? iova === gpa : !this.faults.gvmaSingleStage;
    });
  }

  private drop(goes: (entry: Cached) => boolean): void {
    this.entries = this.entries.filter((entry) => !goes(entry));
  }
}
