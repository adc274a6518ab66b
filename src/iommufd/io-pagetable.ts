/**
 * What an IOAS maps: areas of user memory by IOVA, where IOVAs may and may not be, and the domains that are kept equal
 * to it. Memory is pinned as long as there is a domain. IOVAs and lengths are bytes.
 */
import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { PagingDomain } from '../drivers/iommu-driver.ts';
import { allOrNothing } from './all-or-nothing.ts';
import { Area } from './area.ts';
import { hex, range } from './format.ts';
import { IntervalTree } from './interval.ts';
import { PAGE_BYTES, type Piece } from './pages.ts';
import { holes, merge, overlaps, type Span, within } from './spans.ts';
import { max, min, U64_MAX } from './u64.ts';

/** IOVAs are chosen with at most the alignment of a huge page. */
const MAX_IOVA_ALIGNMENT = 2n ** 21n;

/** Someone who uses what is mapped, but through no domain. */
export interface IovaUser {
  /** Its smallest page: IOVAs are aligned to it as long as it is here. */
  readonly alignment: bigint;
  /** Asks for pins back, when it can be asked. */
  readonly unmapped: ((start: bigint, length: bigint) => void) | null;
}

/** How often users are asked for their pins before an unmap is given up. */
const MOST_REQUESTS = 100;

interface Reservation extends Span {
  readonly owner: object;
}

export class IoPageTable {
  readonly areas: IntervalTree<Area>;
  /** Every IOVA, length and offset into a page is a multiple of this: the largest of the domains' smallest pages. */
  alignment: bigint;
  private readonly domains: PagingDomain[];
  private readonly users: Set<IovaUser>;
  private reservations: Reservation[];
  private reserved: Span[];
  private allowed: Span[];
  private huge: boolean;

  constructor() {
    this.areas = new IntervalTree();
    this.alignment = 1n;
    this.domains = [];
    this.users = new Set();
    this.reservations = [];
    this.reserved = [];
    this.allowed = [];
    this.huge = true;
  }

  /**
   * Maps `pieces` one behind the other.
   * @param iova where, or null to choose
   * @returns where
   */
  map(pieces: readonly Piece[], iova: bigint | null, prot: number): bigint {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0n);
    if (length === 0n || length % this.alignment) {
      throw fail('EINVAL', `length ${hex(length)} is not a multiple of the IOVA alignment ${hex(this.alignment)}`);
    }
    const first = pieces[0]!;
    if (iova === null) iova = this.chooseIova(first.pages.base + first.startByte, length);
    else this.checkIova(iova, length);

    const areas = this.newAreas(pieces, iova, prot);
    if (this.domains.length) {
      allOrNothing(
        areas,
        (area) => area.fill(this.domains, this.huge),
        (area) => area.unfill(this.domains),
      );
    }
    for (const area of areas) this.insert(area);
    return iova;
  }

  /** The same for one piece that was made to be mapped: its pages are the areas' alone afterwards. */
  mapNew(piece: Piece, iova: bigint | null, prot: number): bigint {
    try {
      return this.map([piece], iova, prot);
    } finally {
      piece.pages.drop();
    }
  }

  /** The memory behind [iova, iova + length), which must be mapped without a gap: ENOENT. */
  pieces(iova: bigint, length: bigint): Piece[] {
    if (length === 0n) throw fail('EINVAL', 'length is 0');
    const last = lastOf(iova, length);
    const pieces: Piece[] = [];
    for (let at = iova; at <= last; ) {
      const area = this.areas.at(at);
      if (!area) throw fail('ENOENT', `IOVA ${hex(at)} of ${range(iova, last)} is not mapped`);
      const end = min(area.last, last);
      pieces.push({ pages: area.pages, startByte: area.startByte(at), length: end - at + 1n });
      at = end + 1n;
    }
    return pieces;
  }

  /**
   * Unmaps the areas of [iova, iova + length). ENOENT at the first one that lies partly outside; those before it are gone.
   * @param gone is told the bytes of each area that is, for callers who want to know them even then
   * @returns bytes unmapped
   */
  unmap(iova: bigint, length: bigint, gone?: (bytes: bigint) => void): bigint {
    if (length === 0n) throw fail('EINVAL', 'length is 0');
    return this.unmapRange(iova, lastOf(iova, length), gone);
  }

  unmapAll(gone?: (bytes: bigint) => void): bigint {
    return this.unmapRange(0n, U64_MAX, gone);
  }

  /**
   * Makes two areas of the one around `last`, which becomes the last IOVA of the first one. Does nothing when there is no
   * such area, or when `last` is its first or last IOVA. EINVAL when that cannot be: the domains may have one leaf there.
   */
  cut(last: bigint): void {
    const area = this.areas.at(last);
    if (!area || last === area.start || last === area.last) return;
    const text = `the area ${range(area.start, area.last)}`;
    if (area.closing) throw fail('EBUSY', `${text} is being unmapped`);
    if (area.pages.foreign) throw fail('EOPNOTSUPP', `${text} is memory of a device`);
    if ((last + 1n) % this.alignment || area.startByte(last + 1n) % this.alignment) {
      throw fail('EINVAL', `a cut of ${text} at ${hex(last + 1n)} is not aligned to ${hex(this.alignment)}`);
    }
    if (area.isHeld) throw fail('EINVAL', `${text} is used by an access`);
    if (this.domains.length && this.huge) throw fail('EINVAL', `${text} may be mapped by huge pages`);
    const parts = area.split(last, this.domains.length > 0);
    this.areas.remove(area);
    for (const part of parts) this.insert(part);
    area.pages.drop();
  }

  /** Bit n set: every domain has leaves of 2^n bytes. All bits without a domain. */
  get commonPageSizes(): bigint {
    return this.domains.reduce((sizes, domain) => sizes & domain.pageSizes, U64_MAX);
  }

  /** Reserves [start, last] for `owner`: EADDRINUSE when an area or an allowed range is there. */
  reserve(start: bigint, last: bigint, owner: object): void {
    const area = this.areas.first(start, last);
    if (area || overlaps(this.allowed, start, last)) {
      const what = area ? `the area ${range(area.start, area.last)}` : 'an allowed range';
      throw fail('EADDRINUSE', `${range(start, last)} cannot be reserved: ${what} is in it`);
    }
    mayFail('a reserved range');
    this.reservations.push({ start, last, owner });
    this.reserved = merge(this.reservations);
  }

  /** Takes back every reservation of `owner`. */
  unreserve(owner: object): void {
    this.reservations = this.reservations.filter((reservation) => reservation.owner !== owner);
    this.reserved = merge(this.reservations);
  }

  /** From now on IOVAs are chosen in `spans` only (empty: anywhere): EADDRINUSE when one is reserved. */
  allow(spans: readonly Span[]): void {
    for (const { start, last } of spans) {
      if (overlaps(this.reserved, start, last)) throw fail('EADDRINUSE', `${range(start, last)} is reserved in part`);
    }
    mayFail('the allowed ranges');
    this.allowed = merge(spans);
  }

  /** IOVA ranges that are not reserved, in order. */
  usableRanges(): Span[] {
    return [...holes(this.reserved, 0n, U64_MAX)];
  }

  /** Fills `domain` with everything that is mapped, and keeps it so. Changes nothing when that fails. */
  addDomain(domain: PagingDomain): void {
    mayFail('a domain of an IOAS');
    const alignment = max(smallestPage(domain), this.alignment);
    if (alignment > PAGE_BYTES) {
      throw fail('EINVAL', `the smallest page of the domain, ${hex(alignment)}, is larger than 0x1000`);
    }
    this.checkAlignment(alignment);
    const { start, last } = domain.aperture;
    try {
      if (start !== 0n) this.reserve(0n, start - 1n, domain);
      if (last !== U64_MAX) this.reserve(last + 1n, U64_MAX, domain);
      const alone = this.domains.length === 0;
      allOrNothing(
        this.areas,
        (area) => (alone ? area.fill([domain], this.huge) : area.mapInto(domain, this.huge)),
        (area) => (alone ? area.unfill([domain]) : area.unmapFrom(domain)),
      );
    } catch (error) {
      this.unreserve(domain);
      throw error;
    }
    this.alignment = alignment;
    this.domains.push(domain);
  }

  removeDomain(domain: PagingDomain): void {
    const at = this.domains.indexOf(domain);
    if (at < 0) throw new Error('the domain is not one of this IOAS');
    this.domains.splice(at, 1);
    for (const area of this.areas) {
      if (this.domains.length) area.unmapFrom(domain);
      else area.unfill([domain]);
    }
    this.unreserve(domain);
    this.realign();
  }

  /** EADDRINUSE when what is mapped is not aligned as `user` needs it. */
  addUser(user: IovaUser): void {
    mayFail('a user of an IOAS');
    this.users.add(user);
    try {
      this.realign();
    } catch (error) {
      this.users.delete(user);
      throw error;
    }
  }

  removeUser(user: IovaUser): void {
    this.users.delete(user);
    this.realign();
  }

  get hugePages(): boolean {
    return this.huge;
  }

  /** Whether domains may use leaves larger than a page. EINVAL to forbid it once something is mapped in a domain. */
  setHugePages(on: boolean): void {
    if (on === this.huge) return;
    if (!on && this.domains.length && this.areas.size) {
      throw fail('EINVAL', 'huge pages cannot be switched off: areas are mapped in a domain');
    }
    const before = this.huge;
    this.huge = on;
    try {
      this.realign();
    } catch (error) {
      this.huge = before;
      throw error;
    }
  }

  /** From now on the area holds its pages. */
  private insert(area: Area): void {
    this.areas.insert(area);
    area.pages.hold();
  }

  private newAreas(pieces: readonly Piece[], iova: bigint, prot: number): Area[] {
    let at = iova;
    return pieces.map(({ pages, startByte, length }) => {
      const area = new Area(at, length, pages, startByte, prot);
      if (BigInt(area.pageOffset) % this.alignment) {
        const offset = hex(area.pageOffset);
        throw fail(
          'EINVAL',
          `offset ${offset} in the page is not a multiple of the IOVA alignment ${hex(this.alignment)}`,
        );
      }
      at += length;
      return area;
    });
  }

  private checkIova(iova: bigint, length: bigint): void {
    if (iova % this.alignment) {
      throw fail('EINVAL', `iova ${hex(iova)} is not a multiple of the IOVA alignment ${hex(this.alignment)}`);
    }
    const last = lastOf(iova, length);
    if (overlaps(this.reserved, iova, last)) {
      throw fail('EINVAL', `${range(iova, last)} is reserved in part: see IOMMU_IOAS_IOVA_RANGES`);
    }
    const area = this.areas.first(iova, last);
    if (area) throw fail('EEXIST', `${range(iova, last)} overlaps the area ${range(area.start, area.last)}`);
  }

  /**
   * The lowest free IOVA, 0 excepted, that keeps the alignment of the user address, so that huge pages can match.
   * ENOSPC when there is no room.
   */
  private chooseIova(address: bigint, length: bigint): bigint {
    if (length >= U64_MAX / 2n) throw fail('EOVERFLOW', `length ${hex(length)} is too large for a chosen IOVA`);
    const natural = powerOfTwoFrom(length);
    const alignment = min(address ? min(natural, address & -address) : natural, MAX_IOVA_ALIGNMENT);
    if (alignment < this.alignment) {
      throw fail('EINVAL', `user_va ${hex(address)} is not a multiple of the IOVA alignment ${hex(this.alignment)}`);
    }
    const offset = address % PAGE_BYTES;
    const choose = (start: bigint, last: bigint): bigint | null => {
      const aligned = ((start + alignment - 1n) & -alignment) | offset;
      return aligned < last && last - aligned >= length - 1n ? aligned : null;
    };
    const everywhere: Span = { start: PAGE_BYTES, last: U64_MAX - PAGE_BYTES };
    const allowed = this.allowed.length ? within(this.allowed, everywhere.start, everywhere.last) : [everywhere];
    for (const span of allowed) {
      for (const { start, last } of holes(this.reserved, span.start, span.last)) {
        const iova = this.areas.findFree(start, last, length, choose);
        if (iova !== null) return iova;
      }
    }
    throw fail('ENOSPC', `no free range of ${hex(length)} bytes with alignment ${hex(alignment)} is left`);
  }

  private unmapRange(start: bigint, last: bigint, gone?: (bytes: bigint) => void): bigint {
    let unmapped = 0n;
    for (let area = this.areas.first(start, last); area; area = this.areas.first(area.last + 1n, last)) {
      if (area.isLocked) throw fail('EBUSY', `the area ${range(area.start, area.last)} is used by a HW queue`);
      if (area.start < start || area.last > last) {
        throw fail('ENOENT', `${range(start, last)} cuts the area ${range(area.start, area.last)}`);
      }
      this.takeBack(area);
      this.areas.remove(area);
      if (this.domains.length) area.unfill(this.domains);
      area.pages.drop();
      unmapped += area.length;
      gone?.(area.length);
    }
    return unmapped;
  }

  /** Asks users for their pins in `area`: EDEADLK when one does not answer. */
  private takeBack(area: Area): void {
    for (let requests = 0; area.isHeld; requests++) {
      if (requests === MOST_REQUESTS)
        throw fail('EDEADLK', `the area ${range(area.start, area.last)} is not given back`);
      area.closing = true;
      for (const user of this.users) user.unmapped?.(area.start, area.length);
    }
  }

  private realign(): void {
    const alignment = this.neededAlignment();
    this.checkAlignment(alignment);
    this.alignment = alignment;
  }

  private neededAlignment(): bigint {
    const domains = this.domains.map(smallestPage);
    const users = Array.from(this.users, (user) => user.alignment);
    return [...domains, ...users].reduce(max, this.huge ? 1n : PAGE_BYTES);
  }

  /** EADDRINUSE when what is mapped does not obey a larger alignment. */
  private checkAlignment(alignment: bigint): void {
    if (alignment <= this.alignment) return;
    for (const area of this.areas) {
      if ((area.start | area.length | BigInt(area.pageOffset)) % alignment) {
        const where = range(area.start, area.last);
        throw fail('EADDRINUSE', `the area ${where} is not aligned to ${hex(alignment)}, as the domain needs`);
      }
    }
  }
}

/** EOVERFLOW when [iova, iova + length) leaves the 64-bit space. */
function lastOf(iova: bigint, length: bigint): bigint {
  const last = iova + length - 1n;
  if (last > U64_MAX) throw fail('EOVERFLOW', `iova ${hex(iova)} + length ${hex(length)} overflows 64 bits`);
  return last;
}

function powerOfTwoFrom(length: bigint): bigint {
  return 1n << BigInt((length - 1n).toString(2).length - (length === 1n ? 1 : 0));
}

const smallestPage = (domain: PagingDomain): bigint => domain.pageSizes & -domain.pageSizes;
