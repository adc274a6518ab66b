/**
 * The mock driver's page table: leaves by IOVA. It chooses leaf sizes as the kernel's mock does, a table of 512 items per
 * level with 2 KiB items at the lowest and every power of two of items as one leaf, because dirty bits show the sizes.
 * No hardware walks it. IOVAs, physical addresses and lengths are bytes, as numbers: the table spans 2^38.
 */

/** log2 of what an item of a table covers, by level. */
const ITEM_LOG2 = [29, 20, 11] as const;

/** Bytes that the table spans. */
export const TABLE_SPAN = 2 ** 38;

/** Of the lowest level: keys of the leaves are counted in these. */
const GRANULE = 2 ** 11;

export interface Leaf {
  readonly pa: number;
  readonly bytes: number;
  dirty: boolean;
}

export class MockPageTable {
  /** By IOVA / GRANULE. */
  private readonly leaves: Map<number, Leaf>;
  /** Leaf sizes that exist, largest first. */
  private readonly sizes: readonly number[];
  /** How many leaves of each of `sizes` there are. */
  private readonly used: number[];

  /** @param pageSizes bit n set: there are leaves of 2^n bytes */
  constructor(pageSizes: bigint) {
    this.leaves = new Map();
    const all = Array.from({ length: 38 }, (_, log2) => 37 - log2);
    this.sizes = all.filter((log2) => pageSizes & (1n << BigInt(log2))).map((log2) => 2 ** log2);
    this.used = this.sizes.map(() => 0);
  }

  get size(): number {
    return this.leaves.size;
  }

  map(iova: number, pa: number, length: number): void {
    for (const end = iova + length; iova < end; ) {
      const at = this.sizes.findIndex((size) => size <= end - iova && iova % size === 0 && pa % size === 0);
      const bytes = this.sizes[at];
      if (bytes === undefined) throw new Error(`map of 0x${iova.toString(16)} is not aligned`);
      if (this.find(iova)) throw new Error(`0x${iova.toString(16)} is mapped twice`);
      this.leaves.set(iova / GRANULE, { pa, bytes, dirty: false });
      this.used[at]!++;
      iova += bytes;
      pa += bytes;
    }
  }

  /** Drops the leaves of [iova, iova + length), all of which must be there as a whole. */
  unmap(iova: number, length: number): void {
    const end = iova + length;
    while (iova < end) {
      const leaf = this.leaves.get(iova / GRANULE);
      if (!leaf) throw new Error(`0x${iova.toString(16)} is unmapped, but not mapped`);
      this.leaves.delete(iova / GRANULE);
      this.used[this.sizes.indexOf(leaf.bytes)]!--;
      iova += leaf.bytes;
    }
    if (iova !== end) throw new Error(`unmap up to 0x${end.toString(16)} cuts a leaf`);
  }

  /** The physical address behind `iova`, or null. */
  physical(iova: number): number | null {
    const leaf = this.find(iova);
    return leaf ? leaf.pa + (iova % leaf.bytes) : null;
  }

  /** A write through `iova`: its leaf is dirty. @returns whether there is one */
  setDirty(iova: number): boolean {
    const leaf = this.find(iova);
    if (leaf) leaf.dirty = true;
    return leaf !== null;
  }

  /** Reports the dirty parts of [iova, iova + length), in order. */
  readDirty(iova: number, length: number, clear: boolean, report: (iova: number, length: number) => void): void {
    const end = iova + length;
    while (iova < end) {
      const leaf = this.find(iova);
      const leafEnd = leaf ? iova - (iova % leaf.bytes) + leaf.bytes : iova + GRANULE;
      if (leaf?.dirty) {
        const reported = Math.min(reportedEnd(leaf, leafEnd), end) - iova;
        if (reported > 0) report(iova, reported);
        if (clear) leaf.dirty = false;
      }
      iova = leafEnd;
    }
  }

  private find(iova: number): Leaf | null {
    for (const [at, size] of this.sizes.entries()) {
      if (this.used[at] === 0) continue;
      const leaf = this.leaves.get((iova - (iova % size)) / GRANULE);
      if (leaf?.bytes === size) return leaf;
    }
    return null;
  }
}

/**
 * A leaf of several items is reported without its last one. That is how the kernel's table has it (7.1, generic_pt), and
 * its own tests rely on it: they dirty every other 2 KiB of 4 KiB leaves.
 */
function reportedEnd(leaf: Leaf, leafEnd: number): number {
  const item = 2 ** ITEM_LOG2.find((log2) => 2 ** log2 <= leaf.bytes)!;
  return item === leaf.bytes ? leafEnd : leafEnd - item;
}
