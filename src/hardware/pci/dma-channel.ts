/**
 * One DMA access at a time of a function, of any length, at consecutive IOVAs. It ends at once, or it waits; then it goes
 * on by itself, and the model hears when it is over. Each byte moves once: those before a frame that waits or is refused
 * have moved, as on the bus.
 *
 * What a model has to do: write its work as steps with one access each, remember the step, and on DMA_WAITING return; the
 * callback that it gave for the channel then finishes that step and takes the next. See dma-probe.ts and ioat.ts.
 */
import { FRAME_BYTES } from '../../memory/physical-memory.ts';
import type { Clock } from '../clock.ts';
import { READ, type Requester, WRITE } from '../iommu.ts';
import type { PageWaiter } from './page-requests.ts';

export const DMA_DONE = 0;
/** Some frame of it was refused or aborted, or the function may not send that PASID. */
export const DMA_REFUSED = 1;
/** The channel calls back with one of the others. The bytes must stay as they are until then. */
export const DMA_WAITING = 2;

/** Answers of DmaPath.translate that are no frames. */
export const REFUSED = -1;
export const IN_STALL = -2;
export const IN_PAGE_REQUEST = -3;
/** Completed without touching memory: zeros for a read, nothing for a write. */
export const DISCARD = -4;

/** What a channel sends through: the function's port. */
export interface DmaPath {
  readonly clock: Clock;
  /** Physical frame for the next part of the channel's access, or why there is none. */
  translate(channel: DmaChannel): number;
  /** Moves bytes within one frame; false when memory aborts. */
  move(access: number, frame: number, offset: number, piece: Uint8Array): boolean;
  /** Traces a part of `length` bytes: `frame` as translate() gave it. */
  note(channel: DmaChannel, length: number, frame: number): void;
  /** The channel waits for nothing any more. */
  withdraw(channel: DmaChannel): void;
}

export class DmaChannel implements Requester, PageWaiter {
  /** The part that is next: IOVA frame * 4096 + offset. */
  frame: number;
  offset: number;
  /** PASID, or NO_SUBSTREAM. */
  substream: number;
  /** READ or WRITE. */
  access: number;
  /** Never asks the ATC, nor for a translation to put into it. */
  readonly untranslated: boolean;
  /** The next part was sent, and stalled. */
  stalled: boolean;
  /** What stalled has ended as though it had been done. */
  private discarded: boolean;
  /** Page requests for the next part so far. */
  tries: number;
  private readonly port: DmaPath;
  private readonly ended: (outcome: number) => void;
  private bytes: Uint8Array;
  private done: number;
  private waits: boolean;
  /** Counts what is queued on the clock: an old one finds another number. */
  private turn: number;

  constructor(port: DmaPath, ended: (outcome: number) => void, untranslated = false) {
    this.port = port;
    this.ended = ended;
    this.untranslated = untranslated;
    this.frame = 0;
    this.offset = 0;
    this.substream = 0;
    this.access = READ;
    this.stalled = false;
    this.discarded = false;
    this.tries = 0;
    this.bytes = new Uint8Array(0);
    this.done = 0;
    this.waits = false;
    this.turn = 0;
  }

  /** An access has answered DMA_WAITING, and no callback has come yet. */
  get waiting(): boolean {
    return this.waits;
  }

  /** Last IOVA frame of the access. */
  get lastFrame(): number {
    return this.frame + Math.floor((this.offset + this.bytes.length - this.done - 1) / FRAME_BYTES);
  }

  /**
   * Reads `into.length` bytes from IOVA frame * 4096 + offset.
   * @param substream PASID, or NO_SUBSTREAM
   * @returns DMA_DONE, DMA_REFUSED or DMA_WAITING
   */
  read(frame: number, offset: number, into: Uint8Array, substream: number): number {
    return this.start(READ, frame, offset, into, substream);
  }

  /** Writes `from` to IOVA frame * 4096 + offset; otherwise as read(). */
  write(frame: number, offset: number, from: Uint8Array, substream: number): number {
    return this.start(WRITE, frame, offset, from, substream);
  }

  /** Forgets an access that waits: no callback comes. What is outstanding at the IOMMU ends there without effect here. */
  cancel(): void {
    if (!this.waits) return;
    this.waits = false;
    this.turn++;
    this.port.withdraw(this);
  }

  /** An access that waits is refused. */
  stop(): void {
    if (!this.waits) return;
    this.port.withdraw(this);
    this.later(false);
  }

  stallEnded(retry: boolean, discarded = false): void {
    this.discarded = discarded;
    this.later(retry || discarded);
  }

  pagesAnswered(granted: boolean): void {
    this.later(granted);
  }

  private start(access: number, frame: number, offset: number, bytes: Uint8Array, substream: number): number {
    if (this.waits) throw new Error('a DMA channel was given an access while another one waits');
    this.access = access;
    this.frame = frame;
    this.offset = offset;
    this.bytes = bytes;
    this.substream = substream;
    this.done = 0;
    this.stalled = false;
    this.discarded = false;
    this.tries = 0;
    return this.move();
  }

  private move(): number {
    const { port, bytes, access } = this;
    while (this.done < bytes.length) {
      const length = Math.min(FRAME_BYTES - this.offset, bytes.length - this.done);
      let frame = this.discarded ? DISCARD : port.translate(this);
      if (frame === IN_STALL || frame === IN_PAGE_REQUEST) {
        this.waits = true;
        this.stalled = frame === IN_STALL;
        port.note(this, length, frame);
        return DMA_WAITING;
      }
      const piece = length === bytes.length ? bytes : bytes.subarray(this.done, this.done + length);
      if (frame >= 0 && !port.move(access, frame, this.offset, piece)) frame = REFUSED;
      port.note(this, length, frame);
      if (frame === DISCARD && access === READ) piece.fill(0);
      else if (frame < 0 && frame !== DISCARD) return DMA_REFUSED;
      this.done += length;
      this.frame++;
      this.offset = 0;
      this.stalled = false;
      this.discarded = false;
      this.tries = 0;
    }
    return DMA_DONE;
  }

  private later(retry: boolean): void {
    const turn = ++this.turn;
    this.port.clock.defer(() => {
      if (turn === this.turn) this.goOn(retry);
    });
  }

  private goOn(retry: boolean): void {
    if (!retry) this.port.note(this, Math.min(FRAME_BYTES - this.offset, this.bytes.length - this.done), REFUSED);
    const outcome = retry ? this.move() : DMA_REFUSED;
    if (outcome === DMA_WAITING) return;
    this.waits = false;
    this.ended(outcome);
  }
}
