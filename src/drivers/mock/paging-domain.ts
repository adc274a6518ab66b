/** A paging domain of the mock driver. */
import { MOCK_APERTURE_LAST, MOCK_APERTURE_START, MOCK_HUGE_PAGE_SIZE } from '../../abi/iommufd-test.ts';
import type { Aperture, PagingDomain } from '../iommu-driver.ts';
import { MockPageTable, TABLE_SPAN } from './page-table.ts';

/** Every power of two from the 2 KiB page to half of the span. */
const ALL_SIZES = (1n << 38n) - (1n << 11n);
/** The core asks for PAGE_SIZE, and gets it beside the huge page. */
const HUGE_SIZES = BigInt(MOCK_HUGE_PAGE_SIZE) | 0x1000n;

export interface MockDomainOptions {
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  /** MOCK_IOMMUPT_HUGE: large pages, and the whole span of the table as aperture. */
  readonly huge: boolean;
}

export class MockPagingDomain implements PagingDomain {
  readonly kind: 'paging';
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  readonly enforceCacheCoherency: boolean;
  readonly pageSizes: bigint;
  readonly aperture: Aperture;
  /** Whether writes are tracked now. */
  tracking: boolean;
  private readonly table: MockPageTable;
  private readonly freed: () => void;

  constructor({ nestParent, dirtyTracking, huge }: MockDomainOptions, freed: () => void) {
    this.kind = 'paging';
    this.nestParent = nestParent;
    this.dirtyTracking = dirtyTracking;
    this.enforceCacheCoherency = false;
    this.pageSizes = huge ? HUGE_SIZES : ALL_SIZES;
    this.aperture = huge
      ? { start: 0n, last: BigInt(TABLE_SPAN) - 1n }
      : { start: BigInt(MOCK_APERTURE_START), last: BigInt(MOCK_APERTURE_LAST) };
    this.tracking = false;
    this.table = new MockPageTable(this.pageSizes);
    this.freed = freed;
  }

  map(iova: bigint, pa: number, length: number): void {
    this.table.map(Number(iova), pa, length);
  }

  unmap(iova: bigint, length: bigint): void {
    this.table.unmap(Number(iova), Number(length));
  }

  physical(iova: bigint): number | null {
    return iova < TABLE_SPAN ? this.table.physical(Number(iova)) : null;
  }

  setDirtyTracking(on: boolean): void {
    this.tracking = on;
  }

  readDirty(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): void {
    this.table.readDirty(Number(iova), Number(length), clear, (at, bytes) => report(BigInt(at), BigInt(bytes)));
  }

  /** As if a device had written at `iova`. */
  setDirty(iova: bigint): void {
    if (iova < TABLE_SPAN) this.table.setDirty(Number(iova));
  }

  free(): void {
    if (this.table.size) throw new Error('a mock domain with mappings is freed');
    this.freed();
  }
}
