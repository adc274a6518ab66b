/**
 * A Tegra241 CMDQV: command queues in front of an SMMUv3 that can be given to guests. Each queue belongs to a VINTF, and
 * runs while the CMDQV, the VINTF and the queue itself are enabled. Commands are consumed within the register write that
 * lets them be, like those of the SMMU's own queue; but of many the rest goes on the clock, so that nobody waits for a guest
 * that has filled a large queue.
 *
 * A register of a queue is one register, whether it is reached by the queue's global index or through the pages of its
 * VINTF. A guest reaches page 0 of its VINTF: where there is no queue of its own, writes are dropped.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { Clock } from '../clock.ts';
import type { InterruptLine, MmioDevice } from '../iommu.ts';
import type { CommandExecutor } from '../smmuv3/command-executor.ts';
import { CERROR_ABT, CERROR_NAMES, COMMAND_WORDS } from '../smmuv3/spec/commands.ts';
import { fieldBits, get, put } from '../smmuv3/spec/field.ts';
import { namedWords } from './named-words.ts';
import { type CmdqvSettings, paramRegister } from './settings.ts';
import {
  ABSENT_REGISTERS,
  CERROR_ILL_ACCESS,
  CONFIG_PAGE,
  CONFIG_REGISTERS,
  PAGE_BYTES,
  VCMDQ_BYTES,
  VCMDQ_PAGE0,
  VINTF_BYTES,
  VINTF_PAGES,
  VINTF_REGISTERS,
} from './spec/registers.ts';
import { Vcmdq, wordAt } from './vcmdq.ts';
import { failures, Vintf } from './vintf.ts';

const { CONFIG, CMDQ_ALLOC_MAP, VI_INT_MASK } = CONFIG_REGISTERS;
const ALLOC_MAP = CMDQ_ALLOC_MAP.fields;
const NAMES = namedWords(CONFIG_REGISTERS);
const ERROR_NAMES: Readonly<Record<number, string>> = { ...CERROR_NAMES, [CERROR_ILL_ACCESS]: 'CERROR_ILL_ACCESS' };

/** Commands that a queue consumes at once, about a millisecond of them. Hosts do not wait for the clock: theirs have no more. */
const TURN = 512;

export interface CmdqvParts {
  /** Of the SMMU, for traces. */
  readonly name: string;
  readonly memory: PhysicalMemory;
  readonly settings: CmdqvSettings;
  /** The SMMU's. */
  readonly executor: CommandExecutor;
  /** log2 of the most entries of a queue: the SMMU's IDR1.CMDQS. */
  readonly commandQueueLog2: number;
  readonly clock: Clock;
  readonly tracer: Tracer;
  /** Pulses when an error becomes active in a VINTF that is not masked. */
  readonly irq: InterruptLine;
}

export class Cmdqv implements MmioDevice {
  readonly name: string;
  readonly settings: CmdqvSettings;
  /** Accesses to registers that do not exist here, by offset; those of a queue by the offset that its first one has. */
  readonly unknownAccesses: Map<number, number>;
  private readonly executor: CommandExecutor;
  private readonly clock: Clock;
  private readonly tracer: Tracer;
  private readonly irq: InterruptLine;
  private readonly param: number;
  private readonly vintfs: readonly Vintf[];
  private readonly queues: readonly Vcmdq[];
  private readonly allocMap: Uint32Array;
  private readonly interruptMask: Uint32Array;
  private config: number;
  private readonly command: Uint32Array;
  private consuming: boolean;
  /** A register was written while commands were consumed: any queue may have become runnable. */
  private behind: boolean;
  /** Queues that have more to consume, by turns. */
  private readonly waiting: Set<Vcmdq>;
  private readonly turn: () => void;
  private scheduled: boolean;

  constructor(parts: CmdqvParts) {
    const { settings, memory } = parts;
    this.name = parts.name;
    this.settings = settings;
    this.executor = parts.executor;
    this.clock = parts.clock;
    this.tracer = parts.tracer;
    this.irq = parts.irq;
    this.unknownAccesses = new Map();
    this.param = paramRegister(settings);
    const sids = 2 ** settings.log2Sids;
    const queues = 2 ** settings.log2Vcmdqs;
    this.vintfs = Array.from({ length: 2 ** settings.log2Vintfs }, (_, n) => new Vintf(n, this, sids));
    this.queues = Array.from({ length: queues }, (_, n) => new Vcmdq(n, memory, parts.commandQueueLog2));
    this.allocMap = new Uint32Array(queues);
    this.interruptMask = new Uint32Array(VI_INT_MASK.words);
    this.config = CONFIG.reset;
    this.command = new Uint32Array(COMMAND_WORDS);
    this.consuming = false;
    this.behind = false;
    this.waiting = new Set();
    this.turn = () => this.takeTurn();
    this.scheduled = false;
  }

  get enabled(): boolean {
    return (this.config & CONFIG.fields.CMDQV_EN.mask) !== 0;
  }

  /** As after power-on. */
  reset(): void {
    this.config = CONFIG.reset;
    this.interruptMask.fill(0);
    this.release();
  }

  readRegister(offset: number, size: number): number {
    if (size !== 4) return this.unknown(offset, size);
    if (offset >= VCMDQ_PAGE0) {
      const at = queueWord(offset);
      return at < 0 ? this.unknown(offset, size) : (this.queueAt(offset)?.read(at) ?? 0);
    }
    const value = offset < VINTF_REGISTERS ? this.readConfig(offset) : this.readVintf(offset);
    return value < 0 ? this.unknown(offset, size) : value;
  }

  writeRegister(offset: number, size: number, value: number): void {
    if (size !== 4) this.unknown(offset, size);
    else if (offset >= VCMDQ_PAGE0) this.writeQueue(offset, value);
    else if (offset < VINTF_REGISTERS && this.readConfig(offset) >= 0) this.writeConfig(offset, value);
    else if (offset >= VINTF_REGISTERS && this.readVintf(offset) >= 0) this.writeVintf(offset, value);
    else this.unknown(offset, size);
  }

  /** The queue whose registers are at `offset`, if there is one. */
  private queueAt(offset: number): Vcmdq | undefined {
    const index = Math.floor((offset % PAGE_BYTES) / VCMDQ_BYTES);
    if (offset < VINTF_PAGES) return this.queues[index];
    return this.vintfs[Math.floor((offset - VINTF_PAGES) / (2 * PAGE_BYTES))]?.queues[index];
  }

  private writeQueue(offset: number, value: number): void {
    const at = queueWord(offset);
    const queue = this.queueAt(offset);
    if (at < 0) this.unknown(offset, 4);
    else if (queue !== undefined) {
      queue.write(at, value);
      this.consume(queue);
    }
  }

  private vintfAt(offset: number): Vintf | undefined {
    return this.vintfs[Math.floor((offset - VINTF_REGISTERS) / VINTF_BYTES)];
  }

  private readVintf(offset: number): number {
    return this.vintfAt(offset)?.read(offset % VINTF_BYTES) ?? -1;
  }

  private writeVintf(offset: number, value: number): void {
    const vintf = this.vintfAt(offset)!;
    vintf.write(offset % VINTF_BYTES, value);
    for (const queue of vintf.queues) this.consume(queue);
  }

  /** Value of a register of the CONFIG page that is no VINTF's, or -1 where there is none. */
  private readConfig(offset: number): number {
    const name = NAMES[offset / 4];
    if (name === undefined) return -1;
    const n = (offset - CONFIG_REGISTERS[name].offset) / 4;
    switch (name) {
      case 'CONFIG':
        return this.config;
      case 'PARAM':
        return this.param;
      case 'STATUS':
        return Number(this.enabled);
      case 'VI_ERR_MAP':
        return failures(this.vintfs, n);
      case 'VI_INT_MASK':
        return this.interruptMask[n]!;
      case 'CMDQ_ERR_MAP':
        return failures(this.queues, n);
      case 'CMDQ_ALLOC_MAP':
        return this.allocMap[n] ?? -1;
    }
  }

  private writeConfig(offset: number, value: number): void {
    const name = NAMES[offset / 4]!;
    const n = (offset - CONFIG_REGISTERS[name].offset) / 4;
    const sanitised = (value & fieldBits(CONFIG_REGISTERS[name].fields, 0)) >>> 0;
    if (name === 'CONFIG') this.configure(sanitised);
    else if (name === 'VI_INT_MASK') this.mask(n, sanitised);
    else if (name === 'CMDQ_ALLOC_MAP') this.allocate(n, sanitised);
  }

  private configure(value: number): void {
    const was = this.enabled;
    this.config = value;
    if (was && !this.enabled) this.release();
    for (const queue of this.queues) this.consume(queue);
  }

  /** Disabling the CMDQV takes every queue away from its VINTF and resets both. */
  private release(): void {
    this.allocMap.fill(0);
    for (const vintf of this.vintfs) vintf.reset();
    for (const queue of this.queues) queue.reset();
    this.waiting.clear();
  }

  /** What is active when its mask goes is announced then. */
  private mask(word: number, value: number): void {
    const unmasked = this.interruptMask[word]! & ~value;
    this.interruptMask[word] = value;
    if ((unmasked & failures(this.vintfs, word)) !== 0) this.clock.defer(this.irq);
  }

  /**
   * Gives a queue to a VINTF, or takes it away. A VINTF has its queues in ascending order of their logical indices and
   * loses them in descending order: anything else is refused, and ALLOC reads as before. Whose a queue is stays while
   * it is somebody's.
   */
  private allocate(index: number, value: number): void {
    const { allocMap } = this;
    const queue = this.queues[index]!;
    const wanted = (value & ALLOC_MAP.ALLOC.mask) !== 0;
    if (queue.vintf !== null && wanted) return;
    if (queue.vintf !== null) {
      if (queue.vintf.giveBack(queue)) allocMap[index] = value;
      else this.note(`VCMDQ${index} stays with VINTF${queue.vintf.index}: it is not its last`);
      return;
    }
    allocMap[index] = value;
    if (!wanted) return;
    const vintf = get(allocMap, index, ALLOC_MAP.VIRT_INTF_INDX);
    const lvcmdq = get(allocMap, index, ALLOC_MAP.LVCMDQ);
    if (this.vintfs[vintf]?.take(queue, lvcmdq)) {
      this.consume(queue);
    } else {
      put(allocMap, index, ALLOC_MAP.ALLOC, 0);
      this.note(`VCMDQ${index} is not given to VINTF${vintf} as LVCMDQ${lvcmdq}: that is not its next`);
    }
  }

  /** Consumes what is there, until the queue is empty, disabled, or a command is in error, or it is the next one's turn. */
  private consume(queue: Vcmdq): void {
    if (this.consuming) {
      this.behind = true;
      return;
    }
    if (!queue.runnable) return;
    this.consuming = true;
    try {
      this.run(queue);
      while (this.behind) this.catchUp();
    } finally {
      this.consuming = false;
    }
  }

  private catchUp(): void {
    this.behind = false;
    for (const queue of this.queues) this.run(queue);
  }

  private run(queue: Vcmdq): void {
    for (let left = TURN; left > 0 && queue.runnable; left--) this.step(queue);
    if (!queue.runnable) return;
    this.waiting.add(queue);
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.clock.defer(this.turn);
  }

  private takeTurn(): void {
    this.scheduled = false;
    const [queue] = this.waiting;
    if (!queue) return;
    this.waiting.delete(queue);
    this.consume(queue);
    if (this.waiting.size > 0) this.schedule();
  }

  private step(queue: Vcmdq): void {
    const vintf = queue.vintf!;
    const error = this.execute(queue, vintf);
    if (this.tracer.on) this.trace(queue, vintf, error);
    if (error === 0) {
      queue.ring.advance();
      return;
    }
    queue.stop(error);
    if ((this.interruptMask[vintf.index >>> 5]! & (1 << (vintf.index & 31))) === 0) this.clock.defer(this.irq);
  }

  /** Returns 0 or why the command is refused. */
  private execute(queue: Vcmdq, vintf: Vintf): number {
    if (!queue.ring.fetch(this.command)) return CERROR_ABT;
    const refusal = vintf.admit(this.command);
    return refusal === 0 ? this.executor.execute(this.command) : refusal;
  }

  private trace(queue: Vcmdq, vintf: Vintf, error: number): void {
    this.tracer.emit({
      type: 'command',
      iommu: this.name,
      queue: `VINTF${vintf.index}/LVCMDQ${vintf.queues.indexOf(queue)}`,
      architecture: 'smmuv3',
      words: [...this.command],
      error: ERROR_NAMES[error] ?? '',
    });
  }

  /** Reads as zero. A queue's registers count as those of the first one of the page, lest a guest fill the map. */
  private unknown(offset: number, size: number): number {
    const page = offset - (offset % PAGE_BYTES);
    const place = page === CONFIG_PAGE ? offset : page + (offset % VCMDQ_BYTES);
    const seen = this.unknownAccesses.get(place) ?? 0;
    this.unknownAccesses.set(place, seen + 1);
    if (seen === 0) {
      const name = ABSENT_REGISTERS[offset] ?? 'no register';
      this.note(
        `CMDQV: access of ${size} bytes at offset 0x${offset.toString(16)} (${name}): reads as zero, writes are ignored`,
      );
    }
    return 0;
  }

  private note(text: string): void {
    if (this.tracer.on) this.tracer.emit({ type: 'note', from: this.name, text });
  }
}

/** Index of the register at `offset` among the words of its queue, or -1. Pages 0 and 1 take turns, from VCMDQ_PAGE0 on. */
const queueWord = (offset: number): number => wordAt((Math.floor(offset / PAGE_BYTES) + 1) & 1, offset % VCMDQ_BYTES);
