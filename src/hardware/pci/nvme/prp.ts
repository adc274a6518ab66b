/**
 * Physical Region Pages (NVMe 1.4, 4.3): where the bytes of a command are, walked piece by piece. PRP1 is the first page,
 * from any dword on; PRP2 is the second and last, or the address of a list, which may begin anywhere in its page and goes
 * on in another page when its last entry there is not the last of all.
 */
import { FRAME_BYTES } from '../../../memory/physical-memory.ts';
import { PRP_OFFSET_INVALID, SUCCESS } from './spec/commands.ts';

const ENTRY_BYTES = 8;
/** Entries of a list are read so many at a time at most. */
const BATCH = 64;

/** Answers of next(). */
export const PRP_PIECE = 0;
/** Entries have to be read first: `listBytes` at `frame`, `offset`; then next() again. */
export const PRP_LIST = 1;
export const PRP_INVALID = 2;

export class PrpWalk {
  /** Of the piece, or of the part of a list to read: IOVA frame * 4096 + offset. */
  frame: number;
  offset: number;
  /** Bytes of the piece; it lies within one 4 KiB frame. */
  length: number;
  readonly list: Uint8Array;
  private readonly entries: DataView;
  private pageBytes: number;
  /** Bytes that no piece has covered yet, and those of them in the present page. */
  private left: number;
  private pageLeft: number;
  /** PRP2: the second page, or where the next part of the list is. */
  private secondFrame: number;
  private secondOffset: number;
  private usesList: boolean;
  /** Entries of the part of the list that was read last, and those of them used. */
  private count: number;
  private used: number;

  constructor() {
    this.frame = 0;
    this.offset = 0;
    this.length = 0;
    this.list = new Uint8Array(BATCH * ENTRY_BYTES);
    this.entries = new DataView(this.list.buffer);
    this.pageBytes = FRAME_BYTES;
    this.left = 0;
    this.pageLeft = 0;
    this.secondFrame = 0;
    this.secondOffset = 0;
    this.usesList = false;
    this.count = 0;
    this.used = 0;
  }

  /** @param prps view of PRP1 and PRP2 at `at`  @param pageBytes memory page size (CC.MPS)  @returns a status */
  start(prps: DataView, at: number, bytes: number, pageBytes: number): number {
    const low = prps.getUint32(at, true);
    const secondLow = prps.getUint32(at + 8, true);
    this.pageBytes = pageBytes;
    this.frame = frameOf(low, prps.getUint32(at + 4, true));
    this.offset = low % FRAME_BYTES;
    this.length = 0;
    this.left = bytes;
    this.pageLeft = Math.min(pageBytes - (low % pageBytes), bytes);
    this.secondFrame = frameOf(secondLow, prps.getUint32(at + 12, true));
    this.secondOffset = secondLow % FRAME_BYTES;
    this.usesList = bytes - this.pageLeft > pageBytes;
    this.count = 0;
    this.used = 0;
    if (low % 4) return PRP_OFFSET_INVALID;
    if (this.pageLeft === bytes) return SUCCESS;
    return secondLow % (this.usesList ? ENTRY_BYTES : pageBytes) ? PRP_OFFSET_INVALID : SUCCESS;
  }

  /** Goes to the next piece. Not called when there is none. */
  next(): number {
    this.frame += (this.offset + this.length) >>> 12;
    this.offset = (this.offset + this.length) & 0xfff;
    if (this.pageLeft === 0) {
      const answer = this.usesList ? this.nextOfList() : this.enterPage(this.secondFrame);
      if (answer !== PRP_PIECE) return answer;
    }
    this.length = Math.min(FRAME_BYTES - this.offset, this.pageLeft);
    this.pageLeft -= this.length;
    this.left -= this.length;
    return PRP_PIECE;
  }

  /** Bytes of the list to read, within its page. */
  get listBytes(): number {
    return this.count * ENTRY_BYTES;
  }

  private nextOfList(): number {
    this.length = 0;
    if (this.used === this.count) return this.readList();
    const low = this.entries.getUint32(this.used * ENTRY_BYTES, true);
    const frame = frameOf(low, this.entries.getUint32(this.used * ENTRY_BYTES + 4, true));
    if (low % this.pageBytes) return PRP_INVALID;
    this.used++;
    const pageEnds = this.used === this.count && this.listAt % this.pageBytes === 0;
    if (!pageEnds || this.left <= this.pageBytes) return this.enterPage(frame);
    this.secondFrame = frame;
    this.secondOffset = 0;
    return this.readList();
  }

  private readList(): number {
    this.frame = this.secondFrame;
    this.offset = this.secondOffset;
    const inPage = (this.pageBytes - (this.listAt % this.pageBytes)) / ENTRY_BYTES;
    this.count = Math.min(inPage, Math.ceil(this.left / this.pageBytes), BATCH);
    this.used = 0;
    const end = this.secondOffset + this.listBytes;
    this.secondFrame += end >>> 12;
    this.secondOffset = end & 0xfff;
    return PRP_LIST;
  }

  /** Where the list goes on, as far as it matters for page boundaries. */
  private get listAt(): number {
    return (this.secondFrame % (this.pageBytes / FRAME_BYTES)) * FRAME_BYTES + this.secondOffset;
  }

  private enterPage(frame: number): number {
    this.frame = frame;
    this.offset = 0;
    this.pageLeft = Math.min(this.pageBytes, this.left);
    return PRP_PIECE;
  }
}

const frameOf = (low: number, high: number): number => high * 2 ** 20 + (low >>> 12);
