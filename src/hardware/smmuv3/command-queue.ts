/**
 * The command queue (IHI 0070, chapter 4 and 7.1). Commands are consumed in order within the register write that lets
 * them be: PROD moves, CR0.CMDQEN is set, or GERRORN acknowledges an error. So a CMD_SYNC has nothing to wait for.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import { type AtcHolder, NO_SUBSTREAM, PRG_FAILURE, PRG_INVALID, PRG_SUCCESS } from '../iommu.ts';
import type { Configuration } from './configuration.ts';
import type { GlobalErrors } from './global-errors.ts';
import type { Interrupts } from './interrupts.ts';
import { ILLEGAL, type TlbInvalidation } from './invalidation.ts';
import { AT, type RegisterFile } from './register-file.ts';
import type { SmmuSettings } from './settings.ts';
import {
  CERROR_ABT,
  CERROR_ILL,
  CMD,
  CMD_ATC_INV,
  CMD_CFGI_CD,
  CMD_CFGI_CD_ALL,
  CMD_CFGI_STE,
  CMD_CFGI_STE_RANGE,
  CMD_PREFETCH_ADDR,
  CMD_PREFETCH_CONFIG,
  CMD_PRI_RESP,
  CMD_RESUME,
  CMD_STALL_TERM,
  CMD_SYNC,
  COMMAND_BYTES,
  COMMAND_LAYOUTS,
  COMMAND_WORDS,
  CS_IRQ,
} from './spec/commands.ts';
import { frameAt, get, offsetAt, put } from './spec/field.ts';
import { CMDQ_ERR, REGISTERS, STALL_MODEL_TERMINATE } from './spec/registers.ts';
import type { Stalls } from './stalls.ts';

const BASE = REGISTERS.CMDQ_BASE.fields;
const CONS = REGISTERS.CMDQ_CONS.fields;
const CR0 = REGISTERS.CR0.fields;
const CERROR_NAMES: Readonly<Record<number, string>> = { [CERROR_ILL]: 'CERROR_ILL', [CERROR_ABT]: 'CERROR_ABT' };

/** PRG response by CMD_PRI_RESP.Resp; 0b11 is reserved. */
const RESPONSES = [PRG_FAILURE, PRG_INVALID, PRG_SUCCESS];

export class CommandQueue {
  /** Who holds an ATC behind a stream. */
  readonly atcs: Map<number, AtcHolder>;
  private readonly name: string;
  private readonly registers: RegisterFile;
  private readonly memory: PhysicalMemory;
  private readonly settings: SmmuSettings;
  private readonly errors: GlobalErrors;
  private readonly interrupts: Interrupts;
  private readonly configuration: Configuration;
  private readonly tlb: TlbInvalidation;
  private readonly stalls: Stalls;
  private readonly tracer: Tracer;
  private readonly command: Uint32Array;
  private consuming: boolean;

  constructor(parts: {
    name: string;
    registers: RegisterFile;
    memory: PhysicalMemory;
    settings: SmmuSettings;
    errors: GlobalErrors;
    interrupts: Interrupts;
    configuration: Configuration;
    tlb: TlbInvalidation;
    stalls: Stalls;
    tracer: Tracer;
  }) {
    this.name = parts.name;
    this.registers = parts.registers;
    this.memory = parts.memory;
    this.settings = parts.settings;
    this.errors = parts.errors;
    this.interrupts = parts.interrupts;
    this.configuration = parts.configuration;
    this.tlb = parts.tlb;
    this.stalls = parts.stalls;
    this.tracer = parts.tracer;
    this.atcs = new Map();
    this.command = new Uint32Array(COMMAND_WORDS);
    this.consuming = false;
  }

  /** Consumes what is there, until the queue is empty, disabled, or a command is in error. */
  consume(): void {
    // A command's effect on a device may come back as a register write; the loop below sees what it queued.
    if (this.consuming) return;
    this.consuming = true;
    try {
      while (this.runnable()) this.step();
    } finally {
      this.consuming = false;
    }
  }

  private runnable(): boolean {
    const words = this.registers.words;
    if (get(words, AT.CR0, CR0.CMDQEN) === 0 || this.errors.active(CMDQ_ERR)) return false;
    return ((words[AT.CMDQ_PROD]! ^ words[AT.CMDQ_CONS]!) & this.indexMask) !== 0;
  }

  /** Bits of an index, wrap included. */
  private get indexMask(): number {
    return (2 << Math.min(get(this.registers.words, AT.CMDQ_BASE, BASE.LOG2SIZE), this.settings.cmdqs)) - 1;
  }

  private step(): void {
    const words = this.registers.words;
    const mask = this.indexMask;
    const index = get(words, AT.CMDQ_CONS, CONS.RD) & mask;
    const error = this.fetch(index & (mask >>> 1), (mask + 1) / 2) ? this.execute() : CERROR_ABT;
    if (this.tracer.on) {
      const error_ = CERROR_NAMES[error] ?? '';
      this.tracer.emit({
        type: 'command',
        iommu: this.name,
        architecture: 'smmuv3',
        words: [...this.command],
        error: error_,
      });
    }
    if (error === 0) {
      put(words, AT.CMDQ_CONS, CONS.RD, (index + 1) & mask);
    } else {
      put(words, AT.CMDQ_CONS, CONS.ERR, error);
      this.errors.activate(CMDQ_ERR);
    }
  }

  private fetch(index: number, size: number): boolean {
    const words = this.registers.words;
    const bytes = size * COMMAND_BYTES;
    const address = frameAt(words, AT.CMDQ_BASE, BASE.ADDR) * 4096 + offsetAt(words, AT.CMDQ_BASE, BASE.ADDR);
    // The base is aligned to the queue's size (6.3.26).
    const at = Math.floor(address / bytes) * bytes + index * COMMAND_BYTES;
    const frame = Math.floor(at / 4096);
    for (let word = 0; word < COMMAND_WORDS; word += 2) {
      if (!this.memory.load64(frame, at - frame * 4096 + word * 4)) return false;
      this.command[word] = this.memory.lo;
      this.command[word + 1] = this.memory.hi;
    }
    return true;
  }

  /** Returns 0 or a CERROR code. */
  private execute(): number {
    const command = this.command;
    const opcode = get(command, 0, CMD.Opcode);
    const layout = COMMAND_LAYOUTS[opcode];
    if (layout === undefined) return CERROR_ILL;
    // A Secure stream named on the Non-secure queue (4.1.6).
    if ('SSec' in layout.fields && get(command, 0, CMD.SSec) === 1) return CERROR_ILL;
    switch (opcode) {
      case CMD_PREFETCH_CONFIG:
      case CMD_PREFETCH_ADDR:
        return 0;
      case CMD_CFGI_STE:
      case CMD_CFGI_STE_RANGE:
      case CMD_CFGI_CD:
      case CMD_CFGI_CD_ALL:
        return this.invalidateConfiguration(opcode);
      case CMD_ATC_INV:
        return this.invalidateAtc();
      case CMD_PRI_RESP:
        return this.respond();
      case CMD_RESUME:
      case CMD_STALL_TERM:
        return this.endStall(opcode);
      case CMD_SYNC:
        return this.synchronise();
      default:
        // EL2 invalidations are illegal with Hyp = 0.
        return this.invalidateTlb(opcode);
    }
  }

  private invalidateTlb(opcode: number): number {
    const dropped = this.tlb.run(opcode, this.command);
    if (dropped === ILLEGAL) return CERROR_ILL;
    this.note('iotlb', get(this.command, 0, CMD.VMID), get(this.command, 0, CMD.ASID), dropped);
    return 0;
  }

  /** 4.3: an STE goes with every CD that was reached through it; a CD goes alone. */
  private invalidateConfiguration(opcode: number): number {
    const { streams, contexts } = this.configuration;
    const stream = get(this.command, 0, CMD.StreamID);
    if (opcode === CMD_CFGI_CD || opcode === CMD_CFGI_CD_ALL) {
      if (!this.settings.s1p) return CERROR_ILL;
      const index = opcode === CMD_CFGI_CD ? get(this.command, 0, CMD.SubstreamID) : -1;
      this.note('config', -1, -1, contexts.invalidate(stream, stream, index));
      return 0;
    }
    const span = opcode === CMD_CFGI_STE ? 1 : 2 ** (get(this.command, 0, CMD.Range) + 1);
    const first = Math.floor(stream / span) * span;
    const last = first + span - 1;
    this.note('config', -1, -1, streams.invalidate(first, last, -1) + contexts.invalidate(first, last, -1));
    return 0;
  }

  private invalidateAtc(): number {
    if (!this.settings.ats) return CERROR_ILL;
    const command = this.command;
    const size = get(command, 0, CMD.Size);
    if (size > 52) return CERROR_ILL;
    if (!this.enabled) return 0;
    const frame = Math.floor(frameAt(command, 0, CMD.Address) / 2 ** size) * 2 ** size;
    const global = this.substream >= 0 && get(command, 0, CMD.Global) === 1;
    this.atcs.get(get(command, 0, CMD.StreamID))?.invalidateAtc(this.substream, frame, size, global);
    return 0;
  }

  private respond(): number {
    const command = this.command;
    const code = RESPONSES[get(command, 0, CMD.Resp)];
    if (!this.settings.pri || code === undefined) return CERROR_ILL;
    if (!this.enabled) return 0;
    const group = get(command, 0, CMD.PRGIndex);
    this.atcs.get(get(command, 0, CMD.StreamID))?.pageResponse(this.substream, group, code);
    return 0;
  }

  /** 4.7.1, 4.7.2. CMD_RESUME.Abort is ignored with TERM_MODEL = 1: what is terminated aborts. */
  private endStall(opcode: number): number {
    if (this.settings.stallModel === STALL_MODEL_TERMINATE) return CERROR_ILL;
    const stream = get(this.command, 0, CMD.StreamID);
    if (opcode === CMD_STALL_TERM) this.stalls.terminate(stream);
    else {
      const retry = get(this.command, 0, CMD.Action) === 1;
      const discard = !retry && this.settings.termModel === 0 && get(this.command, 0, CMD.Abort) === 0;
      this.stalls.resume(stream, get(this.command, 0, CMD.STAG), retry, discard);
    }
    return 0;
  }

  private synchronise(): number {
    const signal = get(this.command, 0, CMD.CS);
    if (signal === 0b11) return CERROR_ILL;
    if (signal !== CS_IRQ) return 0;
    const frame = frameAt(this.command, 0, CMD.MSIAddress);
    const offset = offsetAt(this.command, 0, CMD.MSIAddress);
    const abort = this.interrupts.syncComplete(frame, offset, get(this.command, 0, CMD.MSIData));
    if (abort !== 0) this.errors.activate(abort);
    return 0;
  }

  /** ATS and PRI are not operational while SMMUEN = 0 (6.3.9.6). */
  private get enabled(): boolean {
    return get(this.registers.words, AT.CR0, CR0.SMMUEN) === 1;
  }

  private get substream(): number {
    return get(this.command, 0, CMD.SSV) === 1 ? get(this.command, 0, CMD.SubstreamID) : NO_SUBSTREAM;
  }

  private note(cache: 'iotlb' | 'config', vmid: number, asid: number, count: number): void {
    if (!this.tracer.on) return;
    this.tracer.emit({ type: 'cache', owner: this.name, cache, action: 'invalidate', vmid, asid, frame: -1, count });
  }
}
