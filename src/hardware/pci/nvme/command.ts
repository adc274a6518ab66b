/**
 * A command on its way from a submission queue to a completion queue, with a DMA channel of its own: whichever of its
 * accesses waits, others go on. What it moves goes piece by piece, as its PRPs lie.
 */
import { FRAME_BYTES } from '../../../memory/physical-memory.ts';
import { NO_SUBSTREAM } from '../../iommu.ts';
import type { DmaPort } from '../dma.ts';
import type { DmaChannel } from '../dma-channel.ts';
import type { CompletionQueue } from './completion-queue.ts';
import { PRP_INVALID, PRP_LIST, PrpWalk } from './prp.ts';
import {
  CQE_BYTES,
  CQE_CID,
  CQE_RESULT,
  CQE_SQHD,
  CQE_SQID,
  CQE_STATUS,
  PRP_OFFSET_INVALID,
  SQE_BYTES,
  SQE_CID,
  SQE_NSID,
  SQE_OPCODE,
  SQE_PRP1,
  SUCCESS,
} from './spec/commands.ts';
import type { SubmissionQueue } from './submission-queue.ts';

/** What a command does with its bytes. Answers are status codes. */
export interface Transfer {
  readonly toHost: boolean;
  /** The bytes from `at` on: to be filled before they go to the host, or as they came from it. */
  piece(command: Command, at: number, bytes: Uint8Array): number;
  /** After the last piece. */
  end(command: Command): number;
}

/** Not a status: the command has begun a transfer, is clearing, or is held. */
export const IN_PROGRESS = -1;

/**
 * 'free': in the pool. 'fetch', 'list', 'data', 'completion': an access of that kind is under way. 'clearing': it clears
 * blocks, part by part. 'held': an asynchronous event request without an event. 'queued': it is over, and stands in line
 * before its completion queue.
 */
export type CommandStep = 'free' | 'fetch' | 'list' | 'data' | 'clearing' | 'held' | 'queued' | 'completion';

export class Command {
  step: CommandStep;
  /** Set while it is not free. */
  queue: SubmissionQueue | null;
  /** Where it will be completed, even when its submission queue is deleted, and made again for another. */
  completions: CompletionQueue | null;
  /** Dword 0 of the completion entry. */
  result: number;
  /** What an admin command gives to the host, or a list that came from it. */
  payload: Uint8Array;
  /** Pages that it has had changed without a transfer. */
  pages: number;
  /** Position in the namespace's store. */
  position: number;
  /** Bytes from there that it has yet to clear. */
  toClear: number;
  readonly entry: Uint8Array;
  readonly fields: DataView;
  readonly dma: DmaChannel;
  private readonly completion: Uint8Array;
  private readonly completionFields: DataView;
  private readonly prps: PrpWalk;
  private readonly frame: Uint8Array;
  /** The part of `frame` that the present piece takes. */
  private bytes: Uint8Array;
  private work: Transfer;
  private total: number;
  private done: number;

  /** @param resume called when an access that waited is over */
  constructor(port: DmaPort, resume: (command: Command, outcome: number) => void) {
    this.step = 'free';
    this.queue = null;
    this.completions = null;
    this.pages = 0;
    this.result = 0;
    this.payload = NOTHING;
    this.position = 0;
    this.toClear = 0;
    this.entry = new Uint8Array(SQE_BYTES);
    this.fields = new DataView(this.entry.buffer);
    this.dma = port.channel((outcome) => resume(this, outcome));
    this.completion = new Uint8Array(CQE_BYTES);
    this.completionFields = new DataView(this.completion.buffer);
    this.prps = new PrpWalk();
    this.frame = new Uint8Array(FRAME_BYTES);
    this.bytes = this.frame;
    this.work = IDLE;
    this.total = 0;
    this.done = 0;
  }

  get opcode(): number {
    return this.entry[SQE_OPCODE]!;
  }

  get id(): number {
    return this.fields.getUint16(SQE_CID, true);
  }

  get namespaceId(): number {
    return this.fields.getUint32(SQE_NSID, true);
  }

  /** A dword of the entry, by byte offset. */
  dword(at: number): number {
    return this.fields.getUint32(at, true);
  }

  /** Reads the next entry of `queue`. @returns the outcome of the access */
  fetch(queue: SubmissionQueue): number {
    this.step = 'fetch';
    this.queue = queue;
    this.completions = queue.completions;
    this.pages = 0;
    this.result = 0;
    return this.dma.read(queue.frameOf(queue.head), queue.offsetOf(queue.head), this.entry, NO_SUBSTREAM);
  }

  /**
   * Begins to move `bytes`, at least one.
   * @param pageBytes memory page size of the controller
   * @returns IN_PROGRESS, or a status
   */
  transfer(work: Transfer, bytes: number, pageBytes: number): number {
    const status = this.prps.start(this.fields, SQE_PRP1, bytes, pageBytes);
    if (status !== SUCCESS) return status;
    this.work = work;
    this.total = bytes;
    this.done = 0;
    return IN_PROGRESS;
  }

  /** Starts the next access. @returns its outcome, or overWith(status) when there is none: the transfer is over */
  move(): number {
    if (this.done === this.total) return overWith(this.work.end(this));
    const { prps, work } = this;
    const next = prps.next();
    if (next === PRP_INVALID) return overWith(PRP_OFFSET_INVALID);
    if (next === PRP_LIST) {
      this.step = 'list';
      const { listBytes } = prps;
      const list = listBytes === prps.list.length ? prps.list : prps.list.subarray(0, listBytes);
      return this.dma.read(prps.frame, prps.offset, list, NO_SUBSTREAM);
    }
    this.step = 'data';
    if (this.bytes.length !== prps.length) this.bytes = this.frame.subarray(0, prps.length);
    if (!work.toHost) return this.dma.read(prps.frame, prps.offset, this.bytes, NO_SUBSTREAM);
    const status = work.piece(this, this.done, this.bytes);
    if (status !== SUCCESS) return overWith(status);
    return this.dma.write(prps.frame, prps.offset, this.bytes, NO_SUBSTREAM);
  }

  /** The access that move() began has arrived. @returns a status */
  arrived(): number {
    if (this.step === 'list') return SUCCESS;
    const status = this.work.toHost ? SUCCESS : this.work.piece(this, this.done, this.bytes);
    this.done += this.bytes.length;
    return status;
  }

  /** It is over: its completion entry, but for the phase tag. @param status the status field, phase 0 */
  conclude(status: number): void {
    const { completionFields: fields, queue } = this;
    this.step = 'queued';
    this.payload = NOTHING;
    fields.setUint32(CQE_RESULT, this.result, true);
    fields.setUint16(CQE_SQHD, queue!.head, true);
    fields.setUint16(CQE_SQID, queue!.id, true);
    fields.setUint16(CQE_CID, this.id, true);
    fields.setUint16(CQE_STATUS, status, true);
  }

  /** Writes the completion entry to the tail of `queue`. @returns the outcome of the access */
  post(queue: CompletionQueue): number {
    this.step = 'completion';
    const status = this.completionFields.getUint16(CQE_STATUS, true);
    this.completionFields.setUint16(CQE_STATUS, status | queue.phase, true);
    return this.dma.write(queue.frameOf(queue.tail), queue.offsetOf(queue.tail), this.completion, NO_SUBSTREAM);
  }

  /** Back to the pool, whatever it was at. */
  release(): void {
    this.dma.cancel();
    this.step = 'free';
    this.queue = null;
    this.completions = null;
    this.payload = NOTHING;
    this.work = IDLE;
  }
}

const NOTHING = new Uint8Array(0);

const IDLE: Transfer = { toHost: true, piece: () => SUCCESS, end: () => SUCCESS };

/** What is no outcome of an access, but the end of a transfer with a status. Below 0, as no outcome is. */
export const overWith = (status: number): number => -1 - status;
export const statusOf = (outcome: number): number => -1 - outcome;
