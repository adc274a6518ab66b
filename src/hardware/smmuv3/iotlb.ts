/**
 * The IOTLB. An entry maps 2^log2Frames frames under the tags of IHI 0070, 3.17: VMID, and the ASID of its stage 1 or
 * "global", or no ASID at all for a translation by stage 2 alone. StreamIDs and SubstreamIDs are not tags: two streams
 * with equal tags hit each other's entries.
 *
 * A nested translation is one entry from VA to PA, as large as the smaller of its two leaves. It belongs to stage 1 for
 * invalidation: a TLBI by IPA leaves it alone (4.4.3.1), and a TLBI by any VA of its stage 1 leaf takes it, which is
 * why the size of that leaf is kept.
 *
 * Set-associative with up to four ways, replaced in turn. Lookup tries the entry that answered last for such a frame (a
 * hit in 10 ns), then probes each entry size in use, for the ASID and for global entries. So does an invalidation by address, in 0.3 us instead of the 25 us of a scan of 4096 entries, as long
 * as no entry is smaller than its leaf: those lie in sets that the address does not tell.
 */

/** In place of an ASID: a global entry (nG = 0), which any ASID of the VMID with the same CD.ASET matches (3.17.1). */
export const GLOBAL_SHARED = -1;
export const GLOBAL_UNSHARED = -2;
/** An entry of stage 2 alone: its frames are IPAs. */
export const STAGE2_ONLY = -3;
/** For invalidation: every entry of stage 1. */
export const ANY_ASID = -4;

/** Attribute bit of entries that do not know yet of a write. */
const CLEAN = 1 << 24;

const HINT_MASK = 255;

const LOG2_SIZES = 40;
/** The longest range that is probed: a 64 KiB granule. */
const PROBED_FRAMES = 16;

/** 2^n and 2^-n: Math.pow is a call, and multiplying by these is exact. */
const POWER = Float64Array.from({ length: 64 }, (_, n) => 2 ** n);
const INVERSE = Float64Array.from({ length: 64 }, (_, n) => 2 ** -n);

export class Iotlb {
  /** Entries in use. */
  count: number;
  /** Displaced by the last fill. */
  evicted: boolean;
  /** Columns. `tag` is VMID * 64 + log2Frames, or -1 for a free entry: shifted right by 6 it is no VMID. */
  private readonly tag: Int32Array;
  private readonly asid: Int32Array;
  private readonly first: Float64Array;
  private readonly out: Float64Array;
  private readonly ipa: Float64Array;
  private readonly attributes: Int32Array;
  private readonly next: Uint8Array;
  /** By low bits of a frame: the entry that answered for it last. It is judged by its columns, so it may be any other by now. */
  private readonly hints: Int32Array;
  private readonly ways: number;
  private readonly setMask: number;
  /** Entries by log2Frames, with an ASID (or stage 2) and global: sizes that are not there are not probed. */
  private readonly owned: Int32Array;
  private readonly global: Int32Array;
  /** Sizes that occur, and how many of them: a lookup walks this list. */
  private readonly sizes: Int32Array;
  private sizeCount: number;
  /** Entries that are smaller than their leaf. */
  private splinters: number;

  /** @param entries capacity, a power of two */
  constructor(entries: number) {
    this.count = 0;
    this.evicted = false;
    this.tag = new Int32Array(entries).fill(-1);
    this.asid = new Int32Array(entries);
    this.first = new Float64Array(entries);
    this.out = new Float64Array(entries);
    this.ipa = new Float64Array(entries);
    this.attributes = new Int32Array(entries);
    this.ways = Math.min(entries, 4);
    this.setMask = entries / this.ways - 1;
    this.next = new Uint8Array(entries / this.ways);
    this.hints = new Int32Array(HINT_MASK + 1);
    this.owned = new Int32Array(LOG2_SIZES);
    this.global = new Int32Array(LOG2_SIZES);
    this.sizes = new Int32Array(LOG2_SIZES);
    this.sizeCount = 0;
    this.splinters = 0;
  }

  /**
   * Entry that translates `frame` under the tags, or -1.
   * @param asid an ASID or STAGE2_ONLY
   * @param global GLOBAL_* of the context, or STAGE2_ONLY
   */
  find(vmid: number, asid: number, global: number, frame: number): number {
    const hint = this.hints[frame & HINT_MASK]!;
    const tag = this.tag[hint]!;
    const into = frame - this.first[hint]!;
    const own = this.asid[hint]!;
    if (tag >> 6 === vmid && (own === asid || own === global) && into >= 0 && into < POWER[tag & 63]!) return hint;
    const at = this.search(vmid, asid, global, frame);
    if (at >= 0) this.hints[frame & HINT_MASK] = at;
    return at;
  }

  private search(vmid: number, asid: number, global: number, frame: number): number {
    for (let n = 0; n < this.sizeCount; n++) {
      const log2Frames = this.sizes[n]!;
      const base = alignDown(frame, log2Frames);
      if (this.owned[log2Frames] !== 0) {
        const at = this.probe(vmid, asid, log2Frames, base);
        if (at >= 0) return at;
      }
      if (this.global[log2Frames] !== 0 && asid >= 0) {
        const at = this.probe(vmid, global, log2Frames, base);
        if (at >= 0) return at;
      }
    }
    return -1;
  }

  /** Output frame of entry `at` for `frame`, which it covers. */
  outputFrame(at: number, frame: number): number {
    return this.out[at]! + (frame - this.first[at]!);
  }

  ipaFrame(at: number, frame: number): number {
    return this.ipa[at]! + (frame - this.first[at]!);
  }

  log2Frames(at: number): number {
    return this.tag[at]! & 63;
  }

  /** Permission sets of stage 1 and stage 2 (six bits each; see vmsav8.ts). A stage that was not there allows all. */
  s1Permissions(at: number): number {
    return this.attributes[at]! & 63;
  }

  s2Permissions(at: number): number {
    return (this.attributes[at]! >>> 6) & 63;
  }

  /** A write has to walk again: the permission to write was left out, because no write was recorded yet (3.13.3). */
  clean(at: number): boolean {
    return (this.attributes[at]! & CLEAN) !== 0;
  }

  /**
   * Adds an entry around `frame`, in place of one with the same tags and range.
   * @param clean see clean(): the permissions do not allow writes
   * @param asid an ASID, GLOBAL_* or STAGE2_ONLY
   * @param leafLog2 size of the leaf by which invalidations find it: stage 1's, or stage 2's when it is alone
   * @param level, granuleLog2 of that leaf, for TTL and TG
   */
  fill(
    vmid: number,
    asid: number,
    frame: number,
    log2Frames: number,
    outFrame: number,
    ipaFrame: number,
    s1Permissions: number,
    s2Permissions: number,
    leafLog2: number,
    level: number,
    granuleLog2: number,
    clean: boolean,
  ): void {
    const base = alignDown(frame, log2Frames);
    const tag = vmid * 64 + log2Frames;
    const at = this.place(tag, asid, base, setHash(vmid, asid, log2Frames, base) & this.setMask);
    const same = this.tag[at] === tag && this.asid[at] === asid && this.first[at] === base;
    this.evicted = !same && this.tag[at] !== -1;
    if (!same) {
      if (this.evicted) this.drop(at);
      this.tag[at] = tag;
      this.asid[at] = asid;
      this.first[at] = base;
      this.tally(log2Frames, asid, 1);
      this.count++;
    } else if (this.isSplinter(at)) this.splinters--;
    this.out[at] = outFrame - (frame - base);
    this.ipa[at] = ipaFrame - (frame - base);
    this.attributes[at] =
      s1Permissions |
      (s2Permissions << 6) |
      (leafLog2 << 12) |
      (level << 18) |
      ((granuleLog2 - 10) << 20) |
      (clean ? CLEAN : 0);
    if (leafLog2 > log2Frames) this.splinters++;
    this.hints[frame & HINT_MASK] = at;
  }

  /** Drops everything. Returns how many. */
  clear(): number {
    const dropped = this.count;
    this.tag.fill(-1);
    this.next.fill(0);
    this.owned.fill(0);
    this.global.fill(0);
    this.sizeCount = 0;
    this.splinters = 0;
    this.count = 0;
    return dropped;
  }

  /** NH_ALL (stage 1 entries of the VMID) and, with `stage2` too, S12_VMALL. */
  invalidateVmid(vmid: number, stage2: boolean): number {
    if (this.count === 0) return 0;
    const { tag, asid, count } = this;
    for (let at = 0; at < tag.length; at++) {
      if (tag[at]! >> 6 === vmid && (stage2 || asid[at] !== STAGE2_ONLY)) this.drop(at);
    }
    return count - this.count;
  }

  /** NH_ASID: entries of the VMID and ASID that are not global. */
  invalidateAsid(vmid: number, asid: number): number {
    if (this.count === 0) return 0;
    const { tag, asid: own, count } = this;
    for (let at = 0; at < tag.length; at++) if (tag[at]! >> 6 === vmid && own[at] === asid) this.drop(at);
    return count - this.count;
  }

  /**
   * NH_VA (`asid`: that ASID and global entries), NH_VAA (ANY_ASID) and S2_IPA (STAGE2_ONLY).
   * @param first, last frames, inclusive
   * @param level, granuleLog2 0, or only leaves of that level (TTL) and granule (TG)
   */
  invalidateRange(vmid: number, asid: number, first: number, last: number, level: number, granuleLog2: number): number {
    if (this.count === 0) return 0;
    const { tag, asid: own, count } = this;
    if (this.splinters === 0 && asid !== ANY_ASID && last - first < PROBED_FRAMES) {
      this.probeRange(vmid, asid, first, last, level, granuleLog2);
      return count - this.count;
    }
    for (let at = 0; at < tag.length; at++) {
      if (tag[at]! >> 6 !== vmid || !matchesAsid(own[at]!, asid)) continue;
      const leafLog2 = this.leafLog2(at);
      const leaf = alignDown(this.first[at]!, leafLog2);
      if (leaf > last || leaf + POWER[leafLog2]! - 1 < first) continue;
      this.dropLeaf(at, level, granuleLog2);
    }
    return count - this.count;
  }

  private probeRange(vmid: number, asid: number, first: number, last: number, level: number, granule: number): void {
    // Downwards: a drop may take a size off the list, and puts the last one in its place.
    for (let n = this.sizeCount - 1; n >= 0; n--) {
      const log2Frames = this.sizes[n]!;
      for (let base = alignDown(first, log2Frames); base <= last; base += POWER[log2Frames]!) {
        this.dropLeaf(this.probe(vmid, asid, log2Frames, base), level, granule);
        if (asid < 0) continue;
        this.dropLeaf(this.probe(vmid, GLOBAL_SHARED, log2Frames, base), level, granule);
        this.dropLeaf(this.probe(vmid, GLOBAL_UNSHARED, log2Frames, base), level, granule);
      }
    }
  }

  /** Drops entry `at` (-1: none) if its leaf is of that level and granule. */
  private dropLeaf(at: number, level: number, granuleLog2: number): void {
    if (at < 0) return;
    const attributes = this.attributes[at]!;
    if (granuleLog2 !== 0 && ((attributes >>> 20) & 15) + 10 !== granuleLog2) return;
    if (level === 0 || ((attributes >>> 18) & 3) === level) this.drop(at);
  }

  private leafLog2(at: number): number {
    return (this.attributes[at]! >>> 12) & 63;
  }

  private isSplinter(at: number): boolean {
    return this.leafLog2(at) > this.log2Frames(at);
  }

  private probe(vmid: number, asid: number, log2Frames: number, base: number): number {
    const tag = vmid * 64 + log2Frames;
    const start = (setHash(vmid, asid, log2Frames, base) & this.setMask) * this.ways;
    for (let at = start; at < start + this.ways; at++) {
      if (this.tag[at] === tag && this.first[at] === base && this.asid[at] === asid) return at;
    }
    return -1;
  }

  /** Where an entry goes: its own place, or a free one of the set, or that of the next in turn. */
  private place(tag: number, asid: number, base: number, set: number): number {
    const start = set * this.ways;
    let free = -1;
    for (let at = start; at < start + this.ways; at++) {
      const present = this.tag[at]!;
      if (present === tag && this.first[at] === base && this.asid[at] === asid) return at;
      if (present === -1 && free < 0) free = at;
    }
    if (free >= 0) return free;
    const way = this.next[set]!;
    this.next[set] = (way + 1) % this.ways;
    return start + way;
  }

  private drop(at: number): void {
    if (this.isSplinter(at)) this.splinters--;
    this.tally(this.tag[at]! & 63, this.asid[at]!, -1);
    this.tag[at] = -1;
    this.count--;
  }

  private tally(log2Frames: number, asid: number, step: number): void {
    const before = this.owned[log2Frames]! + this.global[log2Frames]!;
    const column = isGlobal(asid) ? this.global : this.owned;
    column[log2Frames]! += step;
    if (before === 0) {
      this.sizes[this.sizeCount++] = log2Frames;
    } else if (before + step === 0) {
      let at = 0;
      while (this.sizes[at] !== log2Frames) at++;
      this.sizes[at] = this.sizes[--this.sizeCount]!;
    }
  }
}

function matchesAsid(own: number, asid: number): boolean {
  if (own === STAGE2_ONLY || asid === STAGE2_ONLY) return own === asid;
  return asid === ANY_ASID || own === asid || own < 0;
}

const isGlobal = (asid: number): boolean => asid === GLOBAL_SHARED || asid === GLOBAL_UNSHARED;

/** First frame of the naturally aligned 2^log2Frames around `frame`; exact for every frame below 2^52. */
function alignDown(frame: number, log2Frames: number): number {
  return log2Frames === 0 ? frame : Math.floor(frame * INVERSE[log2Frames]!) * POWER[log2Frames]!;
}

function setHash(vmid: number, asid: number, log2Frames: number, base: number): number {
  const page = base * INVERSE[log2Frames]!;
  return (
    (Math.imul(page, 0x9e3779b1) ^
      Math.imul(page * 2 ** -32, 0x85ebca6b) ^
      Math.imul(asid + vmid * 0x10001, 0xc2b2ae35)) >>>
    10
  );
}
