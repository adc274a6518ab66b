/** An address space of the guest's: a stage 1 in VMSAv8-64 tables with 4 KiB pages, and its ASID. */
import type { GuestRam } from './ram.ts';

/** Valid page or table. */
const VALID = 0b11n;
/** AP[1]: unprivileged accesses too. */
const USER = 1n << 6n;
const READ_ONLY = 1n << 7n;
const INNER_SHAREABLE = 3n << 8n;
const ACCESSED = 1n << 10n;
const NOT_GLOBAL = 1n << 11n;
const ADDRESS = 0x0000_ffff_ffff_f000n;

export class AddressSpace {
  readonly asid: number;
  readonly root: bigint;
  private readonly ram: GuestRam;

  constructor(ram: GuestRam, asid: number) {
    this.ram = ram;
    this.asid = asid;
    this.root = ram.allocate();
  }

  /** Writes one page's entry, whatever was there. Whether hardware sees it is up to its caches. */
  set(iova: bigint, gpa: bigint, readOnly = false): void {
    const flags = VALID | USER | INNER_SHAREABLE | ACCESSED | NOT_GLOBAL | (readOnly ? READ_ONLY : 0n);
    this.ram.store(this.entry(iova), gpa | flags);
  }

  clear(iova: bigint): void {
    this.ram.store(this.entry(iova), 0n);
  }

  private entry(iova: bigint): bigint {
    let table = this.root;
    for (const shift of [39n, 30n, 21n]) {
      const at = table + 8n * ((iova >> shift) & 0x1ffn);
      if ((this.ram.load(at) & 1n) === 0n) this.ram.store(at, this.ram.allocate() | VALID);
      table = this.ram.load(at) & ADDRESS;
    }
    return table + 8n * ((iova >> 12n) & 0x1ffn);
  }
}
