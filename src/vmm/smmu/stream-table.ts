/** The guest's stream table, as the virtual SMMU reads it (IHI 0070, 5.2): linear, in guest RAM. */
import { AT, type RegisterFile } from '../../hardware/smmuv3/register-file.ts';
import { type Field, fieldBits, frameAt, get, offsetAt, put } from '../../hardware/smmuv3/spec/field.ts';
import { REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import { CONFIG_BYPASS, CONFIG_S1, EATS_ABORT, STE, STE_BYTES, STE_WORDS } from '../../hardware/smmuv3/spec/ste.ts';
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Faults } from '../faults.ts';

/** What the guest wants done with a stream: words of its STE for `translate`, two doublewords. */
export type Wish = { readonly kind: 'abort' | 'bypass' } | { readonly kind: 'translate'; readonly ste: Uint32Array };

const ABORT: Wish = { kind: 'abort' };
const BYPASS: Wish = { kind: 'bypass' };

/** What a host takes of a guest's STE (HWPT_ALLOC); everything else in it is the host's to set. */
const TAKEN: readonly Field[] = [
  STE.V,
  STE.Config,
  STE.S1Fmt,
  STE.S1ContextPtr,
  STE.S1CDMax,
  STE.S1DSS,
  STE.S1CIR,
  STE.S1COR,
  STE.S1CSH,
  STE.S1STALLD,
  STE.EATS,
];
const TAKEN_WORDS = 4;
const TAKEN_BITS = Uint32Array.from({ length: TAKEN_WORDS }, (_, word) =>
  fieldBits(Object.fromEntries(TAKEN.entries()), word),
);

export class VirtualStreamTable {
  private readonly registers: RegisterFile;
  private readonly memory: PhysicalMemory;
  private readonly ats: boolean;
  private readonly faults: Faults;

  constructor(registers: RegisterFile, memory: PhysicalMemory, ats: boolean, faults: Faults) {
    this.registers = registers;
    this.memory = memory;
    this.ats = ats;
    this.faults = faults;
  }

  /** Of a stream while the SMMU is enabled. Where there is no valid STE nothing passes. */
  wish(sid: number): Wish {
    const words = this.load(sid);
    if (!words || get(words, 0, STE.V) === 0) return ABORT;
    const config = get(words, 0, STE.Config);
    if (config === CONFIG_BYPASS) return BYPASS;
    return config === CONFIG_S1 ? { kind: 'translate', ste: this.taken(words) } : ABORT;
  }

  private load(sid: number): Uint32Array | null {
    const { words } = this.registers;
    const log2Size = get(words, AT.STRTAB_BASE_CFG, REGISTERS.STRTAB_BASE_CFG.fields.LOG2SIZE);
    if (sid >= 2 ** log2Size) return null;
    const ste = new Uint32Array(STE_WORDS);
    const at = this.base(2 ** log2Size * STE_BYTES) + sid * STE_BYTES;
    const frame = Math.floor(at / 4096);
    return this.memory.read(frame, at - frame * 4096, new Uint8Array(ste.buffer)) ? ste : null;
  }

  /** Aligned to the table's size, whatever was written (6.3.24). */
  private base(bytes: number): number {
    const { words } = this.registers;
    const field = REGISTERS.STRTAB_BASE.fields.ADDR;
    const written = frameAt(words, AT.STRTAB_BASE, field) * 4096 + offsetAt(words, AT.STRTAB_BASE, field);
    return this.faults.ignoreAlignment ? written : Math.floor(written / bytes) * bytes;
  }

  private taken(words: Uint32Array): Uint32Array {
    const ste = words.slice(0, TAKEN_WORDS);
    if (this.faults.shiftSteDword1) shiftLeft(ste, 2);
    for (let word = 0; word < TAKEN_WORDS; word++) ste[word]! &= TAKEN_BITS[word]!;
    if (!this.ats) put(ste, 0, STE.EATS, EATS_ABORT);
    return ste;
  }
}

/** One bit, in the doubleword at `word`. */
function shiftLeft(words: Uint32Array, word: number): void {
  words[word + 1] = (words[word + 1]! << 1) | (words[word]! >>> 31);
  words[word] = words[word]! << 1;
}
