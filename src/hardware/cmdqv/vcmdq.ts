/** A virtual command queue: its registers, of both pages, and how it consumes. The queue's memory is read by physical address. */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { CommandRing } from '../smmuv3/command-ring.ts';
import { fieldBits, get, put } from '../smmuv3/spec/field.ts';
import { namedWords } from './named-words.ts';
import { PAGE0, PAGE1, type RegisterSpec } from './spec/registers.ts';
import type { Vintf } from './vintf.ts';

/** Where a register stands among the words of a queue: by its offset, page 1 behind page 0. */
const PAGE_WORDS = 8;
const AT = {
  CONS: PAGE0.CONS_INDX.offset / 4,
  PROD: PAGE0.PROD_INDX.offset / 4,
  CONFIG: PAGE0.CONFIG.offset / 4,
  STATUS: PAGE0.STATUS.offset / 4,
  GERROR: PAGE0.GERROR.offset / 4,
  GERRORN: PAGE0.GERRORN.offset / 4,
  BASE: PAGE_WORDS + PAGE1.BASE.offset / 4,
} as const;

const { CMDQ_EN } = PAGE0.CONFIG.fields;
const { CMDQ_ERR } = PAGE0.GERROR.fields;

const PRESENT = [namedWords(PAGE0), namedWords(PAGE1)];
const WRITABLE = new Uint32Array(2 * PAGE_WORDS);
for (const [page, registers] of [PAGE0, PAGE1].entries()) {
  for (const { offset, words, access, fields } of Object.values<RegisterSpec>(registers)) {
    for (let word = 0; access === 'RW' && word < words; word++) {
      WRITABLE[page * PAGE_WORDS + offset / 4 + word] = fieldBits(fields, word);
    }
  }
}

/** Index of a register among the words of a queue, or -1. `offset` is a multiple of 4, from the queue's part of the page. */
export const wordAt = (page: number, offset: number): number =>
  PRESENT[page]![offset / 4] === undefined ? -1 : page * PAGE_WORDS + offset / 4;

export class Vcmdq {
  readonly index: number;
  /** Whose it is (CMDQ_ALLOC_MAP); null: nobody's. */
  vintf: Vintf | null;
  readonly ring: CommandRing;
  private readonly words: Uint32Array;

  constructor(index: number, memory: PhysicalMemory, log2Most: number) {
    this.index = index;
    this.vintf = null;
    this.words = new Uint32Array(2 * PAGE_WORDS);
    this.ring = new CommandRing(memory, this.words, AT, log2Most);
  }

  reset(): void {
    this.vintf = null;
    this.words.fill(0);
  }

  /** Consumes: STATUS.CMDQ_EN_OK. */
  get enabled(): boolean {
    return this.vintf?.enabled === true && this.switchedOn;
  }

  /** An error is active while GERROR and GERRORN differ (as 7.5 of IHI 0070). */
  get failing(): boolean {
    return this.words[AT.GERROR] !== this.words[AT.GERRORN];
  }

  get runnable(): boolean {
    return !this.failing && this.enabled && !this.ring.empty;
  }

  read(at: number): number {
    return at === AT.STATUS ? Number(this.enabled) : this.words[at]!;
  }

  /** As with the SMMU's queue, what says where the queue lies is read-only while it is switched on. */
  write(at: number, value: number): void {
    if (this.switchedOn && (at === AT.CONS || at >= PAGE_WORDS)) return;
    const mask = WRITABLE[at]!;
    this.words[at] = (value & mask) | (this.words[at]! & ~mask);
  }

  /** Stops at the command that CONS names. */
  stop(error: number): void {
    this.ring.stop(error);
    put(this.words, AT.GERROR, CMDQ_ERR, 1 - get(this.words, AT.GERRORN, CMDQ_ERR));
  }

  private get switchedOn(): boolean {
    return get(this.words, AT.CONFIG, CMDQ_EN) === 1;
  }
}
