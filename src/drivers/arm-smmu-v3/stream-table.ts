/** The stream table in host RAM (3.3.1, 5.1): linear, or two-level with level 2 tables made when a stream appears. */
import { get, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { FMT_2LEVEL, FMT_LINEAR, REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import { CONFIG_ABORT, L1STD, L1STD_BYTES, STE, STE_BYTES } from '../../hardware/smmuv3/spec/ste.ts';
import { FRAME_BYTES, type PhysicalMemory } from '../../memory/physical-memory.ts';
import type { FrameAllocator } from '../frame-allocator.ts';
import type { Registers } from './registers.ts';

/** StreamIDs per level 2 table, log2: 16 KiB of STEs. */
const SPLIT = 8;
/** Level 1 descriptors at most, log2: 1 MiB. StreamIDs beyond them are refused. */
const MOST_L1_LOG2 = 17;

export class StreamTable {
  /** StreamIDs that the table covers, log2. */
  readonly streamBits: number;
  private readonly memory: PhysicalMemory;
  private readonly frames: FrameAllocator;
  private readonly twoLevel: boolean;
  private readonly firstFrame: number;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, streamBits: number, twoLevel: boolean) {
    this.memory = memory;
    this.frames = frames;
    this.twoLevel = twoLevel && streamBits > SPLIT;
    this.streamBits = this.twoLevel ? Math.min(streamBits, MOST_L1_LOG2 + SPLIT) : streamBits;
    const bytes = this.twoLevel ? 2 ** (this.streamBits - SPLIT) * L1STD_BYTES : 2 ** this.streamBits * STE_BYTES;
    this.firstFrame = frames.allocate(Math.max(0, Math.log2(bytes / FRAME_BYTES)));
    if (!this.twoLevel) this.fillWithAbort(this.firstFrame, 2 ** this.streamBits);
  }

  /** Tells the SMMU where the table is; CR0.SMMUEN must be 0. */
  install(registers: Registers): void {
    const { STRTAB_BASE, STRTAB_BASE_CFG } = REGISTERS;
    const base = new Uint32Array(2);
    putFrame(base, 0, STRTAB_BASE.fields.ADDR, this.firstFrame);
    put(base, 0, STRTAB_BASE.fields.RA, 1);
    registers.write64(STRTAB_BASE, base);
    const config = new Uint32Array(1);
    put(config, 0, STRTAB_BASE_CFG.fields.LOG2SIZE, this.streamBits);
    put(config, 0, STRTAB_BASE_CFG.fields.FMT, this.twoLevel ? FMT_2LEVEL : FMT_LINEAR);
    if (this.twoLevel) put(config, 0, STRTAB_BASE_CFG.fields.SPLIT, SPLIT);
    registers.write(STRTAB_BASE_CFG, config[0]!);
  }

  /** Makes the STE of `stream` exist; it aborts until it is written. */
  cover(stream: number): void {
    if (!this.twoLevel) return;
    const byte = (stream >>> SPLIT) * L1STD_BYTES;
    const frame = this.firstFrame + Math.floor(byte / FRAME_BYTES);
    const words = this.loadL1(frame, byte % FRAME_BYTES);
    if (get(words, 0, L1STD.Span) !== 0) return;
    const table = this.frames.allocate(Math.log2((2 ** SPLIT * STE_BYTES) / FRAME_BYTES));
    this.fillWithAbort(table, 2 ** SPLIT);
    put(words, 0, L1STD.Span, SPLIT + 1);
    putFrame(words, 0, L1STD.L2Ptr, table);
    // One 64-bit store: the SMMU sees no half of it, and it caches no descriptor with Span = 0 (3.21.3).
    this.memory.store64(frame, byte % FRAME_BYTES, words[0]!, words[1]!);
  }

  /** Byte address of a covered stream's STE, as frame * 4096 + offset: below 2^52. */
  addressOf(stream: number): number {
    if (!this.twoLevel) return this.firstFrame * FRAME_BYTES + stream * STE_BYTES;
    const byte = (stream >>> SPLIT) * L1STD_BYTES;
    const words = this.loadL1(this.firstFrame + Math.floor(byte / FRAME_BYTES), byte % FRAME_BYTES);
    const table = words[1]! * 2 ** 32 + (words[0]! - get(words, 0, L1STD.Span));
    return table + (stream % 2 ** SPLIT) * STE_BYTES;
  }

  private loadL1(frame: number, offset: number): Uint32Array {
    this.memory.load64(frame, offset);
    return Uint32Array.of(this.memory.lo, this.memory.hi);
  }

  private fillWithAbort(firstFrame: number, entries: number): void {
    const first = new Uint32Array(2);
    put(first, 0, STE.V, 1);
    put(first, 0, STE.Config, CONFIG_ABORT);
    for (let i = 0; i < entries; i++) {
      const byte = i * STE_BYTES;
      this.memory.store64(firstFrame + Math.floor(byte / FRAME_BYTES), byte % FRAME_BYTES, first[0]!, first[1]!);
    }
  }
}
