/**
 * Access: someone inside the kernel (an emulated device, a HW queue) who uses the memory of an IOAS without an IOMMU. Pins
 * are by IOVA range; an unmap asks for them back first. The uAPI knows accesses only by their IDs.
 */
import { fail } from '../abi/errno.ts';
import { mayFail } from '../drivers/failure-points.ts';
import { PROT_READ, PROT_WRITE } from '../drivers/iommu-driver.ts';
import type { Area } from './area.ts';
import type { IommufdContext } from './context.ts';
import { hex, range } from './format.ts';
import type { IoPageTable, IovaUser } from './io-pagetable.ts';
import { Ioas } from './ioas.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { PAGE_BYTES } from './pages.ts';
import { min, U64_MAX } from './u64.ts';

/** Gives back every pin that touches [start, start + length): the memory is being unmapped, or the access leaves the IOAS. */
export type UnmapListener = (start: bigint, length: bigint) => void;

export interface AccessOptions {
  /** May pin pages, and not only read and write. */
  readonly pins: boolean;
  /** Absent for accesses of iommufd's own: what they pin cannot be unmapped (EBUSY). */
  readonly unmapped?: UnmapListener;
}

export class Access extends IommufdObject implements IovaUser {
  readonly alignment: bigint;
  readonly unmapped: UnmapListener | null;
  private readonly context: IommufdContext;
  private ioas: Ioas | null;

  private constructor(context: IommufdContext, { pins, unmapped }: AccessOptions) {
    super();
    this.context = context;
    this.alignment = pins ? PAGE_BYTES : 1n;
    this.unmapped = unmapped ?? null;
    this.ioas = null;
  }

  /** Ends with close(). The iommufd stays until then, unless the access is its own. */
  static create(context: IommufdContext, options: AccessOptions): Access {
    const access = context.objects.reserve(new Access(context, options));
    context.objects.publish(access);
    if (access.unmapped) context.hold();
    return use(access);
  }

  get kind(): 'access' {
    return 'access';
  }

  /** Begins to use `ioas`, leaving the one before (null: none). EADDRINUSE when what is mapped there is not page-aligned. */
  attach(ioas: Ioas | null): void {
    const old = this.ioas;
    if (ioas === old) return;
    if (ioas) {
      ioas.table.addUser(this);
      use(ioas);
    }
    if (old) {
      this.unmapped?.(0n, U64_MAX);
      old.table.removeUser(this);
      unuse(old);
    }
    this.ioas = ioas;
  }

  /** Changes to IOAS `id`: ENOENT when the access is attached to none. */
  replace(id: number): void {
    if (!this.ioas) throw fail('ENOENT', `access ${this.id} is attached to no IOAS`);
    this.attach(this.context.objects.get(id, Ioas, 'ioas_id'));
  }

  /**
   * Pins the pages of [iova, iova + length) until unpin() of exactly this range.
   * EINVAL when `iova` is not the start of a page, ENOENT at a gap, EPERM when an area may not be used so.
   */
  pin(iova: bigint, length: bigint, write: boolean): void {
    const done: Array<() => void> = [];
    try {
      this.forEachArea(iova, length, write, (area, first, last) => {
        if (area.startByte(first) % PAGE_BYTES) throw fail('EINVAL', `iova ${hex(first)} is not the start of a page`);
        mayFail('a pinned range');
        const pages = [area.pageOf(first), area.pageOf(last)] as const;
        area.pages.pin(...pages);
        area.hold(this.unmapped === null);
        done.push(() => this.unpinArea(area, ...pages));
      });
    } catch (error) {
      for (const undo of done.reverse()) undo();
      throw error;
    }
  }

  /** Takes back one pin(). The areas are still there. */
  unpin(iova: bigint, length: bigint): void {
    const last = iova + length - 1n;
    for (let at = iova; at <= last; ) {
      const area = this.table.areas.at(at);
      if (!area) throw new Error(`access ${this.id} unpins ${range(iova, last)}, not all of which is mapped`);
      const end = min(area.last, last);
      this.unpinArea(area, area.pageOf(at), area.pageOf(end));
      at = end + 1n;
    }
  }

  /** Calls `visit` with the frame of each pinned page of [iova, iova + length), in order. */
  forEachFrame(iova: bigint, length: bigint, visit: (frame: number) => void): void {
    const last = iova + length - 1n;
    for (let at = iova; at <= last; ) {
      const area = this.table.areas.at(at)!;
      const end = min(area.last, last);
      for (let page = area.pageOf(at); page <= area.pageOf(end); page++) visit(area.pages.frame(page));
      at = end + 1n;
    }
  }

  /** Copies memory from (or, with `write`, to) [iova, iova + bytes.length). */
  copy(iova: bigint, bytes: Uint8Array, write: boolean): void {
    let done = 0;
    this.forEachArea(iova, BigInt(bytes.length), write, (area, first, last) => {
      if (write && !area.pages.writable) throw fail('EPERM', `${areaText(area)} was mapped without WRITEABLE`);
      const count = Number(last - first + 1n);
      area.pages.copy(area.startByte(first), bytes.subarray(done, done + count), write);
      done += count;
    });
  }

  /** What the IOAS maps, lowest first; nothing when attached to none. */
  get areas(): Iterable<Area> {
    return this.ioas?.table.areas ?? [];
  }

  /** Ends create(). */
  close(): void {
    unuse(this);
    this.context.objects.remove(this.id);
    if (this.unmapped) this.context.drop();
  }

  destroy(): void {
    this.attach(null);
  }

  private get table(): IoPageTable {
    if (!this.ioas) throw fail('ENOENT', `access ${this.id} is attached to no IOAS`);
    return this.ioas.table;
  }

  private unpinArea(area: Area, firstPage: number, lastPage: number): void {
    area.release(this.unmapped === null);
    area.pages.unpin(firstPage, lastPage);
  }

  /** Visits the areas of [iova, iova + length), which must be mapped without a gap, with the part that is asked for. */
  private forEachArea(
    iova: bigint,
    length: bigint,
    write: boolean,
    visit: (area: Area, first: bigint, last: bigint) => void,
  ): void {
    if (length === 0n) throw fail('EINVAL', 'length is 0');
    const end = iova + length - 1n;
    if (end > U64_MAX) throw fail('EOVERFLOW', `iova ${hex(iova)} + length ${hex(length)} overflows 64 bits`);
    const { areas } = this.table;
    for (let at = iova; at <= end; ) {
      const area = areas.at(at);
      if (!area) throw fail('ENOENT', `IOVA ${hex(at)} of ${range(iova, end)} is not mapped`);
      if (area.pages.foreign) throw fail('EINVAL', `${areaText(area)} is memory of a device`);
      if (area.closing) throw fail('EINVAL', `${areaText(area)} is being unmapped`);
      if (!(area.prot & (write ? PROT_WRITE : PROT_READ))) {
        throw fail('EPERM', `${areaText(area)} is not ${write ? 'writeable' : 'readable'}`);
      }
      const last = min(area.last, end);
      visit(area, at, last);
      at = last + 1n;
    }
  }
}

const areaText = (area: Area): string => `the area ${range(area.start, area.last)}`;
