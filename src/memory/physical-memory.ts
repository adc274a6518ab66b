/**
 * The physical address space: 52 bits, as 2^40 frames of 4 KiB. What a frame number leads to is found in two steps:
 * a 1 GiB slot (two-level table), then either words of RAM or a backing that answers for itself.
 */
import { CHUNK_FRAMES, RamSlot, UNTOUCHED } from './host-ram.ts';

export const FRAME_BYTES = 4096;
export const PHYSICAL_FRAMES = 2 ** 40;

/** 1 GiB: the grain at which backings are placed. */
export const SLOT_FRAMES = 2 ** 18;
const SLOTS_PER_TABLE = 2 ** 11;

/** "No device": who writes is a CPU, or an IOMMU on its own account. */
export const NO_REQUESTER = -1;

/** What answers for frames that are not host RAM. `frame` is the physical frame; accesses never cross a frame. */
export interface Backing {
  /** For error messages and `inspect`. */
  readonly name: string;
  /** Fills `into`; false is an external abort. */
  read(frame: number, offset: number, into: Uint8Array): boolean;
  /** @param requester number of the device that writes, as interrupt controllers know it, or NO_REQUESTER */
  write(frame: number, offset: number, from: Uint8Array, requester: number): boolean;
}

type Slot = RamSlot | Backing;
type SlotTable = Array<Slot | undefined>;

export class PhysicalMemory {
  /** Low and high word of the last successful load. */
  lo: number;
  hi: number;
  private readonly tables: Array<SlotTable | undefined>;
  private readonly bytes8: Uint8Array;
  private readonly words2: Uint32Array;
  private readonly bytes4: Uint8Array;

  constructor() {
    this.lo = 0;
    this.hi = 0;
    this.tables = new Array(SLOTS_PER_TABLE).fill(undefined);
    const buffer = new ArrayBuffer(8);
    this.bytes8 = new Uint8Array(buffer);
    this.bytes4 = new Uint8Array(buffer, 0, 4);
    this.words2 = new Uint32Array(buffer);
  }

  /** Adds zeroed RAM in units of 2 MiB, allocated as it is written. A slot may hold several ranges of RAM, or a backing. */
  addRam(firstFrame: number, frames: number): void {
    assertRange(firstFrame, frames);
    if (firstFrame % CHUNK_FRAMES || frames % CHUNK_FRAMES) {
      throw new Error(`RAM at frame ${hex(firstFrame)} + ${hex(frames)} is not a multiple of 2 MiB`);
    }
    const last = firstFrame + frames - 1;
    for (let slot = slotOf(firstFrame); slot <= slotOf(last); slot++) {
      const base = slot * SLOT_FRAMES;
      const from = Math.max(firstFrame - base, 0);
      const to = Math.min(last - base, SLOT_FRAMES - 1);
      const present = this.slotAt(slot);
      if (present !== undefined && !(present instanceof RamSlot)) {
        throw new Error(`RAM at frame ${hex(base)} overlaps ${present.name}`);
      }
      if (from === 0 && to === SLOT_FRAMES - 1 && present === undefined) this.setSlot(slot, UNTOUCHED);
      else this.ownRam(slot).add(Math.floor(from / CHUNK_FRAMES), Math.floor(to / CHUNK_FRAMES));
    }
  }

  /** Places `backing` behind the 1 GiB slots [firstSlot, firstSlot + slots); undefined takes a backing away. */
  placeBacking(firstSlot: number, slots: number, backing: Backing | undefined): void {
    assertRange(firstSlot * SLOT_FRAMES, slots * SLOT_FRAMES);
    for (let slot = firstSlot; slot < firstSlot + slots; slot++) {
      const present = this.slotAt(slot);
      if (backing && present) throw new Error(`${backing.name} at slot ${slot} overlaps what is there`);
      this.setSlot(slot, backing);
    }
  }

  /** Places 2^28 words that are somebody else's behind a 1 GiB slot. Taken away as a backing is. */
  placeWords(slot: number, words: Uint32Array): void {
    assertRange(slot * SLOT_FRAMES, SLOT_FRAMES);
    if (this.slotAt(slot)) throw new Error(`words at slot ${slot} overlap what is there`);
    this.setSlot(slot, new RamSlot(words));
  }

  /** Little-endian 8-byte load at an 8-byte aligned offset into `lo` and `hi`; false is an external abort. */
  load64(frame: number, offset: number): boolean {
    const slot = this.slotAt((frame * 2 ** -18) | 0);
    if (slot instanceof RamSlot) {
      const words = slot.words(frame & 0x3ffff);
      if (words === null) return false;
      const at = ((frame & 0x1ff) << 10) | (offset >>> 2);
      this.lo = words[at]!;
      this.hi = words[at + 1]!;
      return true;
    }
    if (slot?.read(frame, offset, this.bytes8) !== true) return false;
    this.lo = this.words2[0]!;
    this.hi = this.words2[1]!;
    return true;
  }

  /** Little-endian 4-byte load into `lo`. */
  load32(frame: number, offset: number): boolean {
    const slot = this.slotAt((frame * 2 ** -18) | 0);
    if (slot instanceof RamSlot) {
      const words = slot.words(frame & 0x3ffff);
      if (words === null) return false;
      this.lo = words[((frame & 0x1ff) << 10) | (offset >>> 2)]!;
      return true;
    }
    if (slot?.read(frame, offset, this.bytes4) !== true) return false;
    this.lo = this.words2[0]!;
    return true;
  }

  store64(frame: number, offset: number, lo: number, hi: number): boolean {
    const slot = this.slotAt((frame * 2 ** -18) | 0);
    if (slot instanceof RamSlot) {
      const words = (slot === UNTOUCHED ? this.ownRam((frame * 2 ** -18) | 0) : slot).writableWords(frame & 0x3ffff);
      if (words === null) return false;
      const at = ((frame & 0x1ff) << 10) | (offset >>> 2);
      words[at] = lo;
      words[at + 1] = hi;
      return true;
    }
    this.words2[0] = lo;
    this.words2[1] = hi;
    return slot?.write(frame, offset, this.bytes8, NO_REQUESTER) === true;
  }

  store32(frame: number, offset: number, value: number): boolean {
    const slot = this.slotAt((frame * 2 ** -18) | 0);
    if (slot instanceof RamSlot) {
      const words = (slot === UNTOUCHED ? this.ownRam((frame * 2 ** -18) | 0) : slot).writableWords(frame & 0x3ffff);
      if (words === null) return false;
      words[((frame & 0x1ff) << 10) | (offset >>> 2)] = value;
      return true;
    }
    this.words2[0] = value;
    return slot?.write(frame, offset, this.bytes4, NO_REQUESTER) === true;
  }

  /**
   * Words of the 2 MiB of RAM around `frame` (its own begin at (frame & 0x1ff) << 10), for writers of whole tables: the
   * same array for life. Null where there is no RAM, or somebody else's.
   */
  ramWords(frame: number): Uint32Array | null {
    const slot = frame < PHYSICAL_FRAMES ? this.slotAt(slotOf(frame)) : undefined;
    if (!(slot instanceof RamSlot) || slot.lent) return null;
    return (slot === UNTOUCHED ? this.ownRam(slotOf(frame)) : slot).writableWords(frame & 0x3ffff);
  }

  /** Reads across frames; false as soon as one of them aborts (bytes before it are filled). */
  read(frame: number, offset: number, into: Uint8Array): boolean {
    for (let done = 0; done < into.length; frame++, offset = 0) {
      const piece = into.subarray(done, Math.min(done + FRAME_BYTES - offset, into.length));
      if (!this.readPiece(frame, offset, piece)) return false;
      done += piece.length;
    }
    return true;
  }

  /**
   * Writes across frames; false as soon as one of them aborts (bytes before it are written).
   * @param requester number of the device that writes
   */
  write(frame: number, offset: number, from: Uint8Array, requester = NO_REQUESTER): boolean {
    for (let done = 0; done < from.length; frame++, offset = 0) {
      const piece = from.subarray(done, Math.min(done + FRAME_BYTES - offset, from.length));
      if (!this.writePiece(frame, offset, piece, requester)) return false;
      done += piece.length;
    }
    return true;
  }

  private readPiece(frame: number, offset: number, into: Uint8Array): boolean {
    const slot = frame < PHYSICAL_FRAMES ? this.slotAt(slotOf(frame)) : undefined;
    if (!(slot instanceof RamSlot)) return slot?.read(frame, offset, into) === true;
    const words = slot.words(frame & 0x3ffff);
    if (words === null) return false;
    into.set(new Uint8Array(words.buffer, words.byteOffset + (((frame & 0x1ff) << 12) | offset), into.length));
    return true;
  }

  private writePiece(frame: number, offset: number, from: Uint8Array, requester: number): boolean {
    const slot = frame < PHYSICAL_FRAMES ? this.slotAt(slotOf(frame)) : undefined;
    if (!(slot instanceof RamSlot)) return slot?.write(frame, offset, from, requester) === true;
    const words = (slot === UNTOUCHED ? this.ownRam(slotOf(frame)) : slot).writableWords(frame & 0x3ffff);
    if (words === null) return false;
    new Uint8Array(words.buffer, words.byteOffset + (((frame & 0x1ff) << 12) | offset), from.length).set(from);
    return true;
  }

  /** RAM of a slot that may be written: no longer the shared untouched one. */
  private ownRam(slot: number): RamSlot {
    const present = this.slotAt(slot);
    if (present instanceof RamSlot && present !== UNTOUCHED) return present;
    const own = new RamSlot();
    if (present === UNTOUCHED) own.add(0, SLOT_FRAMES / CHUNK_FRAMES - 1);
    this.setSlot(slot, own);
    return own;
  }

  /** `slot` is an integer below 2^22; a frame beyond 52 bits must not come here. */
  private slotAt(slot: number): Slot | undefined {
    const table = this.tables[slot >>> 11];
    return table === undefined ? undefined : table[slot & 0x7ff];
  }

  private setSlot(slot: number, value: Slot | undefined): void {
    const table = (this.tables[slot >>> 11] ??= new Array(SLOTS_PER_TABLE).fill(undefined));
    table[slot & 0x7ff] = value;
  }
}

const slotOf = (frame: number): number => Math.floor(frame / SLOT_FRAMES);

const hex = (n: number): string => `0x${n.toString(16)}`;

function assertRange(firstFrame: number, frames: number): void {
  if (!(firstFrame >= 0 && frames > 0 && firstFrame + frames <= PHYSICAL_FRAMES)) {
    throw new Error(`physical range ${hex(firstFrame)} + ${hex(frames)} frames leaves the 52-bit address space`);
  }
}
