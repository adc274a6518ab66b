/** One mapping of an IOAS: [start, last] of its IOVAs backed by user memory from a byte of `pages` on. */

import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import { type PagingDomain, PROT_WRITE } from '../drivers/iommu-driver.ts';
import { allOrNothing } from './all-or-nothing.ts';
import { Interval } from './interval.ts';
import { PAGE_BYTES, type Pages } from './pages.ts';

export class Area extends Interval {
  readonly pages: Pages;
  /** PROT_READ | PROT_WRITE. */
  readonly prot: number;
  /** First page of `pages`, and the byte in it, that `start` maps. */
  readonly firstPage: number;
  readonly pageOffset: number;
  /** An unmap waits for accesses to give it back: no new ones. */
  closing: boolean;
  /** Domains that it is mapped into; only known when its pages may be taken back. */
  private readonly domains: Set<PagingDomain> | null;
  /** Pins of accesses, and those among them that no unmap can get back. */
  private held: number;
  private locked: number;

  /** EPERM when `prot` asks for more than the pages were taken for. */
  constructor(iova: bigint, length: bigint, pages: Pages, startByte: bigint, prot: number) {
    if (prot & PROT_WRITE && !pages.writable) {
      throw fail('EPERM', 'flags ask for WRITEABLE, but the memory was mapped without it');
    }
    mayFail('an area');
    super(iova, iova + length - 1n);
    this.pages = pages;
    this.prot = prot;
    this.firstPage = Number(startByte / PAGE_BYTES);
    this.pageOffset = Number(startByte % PAGE_BYTES);
    this.closing = false;
    this.domains = pages.foreign ? new Set() : null;
    this.held = 0;
    this.locked = 0;
  }

  /** An access has pinned part of it; `lock`: for good. */
  hold(lock: boolean): void {
    this.held++;
    if (lock) this.locked++;
  }

  /** Ends one hold(). */
  release(lock: boolean): void {
    this.held--;
    if (lock) this.locked--;
  }

  get isHeld(): boolean {
    return this.held > 0;
  }

  get isLocked(): boolean {
    return this.locked > 0;
  }

  /** The byte of `pages` that `iova` maps. */
  startByte(iova: bigint): bigint {
    return BigInt(this.firstPage) * PAGE_BYTES + BigInt(this.pageOffset) + (iova - this.start);
  }

  /** Pins the memory and maps it into every one of `domains` (at least one), or changes nothing. */
  fill(domains: readonly PagingDomain[], hugePages: boolean): void {
    this.pages.pin(this.firstPage, this.lastPage);
    try {
      allOrNothing(
        domains,
        (domain) => this.mapInto(domain, hugePages),
        (domain) => this.unmapFrom(domain),
      );
    } catch (error) {
      this.pages.unpin(this.firstPage, this.lastPage);
      throw error;
    }
  }

  unfill(domains: readonly PagingDomain[]): void {
    for (const domain of domains) this.unmapFrom(domain);
    this.pages.unpin(this.firstPage, this.lastPage);
  }

  /** Maps pinned memory by physically contiguous runs, so that the driver can use its largest leaves. */
  mapInto(domain: PagingDomain, hugePages: boolean): void {
    if (this.pages.revoked) return;
    const length = Number(this.length);
    let done = 0;
    try {
      for (let page = this.firstPage, offset = this.pageOffset; done < length; offset = 0) {
        const run = hugePages ? this.pages.contiguous(page, this.lastPage - page + 1) : 1;
        const bytes = Math.min(run * 4096 - offset, length - done);
        domain.map(this.start + BigInt(done), this.pages.frame(page) * 4096 + offset, bytes, this.prot);
        done += bytes;
        page += run;
      }
    } catch (error) {
      if (done) domain.unmap(this.start, BigInt(done));
      throw error;
    }
    if (!this.domains) return;
    this.domains.add(domain);
    this.pages.mappedAreas.add(this);
  }

  unmapFrom(domain: PagingDomain): void {
    if (this.domains) {
      // Nothing is there any more when the pages were taken back.
      if (!this.domains.delete(domain)) return;
      if (this.domains.size === 0) this.pages.mappedAreas.delete(this);
    }
    domain.unmap(this.start, this.length);
  }

  /** The pages are taken back. */
  withdraw(): void {
    for (const domain of this.domains!) domain.unmap(this.start, this.length);
    this.domains!.clear();
  }

  /** Two areas in place of this one, the first of which ends with `last`. `pinned`: the memory is, and stays so. */
  split(last: bigint, pinned: boolean): Area[] {
    const parts = [
      new Area(this.start, last - this.start + 1n, this.pages, this.startByte(this.start), this.prot),
      new Area(last + 1n, this.last - last, this.pages, this.startByte(last + 1n), this.prot),
    ];
    if (pinned) {
      // First the parts, so that no page is without a pin in between.
      for (const { firstPage, lastPage } of parts) this.pages.pin(firstPage, lastPage);
      this.pages.unpin(this.firstPage, this.lastPage);
    }
    return parts;
  }

  /** The page of `pages` that `iova` maps. */
  pageOf(iova: bigint): number {
    return Number(this.startByte(iova) / PAGE_BYTES);
  }

  private get lastPage(): number {
    return this.pageOf(this.last);
  }
}
