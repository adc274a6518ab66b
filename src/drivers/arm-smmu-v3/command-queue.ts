/**
 * The driver's end of a command queue (3.5, 4.7, 7.1), the SMMU's own or a VCMDQ: many commands, one CMD_SYNC, errors
 * skipped as they come.
 */
import { fail } from '../../abi/errno.ts';
import {
  CERROR_ABT,
  CERROR_ATC_INV_SYNC,
  CMD,
  CMD_SYNC,
  COMMAND_BYTES,
  COMMAND_WORDS,
} from '../../hardware/smmuv3/spec/commands.ts';
import { type Field, get, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { CMDQ_ERR, REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import { FRAME_BYTES, type PhysicalMemory } from '../../memory/physical-memory.ts';
import type { FrameAllocator } from '../frame-allocator.ts';
import type { CommandBatch } from './commands.ts';
import { POLLS, type Registers } from './registers.ts';

/** Takes commands and carries them out. */
export interface CommandSink {
  /** Issues the batch, which is empty then; returns when all of it is done. ETIMEDOUT when the hardware hangs. */
  submit(batch: CommandBatch): void;
}

interface Placed<F> {
  readonly offset: number;
  readonly fields: F;
}

/** Where the registers of a queue are. Both kinds have the same fields, but for the allocation hint. */
export interface QueueRegisters {
  readonly base: Placed<{ readonly ADDR: Field; readonly LOG2SIZE: Field; readonly RA?: Field }>;
  readonly prod: Placed<unknown>;
  readonly cons: Placed<{ readonly RD: Field; readonly ERR: Field }>;
  readonly gerror: Placed<unknown>;
  readonly gerrorn: Placed<unknown>;
}

export const SMMU_QUEUE: QueueRegisters = {
  base: REGISTERS.CMDQ_BASE,
  prod: REGISTERS.CMDQ_PROD,
  cons: REGISTERS.CMDQ_CONS,
  gerror: REGISTERS.GERROR,
  gerrorn: REGISTERS.GERRORN,
};

export class CommandQueue implements CommandSink {
  private readonly registers: Registers;
  private readonly at: QueueRegisters;
  private readonly memory: PhysicalMemory;
  private readonly note: (text: string) => void;
  private readonly log2Entries: number;
  private readonly firstFrame: number;
  /** Write index with its wrap bit: 0 .. 2^(log2Entries + 1) - 1. */
  private prod: number;

  constructor(
    registers: Registers,
    at: QueueRegisters,
    memory: PhysicalMemory,
    frames: FrameAllocator,
    log2Entries: number,
    note: (text: string) => void,
  ) {
    this.registers = registers;
    this.at = at;
    this.memory = memory;
    this.note = note;
    this.log2Entries = log2Entries;
    this.firstFrame = frames.allocate(Math.max(0, log2Entries - Math.log2(FRAME_BYTES / COMMAND_BYTES)));
    this.prod = 0;
  }

  /** Tells the hardware where the queue is; it must be disabled. */
  install(): void {
    const { ADDR, LOG2SIZE, RA } = this.at.base.fields;
    const base = new Uint32Array(2);
    putFrame(base, 0, ADDR, this.firstFrame);
    put(base, 0, LOG2SIZE, this.log2Entries);
    if (RA) put(base, 0, RA, 1);
    this.registers.write64(this.at.base, base);
    this.registers.write(this.at.prod, 0);
    this.registers.write(this.at.cons, 0);
    this.prod = 0;
  }

  /** One CMD_SYNC stands behind the batch. A batch larger than the queue goes in pieces, with the CMD_SYNC at its end. */
  submit(batch: CommandBatch): void {
    batch.raw(CMD_SYNC, 0, 0, 0);
    const { words, length } = batch;
    batch.clear();
    const entries = 2 ** this.log2Entries;
    for (let done = 0; done < length; ) {
      const piece = Math.min(length - done, entries);
      for (let i = 0; i < piece; i++) this.store(words, (done + i) * COMMAND_WORDS);
      this.registers.write(this.at.prod, this.prod);
      this.waitUntilEmpty();
      done += piece;
    }
  }

  /** GERROR says that the hardware stopped at a command: put a CMD_SYNC in its place and let it go on (7.1). */
  recover(): boolean {
    const { gerror, gerrorn, cons: consumer } = this.at;
    const active = this.registers.read(gerror) ^ this.registers.read(gerrorn);
    if (!(active & CMDQ_ERR)) return false;
    const cons = Uint32Array.of(this.registers.read(consumer));
    const at = get(cons, 0, consumer.fields.RD) % 2 ** this.log2Entries;
    const error = get(cons, 0, consumer.fields.ERR);
    this.note(`command ${this.describe(at)} at index ${at} of the command queue: error ${error}`);
    // CERROR_ABT and CERROR_ATC_INV_SYNC blame no command: the hardware tries again from CONS.
    if (error !== CERROR_ABT && error !== CERROR_ATC_INV_SYNC) this.replace(at, CMD_SYNC);
    this.registers.write(gerrorn, this.registers.read(gerrorn) ^ CMDQ_ERR);
    return true;
  }

  private waitUntilEmpty(): void {
    const cons = new Uint32Array(1);
    for (let polls = 0; polls < POLLS; polls++) {
      cons[0] = this.registers.read(this.at.cons);
      if (get(cons, 0, this.at.cons.fields.RD) === this.prod) return;
      this.recover();
    }
    throw fail('ETIMEDOUT', `the command queue stopped at index ${cons[0]}, short of ${this.prod}`);
  }

  private store(words: Uint32Array, from: number): void {
    const at = this.prod % 2 ** this.log2Entries;
    const frame = this.firstFrame + Math.floor((at * COMMAND_BYTES) / FRAME_BYTES);
    const offset = (at * COMMAND_BYTES) % FRAME_BYTES;
    this.memory.store64(frame, offset, words[from]!, words[from + 1]!);
    this.memory.store64(frame, offset + 8, words[from + 2]!, words[from + 3]!);
    this.prod = (this.prod + 1) % 2 ** (this.log2Entries + 1);
  }

  private replace(at: number, opcode: number): void {
    const frame = this.firstFrame + Math.floor((at * COMMAND_BYTES) / FRAME_BYTES);
    const offset = (at * COMMAND_BYTES) % FRAME_BYTES;
    this.memory.store64(frame, offset, opcode, 0);
    this.memory.store64(frame, offset + 8, 0, 0);
  }

  private describe(at: number): string {
    const word = Uint32Array.of(0);
    const offset = at * COMMAND_BYTES;
    if (this.memory.load32(this.firstFrame + Math.floor(offset / FRAME_BYTES), offset % FRAME_BYTES)) {
      word[0] = this.memory.lo;
    }
    return `0x${get(word, 0, CMD.Opcode).toString(16)}`;
  }
}
