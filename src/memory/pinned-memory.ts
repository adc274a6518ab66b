/**
 * Frames for pinned user pages. Each GiB of a process's address space with pins gets one 1 GiB slot of the physical
 * address space, at equal offsets, so that user memory is physically contiguous (and huge pages possible) by default;
 * `fragmentSeed` shuffles the pages of every slot instead. Nothing is kept per page: pins are counted per slot.
 *
 * A frame leads to the page that the process has at that address *now*; the kernel's pin would keep the old page alive
 * after munmap. A process that is gone answers nothing: DMA to its frames is an external abort.
 */
import { type Backing, FRAME_BYTES, type PhysicalMemory, SLOT_FRAMES } from './physical-memory.ts';
import type { ProcessMemory } from './process-memory.ts';

const INDEX_MASK = SLOT_FRAMES - 1;

export interface PinnedMemoryOptions {
  /** First 1 GiB slot of the window for user pages. */
  readonly firstSlot: number;
  /** How many; each holds pins of one process in one GiB of its addresses. */
  readonly slots: number;
  /** Absent: contiguous. Any integer: pages of a slot are shuffled by it. */
  readonly fragmentSeed?: number;
}

export class PinnedMemory {
  private readonly memory: PhysicalMemory;
  private readonly firstSlot: number;
  private readonly slots: number;
  private readonly multiplier: number;
  private readonly addend: number;
  private readonly fragmented: boolean;
  private readonly windows: Map<ProcessMemory, Map<number, Window>>;
  private readonly taken: Set<number>;
  private pinned: number;

  constructor(memory: PhysicalMemory, options: PinnedMemoryOptions) {
    this.memory = memory;
    this.firstSlot = options.firstSlot;
    this.slots = options.slots;
    this.fragmented = options.fragmentSeed !== undefined;
    // index * odd + addend (mod 2^18) is a bijection; 4k + 1 with a large k keeps neighbours apart.
    const seed = options.fragmentSeed ?? 0;
    this.multiplier = ((Math.imul(seed, 0x9e3779b1) & 0xffff) << 2) | 0x8001;
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
   * Pins `frames` pages of `process` from page number `page` (address >> 12).
   * @returns false when no physical slot is left (ENOMEM); nothing is pinned then
   */
  pin(process: ProcessMemory, page: number, frames: number): boolean {
    let done = 0;
    while (done < frames) {
      const count = Math.min(frames - done, SLOT_FRAMES - ((page + done) & INDEX_MASK));
      const window = this.windowOf(process, page + done) ?? this.open(process, page + done);
      if (!window) {
        if (done) this.unpin(process, page, done);
        return false;
      }
      window.pins += count;
      this.pinned += count;
      done += count;
    }
    return true;
  }

  /** Takes back exactly what one pin() gave (or any part of it). */
  unpin(process: ProcessMemory, page: number, frames: number): void {
    for (let done = 0; done < frames; ) {
      const count = Math.min(frames - done, SLOT_FRAMES - ((page + done) & INDEX_MASK));
      const window = this.windowOf(process, page + done);
      if (!window || window.pins < count)
        throw new Error(`unpin of page ${page + done} of ${process.name}, not pinned`);
      window.pins -= count;
      this.pinned -= count;
      if (window.pins === 0) this.close(window);
      done += count;
    }
  }

  /** Physical frame of a pinned page. */
  frameOf(process: ProcessMemory, page: number): number {
    const window = this.windowOf(process, page);
    if (!window) throw new Error(`page ${page} of ${process.name} is not pinned`);
    return window.slot * SLOT_FRAMES + this.shuffle(page & INDEX_MASK);
  }

  /** How many of the `frames` pinned pages from `page` lie behind one another physically (at least 1). */
  contiguous(process: ProcessMemory, page: number, frames: number): number {
    const first = this.frameOf(process, page);
    if (this.fragmented) {
      let run = 1;
      while (run < frames && this.frameOf(process, page + run) === first + run) run++;
      return run;
    }
    let run = Math.min(frames, SLOT_FRAMES - (page & INDEX_MASK));
    while (run < frames && this.frameOf(process, page + run) === first + run) {
      run = Math.min(frames, run + SLOT_FRAMES);
    }
    return run;
  }

  private windowOf(process: ProcessMemory, page: number): Window | undefined {
    return this.windows.get(process)?.get(Math.floor(page / SLOT_FRAMES));
  }

  private open(process: ProcessMemory, page: number): Window | undefined {
    const gigabyte = Math.floor(page / SLOT_FRAMES);
    const slot = this.freeSlot(this.windows.get(process)?.get(gigabyte - 1)?.slot);
    if (slot === undefined) return undefined;
    const window = new Window(process, gigabyte, slot, (index) => this.unshuffle(index));
    this.memory.placeBacking(slot, 1, window);
    this.taken.add(slot);
    let ofProcess = this.windows.get(process);
    if (!ofProcess) this.windows.set(process, (ofProcess = new Map()));
    ofProcess.set(gigabyte, window);
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
    const ofProcess = this.windows.get(window.process)!;
    ofProcess.delete(window.gigabyte);
    if (ofProcess.size === 0) this.windows.delete(window.process);
  }

  private shuffle(index: number): number {
    return this.fragmented ? (Math.imul(index, this.multiplier) + this.addend) & INDEX_MASK : index;
  }

  private unshuffle(index: number): number {
    return this.fragmented ? Math.imul(index - this.addend, inverse(this.multiplier)) & INDEX_MASK : index;
  }
}

/** One GiB of one process's addresses behind one physical slot. */
class Window implements Backing {
  readonly process: ProcessMemory;
  readonly gigabyte: number;
  readonly slot: number;
  pins: number;
  private readonly pageOf: (index: number) => number;

  constructor(process: ProcessMemory, gigabyte: number, slot: number, pageOf: (index: number) => number) {
    this.process = process;
    this.gigabyte = gigabyte;
    this.slot = slot;
    this.pins = 0;
    this.pageOf = pageOf;
  }

  get name(): string {
    return `memory of ${this.process.name}`;
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    return this.process.read(this.address(frame, offset), into);
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    return this.process.write(this.address(frame, offset), from);
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
