/** Where in the offsets of /dev/iommu the regions are that objects let a program map. */
import type { MappableRegion } from '../drivers/iommu-driver.ts';
import { PAGE_BYTES } from './pages.ts';

interface Placed {
  readonly offset: bigint;
  readonly region: MappableRegion;
}

export class MmapRegions {
  /** By offset, disjoint. */
  private placed: readonly Placed[];

  constructor() {
    this.placed = [];
  }

  /** Places `region` at the lowest free offset. Offset 0 stays free, so that it can be told from none. */
  place(region: MappableRegion): bigint {
    const bytes = BigInt(region.bytes.length);
    let offset = PAGE_BYTES;
    for (const other of this.placed) {
      if (other.offset >= offset + bytes) break;
      offset = other.offset + BigInt(other.region.bytes.length);
    }
    this.placed = [...this.placed, { offset, region }].sort((a, b) => Number(a.offset - b.offset));
    return offset;
  }

  remove(region: MappableRegion): void {
    this.placed = this.placed.filter((other) => other.region !== region);
  }

  /** The region that is exactly [offset, offset + length), or null. */
  find(offset: bigint, length: bigint): MappableRegion | null {
    const found = this.placed.find((each) => each.offset === offset && BigInt(each.region.bytes.length) === length);
    return found?.region ?? null;
  }
}
