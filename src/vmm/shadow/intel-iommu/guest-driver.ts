/**
 * The guest's driver of its Intel IOMMU: tables in guest RAM, and after every change the invalidations that caching mode
 * asks for. Tables beneath a range that goes as a whole are given back with it, as kernels do.
 */
import type { GuestRam } from '../../guest/ram.ts';
import { bits } from '../guest-memory.ts';
import * as spec from './spec.ts';
import type { VirtualVtd } from './virtual-vtd.ts';

const LOG2_QUEUE_PAGES = 0n;
const QUEUE_BYTES = 4096n;
const PAGE = 4096n;

/** An address space: second-level tables and the domain ID that its cached entries carry. */
export interface VtdDomain {
  readonly id: number;
  readonly root: bigint;
  readonly levels: 3 | 4;
}

export interface VtdMapping {
  /** Of the leaf: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB. */
  readonly level?: 1 | 2 | 3;
  readonly readOnly?: boolean;
}

const shiftOf = (level: number): bigint => BigInt(12 + 9 * (level - 1));

export class GuestVtdDriver {
  readonly vtd: VirtualVtd;
  private readonly ram: GuestRam;
  private readonly rootTable: bigint;
  private readonly queue: bigint;
  /** Where the IOMMU tells that it has come to a wait descriptor. */
  private readonly status: bigint;
  private nextDomain: number;

  constructor(vtd: VirtualVtd, ram: GuestRam) {
    this.vtd = vtd;
    this.ram = ram;
    this.rootTable = ram.allocate();
    this.queue = ram.allocate();
    this.status = ram.allocate();
    this.nextDomain = 1;
  }

  /** Switches translation on: no device reaches anything but what is mapped for it from here on. */
  start(): void {
    const { vtd } = this;
    if (!(vtd.read('ECAP') & spec.ECAP_QI)) throw new Error('the IOMMU has no queue of invalidations');
    vtd.write('RTADDR', this.rootTable);
    vtd.write('GCMD', spec.SRTP);
    vtd.write('IQA', this.queue | LOG2_QUEUE_PAGES);
    vtd.write('IQT', 0n);
    vtd.write('GCMD', spec.QIE);
    this.push([spec.CONTEXT_INVALIDATE | (spec.GLOBAL << 4n), 0n], [spec.IOTLB_INVALIDATE | (spec.GLOBAL << 4n), 0n]);
    vtd.write('GCMD', spec.QIE | spec.TE);
  }

  domain(levels: 3 | 4 = 4): VtdDomain {
    return { id: this.nextDomain++, root: this.ram.allocate(), levels };
  }

  /** Puts a device behind a domain's tables. */
  attach(source: number, { id, root, levels }: VtdDomain): void {
    const high = (BigInt(id) << spec.DOMAIN_SHIFT) | BigInt(spec.widthOf(levels));
    this.setContext(source, root | (spec.TT_UNTRANSLATED << 2n) | spec.PRESENT, high);
  }

  /** Lets a device through untranslated. */
  pass(source: number): void {
    this.setContext(source, (spec.TT_PASS_THROUGH << 2n) | spec.PRESENT, BigInt(spec.widthOf(4)));
  }

  block(source: number): void {
    this.setContext(source, 0n, 0n);
  }

  /** One leaf, whatever was there. */
  map(domain: VtdDomain, iova: bigint, gpa: bigint, { level = 1, readOnly = false }: VtdMapping = {}): void {
    const prot = spec.SL_READ | (readOnly ? 0n : spec.SL_WRITE);
    const entry = this.entry(domain, iova, level);
    const before = this.ram.load(entry);
    this.ram.store(entry, gpa | prot | (level > 1 ? spec.SL_PAGE_SIZE : 0n));
    if (before || this.cachesAbsent) this.invalidate(domain, iova, 1n << shiftOf(level));
  }

  /** @param bytes no leaf lies partly inside */
  unmap(domain: VtdDomain, iova: bigint, bytes: bigint): void {
    this.clear(domain.root, domain.levels, 0n, iova, iova + bytes - 1n);
    this.invalidate(domain, iova, bytes);
  }

  /** Page-selective for the smallest aligned block that holds the range, or all of the domain when that is too large. */
  invalidate({ id }: VtdDomain, iova: bigint, bytes: bigint): void {
    const differing = (iova ^ (iova + bytes - 1n)) / PAGE;
    const mask = BigInt(differing === 0n ? 0 : differing.toString(2).length);
    const domain = BigInt(id) << 16n;
    if (mask > bits(this.vtd.read('CAP'), 53, 48)) {
      this.push([spec.IOTLB_INVALIDATE | (spec.DOMAIN << 4n) | domain, 0n]);
    } else {
      this.push([spec.IOTLB_INVALIDATE | (spec.PAGES << 4n) | domain, iova | mask]);
    }
  }

  /** Has descriptors carried out, and waits. */
  push(...descriptors: readonly (readonly [bigint, bigint])[]): void {
    const wait = [spec.INVALIDATION_WAIT | spec.WAIT_STATUS_WRITE | (1n << 32n), this.status] as const;
    this.ram.words(this.status, 1)[0] = 0;
    let tail = this.vtd.read('IQT');
    for (const [low, high] of [...descriptors, wait]) {
      this.ram.store(this.queue + tail, low);
      this.ram.store(this.queue + tail + 8n, high);
      tail = (tail + spec.DESCRIPTOR_BYTES) % QUEUE_BYTES;
    }
    this.vtd.write('IQT', tail);
    if (this.ram.words(this.status, 1)[0] !== 1) throw new Error('the IOMMU has stopped at an invalidation');
  }

  /** Caching mode: what was not present is invalidated too. */
  private get cachesAbsent(): boolean {
    return (this.vtd.read('CAP') & spec.CAP_CM) !== 0n;
  }

  private setContext(source: number, low: bigint, high: bigint): void {
    const rootEntry = this.rootTable + spec.ENTRY_BYTES * BigInt(source >> 8);
    if (!this.ram.load(rootEntry)) this.ram.store(rootEntry, this.ram.allocate() | spec.PRESENT);
    const entry = spec.tableAddress(this.ram.load(rootEntry)) + spec.ENTRY_BYTES * BigInt(source & 0xff);
    this.ram.store(entry + 8n, high);
    this.ram.store(entry, low);
    this.push(
      [spec.CONTEXT_INVALIDATE | (spec.DEVICE << 4n) | (BigInt(source) << 32n), 0n],
      [spec.IOTLB_INVALIDATE | (spec.GLOBAL << 4n), 0n],
    );
  }

  private entry({ root, levels }: VtdDomain, iova: bigint, level: number): bigint {
    let table = root;
    for (let at = levels as number; at > level; at--) {
      const entry = table + 8n * ((iova >> shiftOf(at)) & 0x1ffn);
      const value = this.ram.load(entry);
      if (value === 0n || value & spec.SL_PAGE_SIZE) {
        this.ram.store(entry, this.ram.allocate() | spec.SL_READ | spec.SL_WRITE);
      }
      table = spec.tableAddress(this.ram.load(entry));
    }
    return table + 8n * ((iova >> shiftOf(level)) & 0x1ffn);
  }

  /** Clears the highest entries that lie inside [first, last]. */
  private clear(table: bigint, level: number, base: bigint, first: bigint, last: bigint): void {
    const bytes = 1n << shiftOf(level);
    for (let n = 0n; n < 512n; n++) {
      const [start, end] = [base + n * bytes, base + (n + 1n) * bytes - 1n];
      const value = this.ram.load(table + 8n * n);
      if (value === 0n || end < first || start > last) continue;
      if (start >= first && end <= last) this.ram.store(table + 8n * n, 0n);
      else this.clear(spec.tableAddress(value), level - 1, start, first, last);
    }
  }
}
