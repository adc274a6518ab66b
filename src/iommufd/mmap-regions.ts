/** Where in the offsets of /dev/iommu the regions are that objects let a program map, and which of them are mapped. */
import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { MappableRegion, MappableRegisters } from '../drivers/iommu-driver.ts';
import { readRegisters, writeRegisters } from '../hardware/register-access.ts';
import type { MappedRegisters, Mapping } from './file.ts';
import { hex, range } from './format.ts';
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
  private readonly keepsOwners: boolean;
  /** By offset, disjoint. */
  private placed: readonly Placed[];

  /** @param keepsOwners whose region is mapped cannot be destroyed; otherwise the mapping outlives it, as in viommu-v2 */
  constructor(holder: Holder, keepsOwners = true) {
    this.holder = holder;
    this.keepsOwners = keepsOwners;
    this.placed = [];
  }

  /** Places a region of `owner` at the lowest free offset. Offset 0 stays free, so that it can be told from none. */
  place(region: MappableRegion, owner: IommufdObject): bigint {
    mayFail('a region');
    const bytes = lengthOf(region);
    let offset = PAGE_BYTES;
    for (const other of this.placed) {
      if (other.offset >= offset + bytes) break;
      offset = other.offset + lengthOf(other.region);
    }
    const placed: Placed = { offset, region, owner, mapping: null };
    this.placed = [...this.placed, placed].sort((a, b) => Number(a.offset - b.offset));
    return offset;
  }

  remove(region: MappableRegion): void {
    this.placed = this.placed.filter((other) => other.region !== region);
  }

  /** Maps a whole region by its offset: ENXIO unless it is exactly this range. */
  map(offset: bigint, length: bigint): Mapping {
    const placed = this.placed.find((each) => each.offset === offset && lengthOf(each.region) === length);
    if (!placed) throw fail('ENXIO', `${range(offset, offset + length - 1n)} is not a region of /dev/iommu as a whole`);
    return this.mappingOf(placed);
  }

  /** Maps the first `length` bytes of the region of `owner`: EOPNOTSUPP when it has none, EINVAL when it is shorter. */
  mapOf(owner: IommufdObject, length: bigint): Mapping {
    const placed = this.placed.find((each) => each.owner === owner);
    if (!placed) throw fail('EOPNOTSUPP', `${owner.kind} ${owner.id} has nothing to map`);
    const most = lengthOf(placed.region);
    if (length > most) throw fail('EINVAL', `length ${hex(length)} is more than the ${hex(most)} of the region`);
    return this.mappingOf(placed);
  }

  /** Notices what is no longer mapped. */
  sweep(): void {
    for (const { mapping } of this.placed) if (mapping?.inUse?.() === false) mapping.ended();
  }

  /** One for all who map the region, until it is found unmapped. */
  private mappingOf(placed: Placed): Mapping {
    placed.mapping ??= this.begin(placed);
    return placed.mapping;
  }

  private begin(placed: Placed): Mapping {
    const { region, owner } = placed;
    const mapping: Mapping = {
      pages: 'mmio' in region ? registersOf(region, `${owner.kind} ${owner.id}`) : region,
      inUse: null,
      ended: () => this.end(placed, mapping),
    };
    if (this.keepsOwners) use(owner);
    this.holder.hold();
    return mapping;
  }

  private end(placed: Placed, mapping: Mapping): void {
    if (placed.mapping !== mapping) return;
    placed.mapping = null;
    if (this.keepsOwners) unuse(placed.owner);
    this.holder.drop();
  }
}

const lengthOf = (region: MappableRegion): bigint => BigInt('mmio' in region ? region.length : region.bytes.length);

const registersOf = ({ mmio, offset: start, length }: MappableRegisters, name: string): MappedRegisters => ({
  name,
  length,
  load: (offset, into) => readRegisters(mmio, start + offset, into),
  store: (offset, from) => writeRegisters(mmio, start + offset, from),
});
