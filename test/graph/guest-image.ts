/**
 * What a guest kernel has in its memory: one context descriptor and a stage 1 of four tables, always for the same place of
 * guest-physical memory, so that every process has such an image. The descriptor lies in the unused half of the root table:
 * who has the one has the other, as an SMMU may keep the descriptor when its page is unmapped. And a walk of its own
 * through it: VMSAv8-64 with a granule of 4 KiB, read from the bytes.
 */
import { ContextTable, GuestRam, Stage1 } from '../host/guest.ts';
import { PAGE } from './model.ts';

/** Of the guest-physical memory that the image is for. */
export const IMAGE_IPA = 0x5000_0000n;
/** Four tables, and a page that only the making needs. */
export const IMAGE_PAGES = 5;
/** First of the IOVAs that it maps. */
export const GUEST_IOVA = 0x6000_0000n;
export const GUEST_LEAVES = 8;
/** What its pages are mapped to at first. */
const FIRST_IPA = 0x100_0000n;
const CD_IPA = IMAGE_IPA + 0x800n;
const CD_BYTES = 64;
const ASID = 7;

/** Of the STE: V, Config S1, S1ContextPtr; EATS. */
export const steWords = (ats: boolean): bigint[] => [1n | (5n << 1n) | CD_IPA, ats ? 1n << 28n : 0n];

export class GuestImage {
  private readonly stage1: Stage1;

  /** @param bytes IMAGE_PAGES pages, at first of zeros */
  constructor(bytes: Uint8Array) {
    const ram = new GuestRam(IMAGE_IPA, bytes);
    this.stage1 = new Stage1(ram, ASID);
    for (let leaf = 0; leaf < GUEST_LEAVES; leaf++) this.set(leaf, FIRST_IPA + BigInt(leaf) * PAGE);
    const contexts = new ContextTable(ram);
    contexts.set(0, this.stage1);
    ram.at(CD_IPA, CD_BYTES).set(ram.at(contexts.base, CD_BYTES));
  }

  /** Maps a page to `ipa`, or nothing when that is null. Caches keep what they have. */
  set(leaf: number, ipa: bigint | null, readOnly = false): void {
    const iova = GUEST_IOVA + BigInt(leaf) * PAGE;
    if (ipa === null) this.stage1.unmap(iova);
    else this.stage1.map(iova, ipa, { readOnly });
  }
}

/** What eight bytes of guest-physical memory are: 'missing' when the parent does not map them. */
export type Load = (ipa: bigint) => bigint | 'missing' | 'unknown';

/** How a walk ends: at a page; or without context, at a page that the parent lacks, or by the guest's own tables. */
export type Walked = { readonly ipa: bigint; readonly prot: number } | 'no context' | 'missing' | 'invalid' | 'unknown';

const VALID_CONTEXT = 1n << 31n;
const ADDRESS = 0x0000_ffff_ffff_f000n;
const READ_ONLY = 1n << 7n;

export function walk(load: Load, iova: bigint): Walked {
  const context = load(CD_IPA);
  if (context === 'unknown') return context;
  if (context === 'missing') return 'no context';
  if (!(context & VALID_CONTEXT)) return 'invalid';
  let entry = load(CD_IPA + 8n);
  for (let shift = 39n; shift >= 12n; shift -= 9n) {
    if (typeof entry === 'string') return entry;
    entry = load((entry & ADDRESS) + 8n * ((iova >> shift) & 0x1ffn));
    if (typeof entry === 'bigint' && (entry & 3n) !== 3n) return 'invalid';
  }
  if (typeof entry === 'string') return entry;
  return { ipa: (entry & ADDRESS) + (iova & 0xfffn), prot: entry & READ_ONLY ? 1 : 3 };
}
