/**
 * Updates of a stream table entry, or of a context descriptor, in place while the SMMU may read it. Hardware promises 64-bit atomicity and ignores
 * fields that a configuration does not use (3.21.3), so a change whose used bits lie in one doubleword needs no window
 * in which the entry is invalid: set what nobody looks at yet, then that doubleword, then tidy up. Only a change in two
 * or more has to go through V = 0, and V is written last.
 */
import { FRAME_BYTES, type PhysicalMemory } from '../../memory/physical-memory.ts';
import { STE_ANY_TIME, usedBitsOfSte } from './ste.ts';

const DOUBLEWORDS = 8;

/** What hardware looks at in an entry of one kind. */
export interface EntryRules {
  /** Mask of the bits that mean something in an entry, 16 words. */
  usedBits(entry: Uint32Array): Uint32Array;
  /** Bits that may change at any moment. */
  readonly anyTime: Uint32Array;
}

const STE_RULES: EntryRules = { usedBits: usedBitsOfSte, anyTime: STE_ANY_TIME };

export class EntryWriter {
  private readonly memory: PhysicalMemory;
  private readonly frame: number;
  private readonly offset: number;
  private readonly sync: () => void;
  private readonly rules: EntryRules;
  private readonly now: Uint32Array;

  /** @param sync makes the SMMU forget what it cached of the entry, and returns when it has */
  constructor(memory: PhysicalMemory, address: number, sync: () => void, rules: EntryRules = STE_RULES) {
    this.memory = memory;
    this.frame = Math.floor(address / FRAME_BYTES);
    this.offset = address % FRAME_BYTES;
    this.sync = sync;
    this.rules = rules;
    this.now = this.load();
  }

  write(target: Uint32Array): void {
    const staged = this.staged(target);
    const used = this.rules.usedBits(target);
    const critical: number[] = [];
    for (let i = 0; i < DOUBLEWORDS; i++) if (differs(staged, target, used, i)) critical.push(i);
    if (critical.length === 1) {
      const [at] = critical as [number];
      this.store(staged, (i) => i !== at);
      this.store(target, (i) => i === at);
      this.store(target, () => true);
    } else if (critical.length > 1) {
      this.store(new Uint32Array(2), (i) => i === 0);
      this.store(target, (i) => i !== 0);
      this.store(target, (i) => i === 0);
    } else {
      this.store(target, () => true);
    }
  }

  /** `target` where the present entry does not look, the present entry elsewhere. */
  private staged(target: Uint32Array): Uint32Array {
    const nowUsed = this.rules.usedBits(this.now);
    const targetUsed = this.rules.usedBits(target);
    const { anyTime } = this.rules;
    return target.map((word, i) => {
      const keep = nowUsed[i]! & ~(anyTime[i]! & targetUsed[i]!);
      return (this.now[i]! & keep) | (word & ~keep);
    });
  }

  /** Stores the doublewords of `entry` that are chosen and differ; syncs if there was any. */
  private store(entry: Uint32Array, chosen: (doubleword: number) => boolean): void {
    let changed = false;
    for (let i = 0; i < DOUBLEWORDS; i++) {
      const [lo, hi] = [entry[2 * i]!, entry[2 * i + 1]!];
      if (!chosen(i) || (this.now[2 * i] === lo && this.now[2 * i + 1] === hi)) continue;
      this.memory.store64(this.frame, this.offset + 8 * i, lo, hi);
      this.now[2 * i] = lo;
      this.now[2 * i + 1] = hi;
      changed = true;
    }
    if (changed) this.sync();
  }

  private load(): Uint32Array {
    const words = new Uint32Array(2 * DOUBLEWORDS);
    for (let i = 0; i < DOUBLEWORDS; i++) {
      this.memory.load64(this.frame, this.offset + 8 * i);
      words[2 * i] = this.memory.lo;
      words[2 * i + 1] = this.memory.hi;
    }
    return words;
  }
}

const differs = (staged: Uint32Array, target: Uint32Array, used: Uint32Array, i: number): boolean =>
  ((staged[2 * i]! ^ target[2 * i]!) & used[2 * i]!) !== 0 ||
  ((staged[2 * i + 1]! ^ target[2 * i + 1]!) & used[2 * i + 1]!) !== 0;
