/** A paging domain of the mock driver. */
import {
  MOCK_APERTURE_LAST,
  MOCK_APERTURE_START,
  MOCK_HUGE_PAGE_SIZE,
  MOCK_PAGE_SIZE,
} from '../../abi/iommufd-test.ts';
import { mayFail } from '../failure-points.ts';
import type { Aperture, PagingDomain } from '../iommu-driver.ts';
import { MockPageTable, TABLE_SPAN } from './page-table.ts';

const MOCK_APERTURE: Aperture = { start: BigInt(MOCK_APERTURE_START), last: BigInt(MOCK_APERTURE_LAST) };
const WHOLE_TABLE: Aperture = { start: 0n, last: BigInt(TABLE_SPAN) - 1n };

/** Leaf sizes and aperture, by kind of page table. */
const LAYOUTS = {
  /** Every power of two from the 2 KiB page to half of the span. */
  default: { pageSizes: (1n << 38n) - (1n << 11n), aperture: MOCK_APERTURE },
  /** The core asks for PAGE_SIZE, and gets it beside the huge page. */
  huge: { pageSizes: BigInt(MOCK_HUGE_PAGE_SIZE) | 0x1000n, aperture: WHOLE_TABLE },
  flat: { pageSizes: BigInt(MOCK_PAGE_SIZE), aperture: MOCK_APERTURE },
  'flat-huge': { pageSizes: BigInt(MOCK_PAGE_SIZE | MOCK_HUGE_PAGE_SIZE), aperture: MOCK_APERTURE },
} as const;

export type DomainLayout = keyof typeof LAYOUTS;

export interface MockDomainOptions {
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  readonly layout: DomainLayout;
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

  constructor({ nestParent, dirtyTracking, layout }: MockDomainOptions, freed: () => void) {
    this.kind = 'paging';
    this.nestParent = nestParent;
    this.dirtyTracking = dirtyTracking;
    this.enforceCacheCoherency = false;
    const { pageSizes, aperture } = LAYOUTS[layout];
    this.pageSizes = pageSizes;
    this.aperture = aperture;
    this.tracking = false;
    this.table = new MockPageTable(this.pageSizes);
    this.freed = freed;
  }

  map(iova: bigint, pa: number, length: number): void {
    mayFail('page tables');
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

  readDirty(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): boolean {
    this.table.readDirty(Number(iova), Number(length), clear, (at, bytes) => report(BigInt(at), BigInt(bytes)));
    return true;
  }

  /** As if a device had written at `iova`. @returns whether something is mapped there */
  setDirty(iova: bigint): boolean {
    return iova < TABLE_SPAN && this.table.setDirty(Number(iova));
  }

  free(): void {
    if (this.table.size) throw new Error('a mock domain with mappings is freed');
    this.freed();
  }
}
