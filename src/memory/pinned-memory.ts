/**
 * Frames for pinned pages. Each GiB of a memory object (a process's own addresses, a shared file) with pins gets one 1 GiB
 * slot of the physical address space, at equal offsets, so that user memory is physically contiguous (and huge pages
 * possible) by default; `fragmentSeed` shuffles the pages of every slot instead. Nothing is kept per page: pins are
 * counted per slot.
 *
 * A frame leads to the page that the object has there *now*; the kernel's pin would keep the old page alive after munmap.
 * When the object has nothing there any more (the process died, unmapped it, cut the file), the frame stays RAM as a pinned
 * frame does, but its contents are lost: it reads as zeros until it is written. Both hold too for an object that offers a
 * window: then its memory is read and written in place, without a call.
 */
import { CHUNK_FRAMES, RamSlot } from './host-ram.ts';
import { type Backing, FRAME_BYTES, type PhysicalMemory, SLOT_FRAMES } from './physical-memory.ts';
import type { MemoryObject, MemoryWindow } from './process-memory.ts';

const INDEX_MASK = SLOT_FRAMES - 1;

export interface PinnedMemoryOptions {
  /** First 1 GiB slot of the window for user pages. */
  readonly firstSlot: number;
  /** How many; each holds pins in one GiB of one object. */
  readonly slots: number;
  /** Absent: contiguous. Any integer: pages of a slot are shuffled by it. */
  readonly fragmentSeed?: number;
  /** log2 of the frames that stay together when pages are shuffled: 0 (absent), 9 for 2 MiB, 18 for 1 GiB. */
  readonly log2PageFrames?: number;
}

export class PinnedMemory {
  private readonly memory: PhysicalMemory;
  private readonly firstSlot: number;
  private readonly slots: number;
  private readonly multiplier: number;
  private readonly inverse: number;
  private readonly addend: number;
  private readonly fragmented: boolean;
  private readonly log2PageFrames: number;
  private readonly windows: Map<MemoryObject, Map<number, Window>>;
  private readonly taken: Set<number>;
  private pinned: number;

  constructor(memory: PhysicalMemory, options: PinnedMemoryOptions) {
    this.memory = memory;
    this.firstSlot = options.firstSlot;
    this.slots = options.slots;
    this.fragmented = options.fragmentSeed !== undefined;
    this.log2PageFrames = options.log2PageFrames ?? 0;
    // page * odd + addend is a bijection, modulo a power of two; 4k + 1 with a large k keeps neighbours apart.
    const seed = options.fragmentSeed ?? 0;
    this.multiplier = ((Math.imul(seed, 0x9e3779b1) & 0xffff) << 2) | (0x8000 >>> this.log2PageFrames) | 1;
    this.inverse = inverse(this.multiplier);
    this.addend = (Math.imul(seed, 0x85ebca6b) >>> 7) & INDEX_MASK;
    this.windows = new Map();
    this.taken = new Set();
    this.pinned = 0;
  }

  /** Frames pinned now, counted as often as they are pinned. Zero when every client has gone. */
  get pinnedFrames(): number {
    return this.pinned;
  }

  /** 1 GiB windows in use. */
  get windowsInUse(): number {
    return this.taken.size;
  }

  /**
   * Pins `frames` pages of `object` from `page` on.
   * @returns false when no physical slot is left (ENOMEM); nothing is pinned then
   */
  pin(object: MemoryObject, page: number, frames: number): boolean {
    if (object.firstFrame !== undefined) return true;
    let done = 0;
    while (done < frames) {
      const count = Math.min(frames - done, SLOT_FRAMES - ((page + done) & INDEX_MASK));
      const window = this.windowOf(object, page + done) ?? this.open(object, page + done, count);
      if (!window?.has(((page + done) & INDEX_MASK) + count)) {
        if (window?.pins === 0) this.close(window);
        if (done) this.unpin(object, page, done);
        return false;
      }
      window.pins += count;
      this.pinned += count;
      done += count;
    }
    return true;
  }

  /** Takes back exactly what one pin() gave (or any part of it). */
  unpin(object: MemoryObject, page: number, frames: number): void {
    if (object.firstFrame !== undefined) return;
    for (let done = 0; done < frames; ) {
      const count = Math.min(frames - done, SLOT_FRAMES - ((page + done) & INDEX_MASK));
      const window = this.windowOf(object, page + done);
      if (!window || window.pins < count) throw new Error(`unpin of page ${page + done} of ${object.name}, not pinned`);
      window.pins -= count;
      this.pinned -= count;
      if (window.pins === 0) this.close(window);
      done += count;
    }
  }

  /** Physical frame of a pinned page. */
  frameOf(object: MemoryObject, page: number): number {
    if (object.firstFrame !== undefined) return object.firstFrame + page;
    const window = this.windowOf(object, page);
    if (!window) throw new Error(`page ${page} of ${object.name} is not pinned`);
    return window.slot * SLOT_FRAMES + this.shuffle(page & INDEX_MASK);
  }

  /** How many of the `frames` pinned pages from `page` lie behind one another physically (at least 1). */
  contiguous(object: MemoryObject, page: number, frames: number): number {
    if (object.firstFrame !== undefined) return frames;
    const first = this.frameOf(object, page);
    if (this.fragmented) {
      let run = 1;
      while (run < frames && this.frameOf(object, page + run) === first + run) run++;
      return run;
    }
    let run = Math.min(frames, SLOT_FRAMES - (page & INDEX_MASK));
    while (run < frames && this.frameOf(object, page + run) === first + run) {
      run = Math.min(frames, run + SLOT_FRAMES);
    }
    return run;
  }

  /** Fills `into` from byte `address` of pinned pages, as a device would. */
  read(object: MemoryObject, address: number, into: Uint8Array): void {
    if (!this.isMapped(object, address) && object.read(address, into)) return;
    this.forEachPage(object, address, into, (frame, offset, piece) => this.memory.read(frame, offset, piece));
  }

  /** Writes `from` at byte `address` of pinned pages, as a device would. */
  write(object: MemoryObject, address: number, from: Uint8Array): void {
    if (!this.isMapped(object, address) && object.write(address, from)) return;
    this.forEachPage(object, address, from, (frame, offset, piece) => this.memory.write(frame, offset, piece));
  }

  private isMapped(object: MemoryObject, address: number): boolean {
    return this.windowOf(object, Math.floor(address / FRAME_BYTES))?.mapped != null;
  }

  private forEachPage(
    object: MemoryObject,
    address: number,
    bytes: Uint8Array,
    visit: (frame: number, offset: number, piece: Uint8Array) => void,
  ): void {
    for (let done = 0; done < bytes.length; ) {
      const offset = (address + done) % FRAME_BYTES;
      const piece = bytes.subarray(done, done + FRAME_BYTES - offset);
      visit(this.frameOf(object, Math.floor((address + done) / FRAME_BYTES)), offset, piece);
      done += piece.length;
    }
  }

  private windowOf(object: MemoryObject, page: number): Window | undefined {
    return this.windows.get(object)?.get(Math.floor(page / SLOT_FRAMES));
  }

  private open(object: MemoryObject, page: number, frames: number): Window | undefined {
    const gigabyte = Math.floor(page / SLOT_FRAMES);
    const slot = this.freeSlot(this.windows.get(object)?.get(gigabyte - 1)?.slot);
    if (slot === undefined) return undefined;
    object.hold?.();
    const mapped = object.openWindow?.(gigabyte, ((page & INDEX_MASK) + frames) * FRAME_BYTES) ?? null;
    const window = new Window(object, gigabyte, slot, mapped, (index) => this.unshuffle(index));
    if (mapped && !this.fragmented) this.memory.placeWords(slot, mapped.words);
    else this.memory.placeBacking(slot, 1, window);
    this.taken.add(slot);
    let ofObject = this.windows.get(object);
    if (!ofObject) this.windows.set(object, (ofObject = new Map()));
    ofObject.set(gigabyte, window);
    return window;
  }

  /** The slot behind the neighbour's, so that memory stays contiguous beyond 1 GiB, or the first free one. */
  private freeSlot(neighbour: number | undefined): number | undefined {
    const end = this.firstSlot + this.slots;
    if (neighbour !== undefined && neighbour + 1 < end && !this.taken.has(neighbour + 1)) return neighbour + 1;
    for (let slot = this.firstSlot; slot < end; slot++) if (!this.taken.has(slot)) return slot;
    return undefined;
  }

  private close(window: Window): void {
    this.memory.placeBacking(window.slot, 1, undefined);
    this.taken.delete(window.slot);
    window.mapped?.close();
    window.object.drop?.();
    const ofObject = this.windows.get(window.object)!;
    ofObject.delete(window.gigabyte);
    if (ofObject.size === 0) this.windows.delete(window.object);
  }

  private shuffle(index: number): number {
    if (!this.fragmented) return index;
    return this.inPage(Math.imul(index >>> this.log2PageFrames, this.multiplier) + this.addend, index);
  }

  private unshuffle(index: number): number {
    if (!this.fragmented) return index;
    return this.inPage(Math.imul((index >>> this.log2PageFrames) - this.addend, this.inverse), index);
  }

  /** The same frame of another page, whatever their size. */
  private inPage(page: number, index: number): number {
    const log2 = this.log2PageFrames;
    return ((page & (INDEX_MASK >>> log2)) << log2) | (index & ((1 << log2) - 1));
  }
}

/** One GiB of one object behind one physical slot. */
class Window implements Backing {
  readonly object: MemoryObject;
  readonly gigabyte: number;
  readonly slot: number;
  readonly mapped: MemoryWindow | null;
  pins: number;
  /** Stands in for what the object has no more. */
  private lost: RamSlot | null;
  private readonly bytes: Uint8Array | null;
  private readonly pageOf: (index: number) => number;

  constructor(
    object: MemoryObject,
    gigabyte: number,
    slot: number,
    mapped: MemoryWindow | null,
    pageOf: (index: number) => number,
  ) {
    this.object = object;
    this.gigabyte = gigabyte;
    this.slot = slot;
    this.mapped = mapped;
    this.bytes = mapped && new Uint8Array(mapped.words.buffer);
    this.pins = 0;
    this.lost = null;
    this.pageOf = pageOf;
  }

  /** Are its first `frames` pages within reach? */
  has(frames: number): boolean {
    return this.mapped === null || this.mapped.extend(frames * FRAME_BYTES);
  }

  get name(): string {
    return `pinned ${this.object.name}`;
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    if (this.bytes) {
      const from = this.pageOf(frame & INDEX_MASK) * FRAME_BYTES + offset;
      into.set(this.bytes.subarray(from, from + into.length));
    } else if (!this.object.read(this.address(frame, offset), into)) {
      const words = this.ram().words(frame & INDEX_MASK)!;
      into.set(new Uint8Array(words.buffer, ((frame & 0x1ff) << 12) | offset, into.length));
    }
    return true;
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    if (this.bytes) {
      this.bytes.set(from, this.pageOf(frame & INDEX_MASK) * FRAME_BYTES + offset);
    } else if (!this.object.write(this.address(frame, offset), from)) {
      const words = this.ram().writableWords(frame & INDEX_MASK)!;
      new Uint8Array(words.buffer, ((frame & 0x1ff) << 12) | offset, from.length).set(from);
    }
    return true;
  }

  private ram(): RamSlot {
    if (!this.lost) {
      this.lost = new RamSlot();
      this.lost.add(0, SLOT_FRAMES / CHUNK_FRAMES - 1);
    }
    return this.lost;
  }

  private address(frame: number, offset: number): number {
    return (this.gigabyte * SLOT_FRAMES + this.pageOf(frame & INDEX_MASK)) * FRAME_BYTES + offset;
  }
}

/** Inverse of an odd number modulo 2^32, by Newton's iteration: each step doubles the correct bits. */
function inverse(odd: number): number {
  let x = odd;
  for (let i = 0; i < 5; i++) x = Math.imul(x, 2 - Math.imul(odd, x));
  return x;
}
