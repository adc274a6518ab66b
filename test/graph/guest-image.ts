/**
 * What a guest kernel has in its memory: context descriptors and stage 1s for its devices and for one PASID of them, always
 * for the same place of guest-physical memory, so that every process has such an image. The descriptors lie in the page of
 * the root tables: who has the ones has the others, as an SMMU may keep a descriptor when its page is unmapped. And a walk
 * of its own through it: VMSAv8-64 with a granule of 4 KiB, read from the bytes.
 */
import { ContextTable, GuestRam, Stage1 } from '../host/guest.ts';
import { PAGE } from './model.ts';

/** Of the guest-physical memory that the image is for. */
export const IMAGE_IPA = 0x5000_0000n;
/** Six tables, and a page that only the making needs. */
export const IMAGE_PAGES = 7;
/** First of the IOVAs that it maps. */
export const GUEST_IOVA = 0x6000_0000n;
export const GUEST_LEAVES = 8;
/** PASIDs that the guest can use, 0 standing for none, and how many of them it does. */
export const SSIDS = 4;
export const USED_SSIDS = 2;
/** What its pages are mapped to at first. */
const FIRST_IPA = 0x100_0000n;
const CD_IPA = IMAGE_IPA + 0x800n;
const CD_BYTES = 64n;
export const ASIDS = [7, 8] as const;
/** The stage 1 of the second PASID: 31 bits of addresses, so that its root is two entries in the first one's page. */
const SECOND_ROOT = IMAGE_IPA + 0x400n;
const SECOND_BITS = 31n;
const SECOND_TABLE = 3n;
/** AF, shareability, nG and so on, and read-only. */
const LEAF = 0xf43n;
const READ_ONLY = 1n << 7n;
const VALID_CONTEXT = 1n << 31n;

/** Of the STE: V, Config S1, S1ContextPtr, S1CDMax; S1DSS: none is the first of them; EATS. */
export function steWords(ats: boolean, ssids: number): bigint[] {
  const eats = ats ? 1n << 28n : 0n;
  if (ssids === 0) return [1n | (5n << 1n) | CD_IPA, eats];
  return [1n | (5n << 1n) | CD_IPA | (BigInt(Math.log2(ssids)) << 59n), eats | 2n];
}

export class GuestImage {
  private readonly ram: GuestRam;
  private readonly stage1: Stage1;
  private readonly secondLeaves: bigint;

  /** @param bytes IMAGE_PAGES pages, at first of zeros */
  constructor(bytes: Uint8Array) {
    const ram = new GuestRam(IMAGE_IPA, bytes);
    this.ram = ram;
    this.stage1 = new Stage1(ram, ASIDS[0]);
    for (let leaf = 0; leaf < GUEST_LEAVES; leaf++) this.set(0, leaf, FIRST_IPA + BigInt(leaf) * PAGE);
    const contexts = new ContextTable(ram);
    contexts.set(0, this.stage1);
    ram.at(CD_IPA, Number(CD_BYTES)).set(ram.at(contexts.base, Number(CD_BYTES)));
    const [middle, leaves] = [ram.allocate(), ram.allocate()];
    ram.store(SECOND_ROOT + 8n * (GUEST_IOVA >> 30n), middle | SECOND_TABLE);
    ram.store(middle + 8n * ((GUEST_IOVA >> 21n) & 0x1ffn), leaves | SECOND_TABLE);
    this.secondLeaves = leaves;
    for (let leaf = 0; leaf < GUEST_LEAVES; leaf++) this.set(1, leaf, FIRST_IPA + BigInt(leaf + 2) * PAGE);
    this.makeSecondContext();
  }

  /** Maps a page of a PASID to `ipa`, or nothing when that is null. Caches keep what they have. */
  set(ssid: number, leaf: number, ipa: bigint | null, readOnly = false): void {
    if (ssid === 1) {
      const at = this.secondLeaves + 8n * BigInt(leaf);
      this.ram.store(at, ipa === null ? 0n : ipa | LEAF | (readOnly ? READ_ONLY : 0n));
      return;
    }
    const iova = GUEST_IOVA + BigInt(leaf) * PAGE;
    if (ipa === null) this.stage1.unmap(iova);
    else this.stage1.map(iova, ipa, { readOnly });
  }

  /** Takes the second context away, or brings it back. */
  toggleSecond(): void {
    const at = CD_IPA + CD_BYTES;
    this.ram.store(at, this.ram.load(at) ^ VALID_CONTEXT);
  }

  /** Like the first one, but for T0SZ, ASID and TTB0. */
  private makeSecondContext(): void {
    const at = CD_IPA + CD_BYTES;
    const { ram } = this;
    const first = ram.load(CD_IPA) & ~0x3fn & ~(0xffffn << 48n);
    ram.store(at, first | (64n - SECOND_BITS) | (BigInt(ASIDS[1]) << 48n));
    ram.store(at + 8n, SECOND_ROOT);
    ram.store(at + 24n, ram.load(CD_IPA + 24n));
  }
}

/** What eight bytes of guest-physical memory are: 'missing' when the parent does not map them. */
export type Load = (ipa: bigint) => bigint | 'missing' | 'unknown';

/** How a walk ends: at a page; or without context, at a page that the parent lacks, or by the guest's own tables. */
export type Walked =
  | { readonly ipa: bigint; readonly prot: number }
  | 'no context'
  | 'invalid context'
  | 'missing'
  | 'invalid'
  | 'unknown';

const ADDRESS = 0x0000_ffff_ffff_f000n;
const ROOT = 0x0000_ffff_ffff_fff0n;

export function walk(load: Load, ssid: number, iova: bigint): Walked {
  const at = CD_IPA + CD_BYTES * BigInt(ssid);
  const context = load(at);
  if (context === 'unknown') return context;
  if (context === 'missing') return 'no context';
  if (!(context & VALID_CONTEXT)) return 'invalid context';
  const bits = 64n - (context & 0x3fn);
  if (iova >> bits) return 'invalid';
  let entry = load(at + 8n);
  let mask = ROOT;
  for (let shift = 39n; shift >= 12n; shift -= 9n) {
    if (shift >= bits) continue;
    if (typeof entry === 'string') return entry;
    entry = load((entry & mask) + 8n * ((iova >> shift) & 0x1ffn));
    if (typeof entry === 'bigint' && (entry & 3n) !== 3n) return 'invalid';
    mask = ADDRESS;
  }
  if (typeof entry === 'string') return entry;
  return { ipa: (entry & ADDRESS) + (iova & 0xfffn), prot: entry & READ_ONLY ? 1 : 3 };
}
