/**
 * What a guest kernel writes into its memory: stage-1 tables (VMSAv8-64, 4 KiB granule, 48 bits), context descriptors,
 * the STE that points to them, and commands for its SMMU. All bit positions are the specification's, written out here
 * independently of src/.
 */

export const PAGE = 4096;

/** AttrIndx 0, EL0 access, inner shareable, AF, nG. */
const LEAF_RW = 0x3n | (1n << 6n) | (3n << 8n) | (1n << 10n) | (1n << 11n);
const READ_ONLY = 1n << 7n;
const NOT_GLOBAL = 1n << 11n;
const TABLE = 0x3n;
const ADDRESS = 0x0000_ffff_ffff_f000n;

export interface LeafOptions {
  readonly readOnly?: boolean;
  readonly global?: boolean;
}

/** Guest RAM: bytes behind guest-physical `base`. */
export class GuestRam {
  readonly base: bigint;
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private nextFree: number;

  constructor(base: bigint, bytes: Uint8Array) {
    this.base = base;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.nextFree = 0;
  }

  /** Guest-physical address of fresh zeroed pages, aligned to their size rounded up to a power of two. */
  allocate(pages = 1): bigint {
    const align = 2 ** Math.ceil(Math.log2(pages)) * PAGE;
    const at = Math.ceil(this.nextFree / align) * align;
    this.nextFree = at + pages * PAGE;
    if (this.nextFree > this.bytes.length) throw new Error('guest RAM is used up');
    this.bytes.fill(0, at, this.nextFree);
    return this.base + BigInt(at);
  }

  load(gpa: bigint): bigint {
    return this.view.getBigUint64(this.offset(gpa), true);
  }

  store(gpa: bigint, value: bigint): void {
    this.view.setBigUint64(this.offset(gpa), value, true);
  }

  /** A view, not a copy. */
  at(gpa: bigint, length: number): Uint8Array {
    return this.bytes.subarray(this.offset(gpa), this.offset(gpa) + length);
  }

  text(gpa: bigint, text?: string): string {
    const length = 16;
    if (text !== undefined) this.at(gpa, length).set(new TextEncoder().encode(text.padEnd(length)));
    return new TextDecoder().decode(this.at(gpa, length)).trimEnd();
  }

  private offset(gpa: bigint): number {
    return Number(gpa - this.base);
  }
}

/** A stage 1: a root table and an ASID. */
export class Stage1 {
  readonly ram: GuestRam;
  readonly asid: number;
  readonly root: bigint;

  constructor(ram: GuestRam, asid: number) {
    this.ram = ram;
    this.asid = asid;
    this.root = ram.allocate();
  }

  /** Maps one page. Changes a present entry in place: whether anybody notices is up to the caches. */
  map(iova: bigint, gpa: bigint, { readOnly = false, global = false }: LeafOptions = {}): void {
    const attributes = (LEAF_RW & ~(global ? NOT_GLOBAL : 0n)) | (readOnly ? READ_ONLY : 0n);
    this.ram.store(this.leaf(iova), gpa | attributes);
  }

  unmap(iova: bigint): void {
    this.ram.store(this.leaf(iova), 0n);
  }

  private leaf(iova: bigint): bigint {
    let table = this.root;
    for (let level = 0; level < 3; level++) {
      const entry = table + 8n * ((iova >> BigInt(39 - 9 * level)) & 0x1ffn);
      if ((this.ram.load(entry) & 1n) === 0n) this.ram.store(entry, this.ram.allocate() | TABLE);
      table = this.ram.load(entry) & ADDRESS;
    }
    return table + 8n * ((iova >> 12n) & 0x1ffn);
  }
}

const CD_BYTES = 64n;

/** A linear table of context descriptors, one per SSID. */
export class ContextTable {
  readonly ram: GuestRam;
  readonly base: bigint;
  readonly log2Entries: number;

  constructor(ram: GuestRam, log2Entries = 0) {
    this.ram = ram;
    this.log2Entries = log2Entries;
    this.base = ram.allocate();
  }

  /** V, T0SZ 16, 4 KiB granule, IPS 48 bits, EPD1, AArch64, R and A, ASET; TTB0 in the second doubleword. */
  set(ssid: number, stage1: Stage1): void {
    const at = this.base + CD_BYTES * BigInt(ssid);
    const control = 16n | (1n << 30n) | (5n << 32n) | (1n << 41n) | (3n << 45n) | (1n << 47n);
    this.ram.store(at + 8n, stage1.root);
    this.ram.store(at + 24n, 0xffn);
    this.ram.store(at, control | (1n << 31n) | (BigInt(stage1.asid) << 48n));
  }

  clear(ssid: number): void {
    this.ram.store(this.base + CD_BYTES * BigInt(ssid), 0n);
  }

  /** V, Config S1, S1ContextPtr, S1CDMax; S1DSS: transactions without a substream use SSID 0; EATS. */
  ste(ats = false): [bigint, bigint] {
    const low = 1n | (5n << 1n) | this.base | (BigInt(this.log2Entries) << 59n);
    const substream0 = this.log2Entries ? 2n : 0n;
    return [low, substream0 | (ats ? 1n << 28n : 0n)];
  }
}

export const STE_ABORT: [bigint, bigint] = [1n, 0n];
export const STE_BYPASS: [bigint, bigint] = [9n, 0n];

export type GuestCommand = [bigint, bigint];

/** Commands as a guest writes them; what it puts into the VMID field is its own affair. */
export const commands = {
  nhAll: (vmid = 0): GuestCommand => [0x10n | (BigInt(vmid) << 32n), 0n],
  nhAsid: (asid: number): GuestCommand => [0x11n | (BigInt(asid) << 48n), 0n],
  nhVa: (asid: number, iova: bigint, vmid = 0): GuestCommand => [
    0x12n | (BigInt(vmid) << 32n) | (BigInt(asid) << 48n),
    iova & ~0xfffn,
  ],
  nhVaa: (iova: bigint): GuestCommand => [0x13n, iova & ~0xfffn],
  nsnhAll: (): GuestCommand => [0x30n, 0n],
  cfgiCd: (sid: number, ssid = 0): GuestCommand => [0x05n | (BigInt(ssid) << 12n) | (BigInt(sid) << 32n), 1n],
  cfgiCdAll: (sid: number): GuestCommand => [0x06n | (BigInt(sid) << 32n), 0n],
  /** One page; a size of 52 is everything. */
  atcInv: (sid: number, iova: bigint, log2Pages = 0): GuestCommand => [
    0x40n | (BigInt(sid) << 32n),
    (iova & ~0xfffn) | BigInt(log2Pages),
  ],
  cfgiSte: (sid: number): GuestCommand => [0x03n | (BigInt(sid) << 32n), 1n],
  sync: (): GuestCommand => [0x46n, 0n],
};

export function commandBytes(list: readonly GuestCommand[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(list.flat()).buffer);
}
