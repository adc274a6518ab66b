/** The queues that the SMMU writes: event queue and PRI queue (IHI 0070, 3.5 and 7.4). Entries are words. */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { AT, type RegisterFile } from './register-file.ts';
import { frameAt, get, offsetAt, put } from './spec/field.ts';
import { REGISTERS } from './spec/registers.ts';

export const PUSHED = 0;
/** Written, and the queue was empty before. */
export const PUSHED_FIRST = 1;
export const QUEUE_FULL = 2;
/** The write met an external abort: PROD stays where it was (a synchronous abort, 7.2.2). */
export const QUEUE_ABORT = 3;

const BASE = REGISTERS.EVENTQ_BASE.fields;
const PROD = REGISTERS.EVENTQ_PROD.fields;
const CONS = REGISTERS.EVENTQ_CONS.fields;

export interface OutputQueueRegisters {
  readonly base: 'EVENTQ_BASE' | 'PRIQ_BASE';
  readonly prod: 'EVENTQ_PROD' | 'PRIQ_PROD';
  readonly cons: 'EVENTQ_CONS' | 'PRIQ_CONS';
}

export class OutputQueue {
  private readonly words: Uint32Array;
  private readonly memory: PhysicalMemory;
  private readonly base: number;
  private readonly prod: number;
  private readonly cons: number;
  private readonly maxLog2: number;

  constructor(registers: RegisterFile, memory: PhysicalMemory, names: OutputQueueRegisters, maxLog2: number) {
    this.words = registers.words;
    this.memory = memory;
    this.base = AT[names.base];
    this.prod = AT[names.prod];
    this.cons = AT[names.cons];
    this.maxLog2 = maxLog2;
  }

  get full(): boolean {
    const size = this.size;
    return ((this.words[this.prod]! ^ this.words[this.cons]!) & (2 * size - 1)) === size;
  }

  get overflowed(): boolean {
    return get(this.words, this.prod, PROD.OVFLG) !== get(this.words, this.cons, CONS.OVACKFLG);
  }

  /** Enters the overflow condition, unless it is present (7.4). */
  overflow(): void {
    if (!this.overflowed) put(this.words, this.prod, PROD.OVFLG, 1 - get(this.words, this.prod, PROD.OVFLG));
  }

  /** Appends an entry. The caller decides what full means. */
  push(entry: Uint32Array): number {
    if (this.full) return QUEUE_FULL;
    const size = this.size;
    const index = get(this.words, this.prod, PROD.WR) & (2 * size - 1);
    const first = index === (get(this.words, this.cons, CONS.RD) & (2 * size - 1));
    if (!this.store((index & (size - 1)) * entry.length * 4, entry)) return QUEUE_ABORT;
    put(this.words, this.prod, PROD.WR, (index + 1) & (2 * size - 1));
    return first ? PUSHED_FIRST : PUSHED;
  }

  private get size(): number {
    return 2 ** Math.min(get(this.words, this.base, BASE.LOG2SIZE), this.maxLog2);
  }

  private store(byte: number, entry: Uint32Array): boolean {
    // The base is aligned to the queue's size (6.3.26).
    const bytes = this.size * entry.length * 4;
    const frames = bytes / 4096;
    const baseFrame = frameAt(this.words, this.base, BASE.ADDR);
    const baseOffset = offsetAt(this.words, this.base, BASE.ADDR);
    const frame = frames > 1 ? Math.floor(baseFrame / frames) * frames : baseFrame;
    const start = (frames >= 1 ? 0 : baseOffset & ~(bytes - 1)) + byte;
    for (let word = 0; word < entry.length; word += 2) {
      const at = start + word * 4;
      if (!this.memory.store64(frame + (at >>> 12), at & 0xfff, entry[word]!, entry[word + 1]!)) return false;
    }
    return true;
  }
}
