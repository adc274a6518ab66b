/**
 * A table of context descriptors of host stage 1s (5.3, 5.4), by SubstreamID: one descriptor for a device without PASIDs,
 * otherwise linear, or two-level where it is large and the SMMU takes that. Level 2 tables come when they are needed.
 */
import { CD_BYTES, CD_WORDS, L1CD, L1CD_BYTES } from '../../hardware/smmuv3/spec/cd.ts';
import { put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { S1FMT_64K_L2, S1FMT_LINEAR } from '../../hardware/smmuv3/spec/ste.ts';
import { FRAME_BYTES } from '../../memory/physical-memory.ts';
import { CommandBatch } from './commands.ts';
import { usedBitsOfContext } from './context-descriptor.ts';
import { EntryWriter } from './entry-writer.ts';
import type { Unit } from './unit.ts';

/** Descriptors of a level 2 table, log2: 64 KiB. */
const SPLIT = 10;

/** Log2 of the descriptors that a table can have without a second level. */
export const LINEAR_LOG2 = SPLIT;

const NOTHING = new Uint32Array(CD_WORDS);

export class ContextTable {
  readonly log2Entries: number;
  /** STE.S1Fmt */
  readonly format: number;
  readonly firstFrame: number;
  private readonly unit: Unit;
  private readonly streamId: number;
  /** First frames of the level 2 tables; of the one table when it is linear. */
  private readonly tables: Map<number, number>;

  /** A table of 2^log2Entries descriptors, of which `first`, if any, is valid. ENOMEM. */
  constructor(unit: Unit, streamId: number, log2Entries: number, first: Uint32Array | null) {
    this.unit = unit;
    this.streamId = streamId;
    this.log2Entries = log2Entries;
    this.format = log2Entries > LINEAR_LOG2 ? S1FMT_64K_L2 : S1FMT_LINEAR;
    const bytes = this.twoLevel ? 2 ** (log2Entries - SPLIT) * L1CD_BYTES : 2 ** log2Entries * CD_BYTES;
    this.firstFrame = this.allocate(bytes);
    this.tables = new Map(this.twoLevel ? [] : [[0, this.firstFrame]]);
    if (!first) return;
    try {
      this.cover(0);
    } catch (error) {
      this.free();
      throw error;
    }
    const { frame, offset } = this.placeOf(0);
    for (let i = 0; i < first.length; i += 2) unit.memory.store64(frame, offset + i * 4, first[i]!, first[i + 1]!);
  }

  /** Makes the descriptor of `substream` exist. ENOMEM. */
  cover(substream: number): void {
    const index = substream >>> SPLIT;
    if (!this.twoLevel || this.tables.has(index)) return;
    const table = this.allocate(2 ** SPLIT * CD_BYTES);
    this.tables.set(index, table);
    const words = new Uint32Array(2);
    put(words, 0, L1CD.V, 1);
    putFrame(words, 0, L1CD.L2Ptr, table);
    const byte = index * L1CD_BYTES;
    const frame = this.firstFrame + Math.floor(byte / FRAME_BYTES);
    this.unit.memory.store64(frame, byte % FRAME_BYTES, words[0]!, words[1]!);
    // Hardware may have cached that there was none (5.3).
    this.sync(substream, false);
  }

  /** Changes a descriptor that exists, while the SMMU may use it; null takes it away. */
  write(substream: number, context: Uint32Array | null): void {
    const { frame, offset } = this.placeOf(substream);
    const sync = () => this.sync(substream, true);
    const rules = { usedBits: usedBitsOfContext, anyTime: NOTHING };
    new EntryWriter(this.unit.memory, frame * FRAME_BYTES + offset, sync, rules).write(context ?? NOTHING);
  }

  /** No STE may point to it, nor any cache hold descriptors of it: CMD_CFGI_STE drops them, too (4.3.1). */
  free(): void {
    for (const frame of new Set([this.firstFrame, ...this.tables.values()])) {
      this.unit.frames.free(frame);
      this.unit.counts.contextTables--;
    }
  }

  private get twoLevel(): boolean {
    return this.format === S1FMT_64K_L2;
  }

  private allocate(bytes: number): number {
    const frame = this.unit.frames.allocate(Math.max(0, Math.log2(bytes / FRAME_BYTES)));
    this.unit.counts.contextTables++;
    return frame;
  }

  private placeOf(substream: number): { frame: number; offset: number } {
    const table = this.tables.get(this.twoLevel ? substream >>> SPLIT : 0)!;
    const byte = (this.twoLevel ? substream % 2 ** SPLIT : substream) * CD_BYTES;
    return { frame: table + Math.floor(byte / FRAME_BYTES), offset: byte % FRAME_BYTES };
  }

  private sync(substream: number, leaf: boolean): void {
    const batch = new CommandBatch();
    batch.invalidateContext(this.streamId, substream, leaf);
    this.unit.commands.submit(batch);
  }
}
