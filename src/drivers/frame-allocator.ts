/**
 * Frames of host RAM for tables and queues: blocks of 2^n frames, naturally aligned and zeroed, as a kernel's page
 * allocator gives them (buddy system). One allocator serves all drivers of a machine.
 */
import { fail } from '../abi/errno.ts';
import { FRAME_BYTES, type PhysicalMemory } from '../memory/physical-memory.ts';
import { mayFail } from './failure-points.ts';

const ZERO_FRAME = new Uint8Array(FRAME_BYTES);

export class FrameAllocator {
  private readonly memory: PhysicalMemory;
  private readonly firstFrame: number;
  private readonly frames: number;
  private readonly orders: FreeBlocks[];
  /** log2 frames of every block that is out. */
  private readonly taken: Map<number, number>;
  private usedFrames: number;

  /** Hands out [firstFrame, firstFrame + frames), which must be RAM. */
  constructor(memory: PhysicalMemory, firstFrame: number, frames: number) {
    this.memory = memory;
    this.firstFrame = firstFrame;
    this.frames = frames;
    this.orders = [];
    this.taken = new Map();
    this.usedFrames = 0;
    for (let at = firstFrame, left = frames; left > 0; ) {
      const order = Math.min(alignmentLog2(at), Math.floor(Math.log2(left)));
      this.blocks(order).add(at);
      at += 2 ** order;
      left -= 2 ** order;
    }
  }

  /** Frames that are out now. */
  get used(): number {
    return this.usedFrames;
  }

  /** First frame of a zeroed block of 2^log2Frames frames, aligned to its size; ENOMEM when there is none. */
  allocate(log2Frames: number): number {
    mayFail('table frames');
    let order = log2Frames;
    let frame = this.orders[order]?.take() ?? -1;
    while (frame < 0) {
      if (++order >= this.orders.length) {
        throw fail(
          'ENOMEM',
          `host RAM has no free block of 2^${log2Frames} frames; ${this.usedFrames} frames are in use`,
        );
      }
      frame = this.orders[order]?.take() ?? -1;
    }
    while (order > log2Frames) {
      order--;
      this.blocks(order).add(frame + 2 ** order);
    }
    this.taken.set(frame, log2Frames);
    this.usedFrames += 2 ** log2Frames;
    for (let i = 0; i < 2 ** log2Frames; i++) {
      if (!this.memory.write(frame + i, 0, ZERO_FRAME)) throw new Error(`frame ${frame + i} of host RAM is not RAM`);
    }
    return frame;
  }

  /** Takes back a block by its first frame. */
  free(frame: number): void {
    let order = this.taken.get(frame);
    if (order === undefined) throw new Error(`frame ${frame} is not the first of a block that was allocated`);
    this.taken.delete(frame);
    this.usedFrames -= 2 ** order;
    for (;;) {
      const buddy = Math.floor(frame / 2 ** order) % 2 ? frame - 2 ** order : frame + 2 ** order;
      const inside = buddy >= this.firstFrame && buddy + 2 ** order <= this.firstFrame + this.frames;
      if (!inside || !this.blocks(order).remove(buddy)) break;
      frame = Math.min(frame, buddy);
      order++;
    }
    this.blocks(order).add(frame);
  }

  private blocks(order: number): FreeBlocks {
    while (this.orders.length <= order) this.orders.push(new FreeBlocks());
    return this.orders[order]!;
  }
}

/** Free blocks of one size. The stack may name blocks that merged since; the set is the truth. */
class FreeBlocks {
  private readonly stack: number[];
  private readonly free: Set<number>;

  constructor() {
    this.stack = [];
    this.free = new Set();
  }

  add(frame: number): void {
    this.stack.push(frame);
    this.free.add(frame);
  }

  remove(frame: number): boolean {
    return this.free.delete(frame);
  }

  /** Any free block, or -1. */
  take(): number {
    for (let frame = this.stack.pop(); frame !== undefined; frame = this.stack.pop()) {
      if (this.free.delete(frame)) return frame;
    }
    return -1;
  }
}

/** log2 of the largest power of two that divides `frame`; 40 (the whole address space) for 0. */
function alignmentLog2(frame: number): number {
  let log2 = 0;
  while (log2 < 40 && frame % 2 ** (log2 + 1) === 0) log2++;
  return log2;
}
