/** Where in the offsets of /dev/iommu the regions are that objects let a program map, and which of them are mapped. */
import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { MappableRegion } from '../drivers/iommu-driver.ts';
import type { Mapping } from './file.ts';
import { range } from './format.ts';
import { type IommufdObject, unuse, use } from './objects.ts';
import { PAGE_BYTES } from './pages.ts';

interface Placed {
  readonly offset: bigint;
  readonly region: MappableRegion;
  readonly owner: IommufdObject;
  mapping: Mapping | null;
}

/** What stays while something is mapped. */
interface Holder {
  hold(): void;
  drop(): void;
}

export class MmapRegions {
  private readonly holder: Holder;
  /** By offset, disjoint. */
  private placed: readonly Placed[];

  constructor(holder: Holder) {
    this.holder = holder;
    this.placed = [];
  }

  /** Places a region of `owner` at the lowest free offset. Offset 0 stays free, so that it can be told from none. */
  place(region: MappableRegion, owner: IommufdObject): bigint {
    mayFail('a region');
    const bytes = BigInt(region.bytes.length);
    let offset = PAGE_BYTES;
    for (const other of this.placed) {
      if (other.offset >= offset + bytes) break;
      offset = other.offset + BigInt(other.region.bytes.length);
    }
    const placed: Placed = { offset, region, owner, mapping: null };
    this.placed = [...this.placed, placed].sort((a, b) => Number(a.offset - b.offset));
    return offset;
  }

  remove(region: MappableRegion): void {
    this.placed = this.placed.filter((other) => other.region !== region);
  }

  /** Maps a whole region, whose owner is in use until sweep() finds it unmapped. ENXIO unless it is exactly this range. */
  map(offset: bigint, length: bigint): Mapping {
    const placed = this.placed.find((each) => each.offset === offset && BigInt(each.region.bytes.length) === length);
    if (!placed) throw fail('ENXIO', `${range(offset, offset + length - 1n)} is not a region of /dev/iommu as a whole`);
    if (!placed.mapping) {
      const mapping: Mapping = { region: placed.region, inUse: null, ended: () => this.end(placed, mapping) };
      placed.mapping = mapping;
      use(placed.owner);
      this.holder.hold();
    }
    return placed.mapping;
  }

  /** Notices what is no longer mapped. */
  sweep(): void {
    for (const { mapping } of this.placed) if (mapping?.inUse?.() === false) mapping.ended();
  }

  private end(placed: Placed, mapping: Mapping): void {
    if (placed.mapping !== mapping) return;
    placed.mapping = null;
    unuse(placed.owner);
    this.holder.drop();
  }
}
