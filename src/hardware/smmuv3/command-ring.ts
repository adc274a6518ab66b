/** A ring of commands in memory (IHI 0070, 3.5, 7.1) as software sees it: its BASE, PROD and CONS registers. */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { COMMAND_BYTES, COMMAND_WORDS } from './spec/commands.ts';
import { get, put } from './spec/field.ts';
import { REGISTERS } from './spec/registers.ts';

const BASE = REGISTERS.CMDQ_BASE.fields;
const CONS = REGISTERS.CMDQ_CONS.fields;
const ADDRESS_LOW = BASE.ADDR.mask << BASE.ADDR.shift;

/** Where the registers stand in the words that hold them. */
export interface RingRegisters {
  readonly BASE: number;
  readonly PROD: number;
  readonly CONS: number;
}

export class CommandRing {
  private readonly memory: PhysicalMemory;
  private readonly words: Uint32Array;
  private readonly at: RingRegisters;
  private readonly log2Most: number;

  /** @param log2Most log2 of the most entries, whatever BASE says */
  constructor(memory: PhysicalMemory, words: Uint32Array, at: RingRegisters, log2Most: number) {
    this.memory = memory;
    this.words = words;
    this.at = at;
    this.log2Most = log2Most;
  }

  get empty(): boolean {
    return ((this.words[this.at.PROD]! ^ this.words[this.at.CONS]!) & this.indexMask) === 0;
  }

  /** Loads the command that CONS names, COMMAND_WORDS words; false is an external abort. */
  fetch(into: Uint32Array): boolean {
    const { words, at, memory } = this;
    const mask = this.indexMask;
    const bytes = ((mask + 1) >>> 1) * COMMAND_BYTES;
    const place = (get(words, at.CONS, CONS.RD) & (mask >>> 1)) * COMMAND_BYTES;
    // The base is aligned to the queue's size (6.3.26), 8 MiB at most: that is a matter of its low word.
    const low = (words[at.BASE]! & ADDRESS_LOW & -bytes) | place;
    const frame = ((words[at.BASE + 1]! & BASE.ADDR.highMask) >>> 0) * 2 ** 20 + (low >>> 12);
    for (let word = 0; word < COMMAND_WORDS; word += 2) {
      if (!memory.load64(frame, (low & 0xfff) + word * 4)) return false;
      into[word] = memory.lo;
      into[word + 1] = memory.hi;
    }
    return true;
  }

  /** The command has been carried out. */
  advance(): void {
    put(this.words, this.at.CONS, CONS.RD, (get(this.words, this.at.CONS, CONS.RD) + 1) & this.indexMask);
  }

  /** The command is in error: CONS stays, and says which. */
  stop(error: number): void {
    put(this.words, this.at.CONS, CONS.ERR, error);
  }

  /** Bits of an index, wrap included. */
  private get indexMask(): number {
    return (2 << Math.min(get(this.words, this.at.BASE, BASE.LOG2SIZE), this.log2Most)) - 1;
  }
}
