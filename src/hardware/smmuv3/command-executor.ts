/**
 * What commands do (IHI 0070, chapter 4), whichever queue they come from: the SMMU's own, or one in front of it. Effects
 * are complete when `execute` returns. One of them may lead to another command's execution: state of a command is in
 * its words only.
 */
import type { Tracer } from '../../trace/events.ts';
import { type AtcHolder, NO_SUBSTREAM, PRG_FAILURE, PRG_INVALID, PRG_SUCCESS } from '../iommu.ts';
import type { Configuration } from './configuration.ts';
import type { GlobalErrors } from './global-errors.ts';
import type { Interrupts } from './interrupts.ts';
import { ILLEGAL, type TlbInvalidation } from './invalidation.ts';
import { AT, type RegisterFile } from './register-file.ts';
import type { SmmuSettings } from './settings.ts';
import {
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
  COMMAND_LAYOUTS,
  CS_IRQ,
} from './spec/commands.ts';
import { frameAt, get, offsetAt } from './spec/field.ts';
import { REGISTERS, STALL_MODEL_TERMINATE } from './spec/registers.ts';
import type { Stalls } from './stalls.ts';

const CR0 = REGISTERS.CR0.fields;

/** PRG response by CMD_PRI_RESP.Resp; 0b11 is reserved. */
const RESPONSES = [PRG_FAILURE, PRG_INVALID, PRG_SUCCESS];

export class CommandExecutor {
  /** Who holds an ATC behind a stream. */
  readonly atcs: Map<number, AtcHolder>;
  private readonly name: string;
  private readonly registers: RegisterFile;
  private readonly settings: SmmuSettings;
  private readonly errors: GlobalErrors;
  private readonly interrupts: Interrupts;
  private readonly configuration: Configuration;
  private readonly tlb: TlbInvalidation;
  private readonly stalls: Stalls;
  private readonly tracer: Tracer;

  constructor(parts: {
    name: string;
    registers: RegisterFile;
    settings: SmmuSettings;
    errors: GlobalErrors;
    interrupts: Interrupts;
    configuration: Configuration;
    tlb: TlbInvalidation;
    stalls: Stalls;
    tracer: Tracer;
  }) {
    this.atcs = new Map();
    this.name = parts.name;
    this.registers = parts.registers;
    this.settings = parts.settings;
    this.errors = parts.errors;
    this.interrupts = parts.interrupts;
    this.configuration = parts.configuration;
    this.tlb = parts.tlb;
    this.stalls = parts.stalls;
    this.tracer = parts.tracer;
  }

  /** Carries out a command of COMMAND_WORDS words. Returns 0 or a CERROR code (7.1). */
  execute(command: Uint32Array): number {
    const opcode = get(command, 0, CMD.Opcode);
    const layout = COMMAND_LAYOUTS[opcode];
    if (layout === undefined) return CERROR_ILL;
    // A Secure stream named on the Non-secure queue (4.1.6).
    if (get(command, 0, CMD.SSec) === 1 && 'SSec' in layout.fields) return CERROR_ILL;
    switch (opcode) {
      case CMD_PREFETCH_CONFIG:
      case CMD_PREFETCH_ADDR:
        return 0;
      case CMD_CFGI_STE:
      case CMD_CFGI_STE_RANGE:
      case CMD_CFGI_CD:
      case CMD_CFGI_CD_ALL:
        return this.invalidateConfiguration(opcode, command);
      case CMD_ATC_INV:
        return this.invalidateAtc(command);
      case CMD_PRI_RESP:
        return this.respond(command);
      case CMD_RESUME:
      case CMD_STALL_TERM:
        return this.endStall(opcode, command);
      case CMD_SYNC:
        return this.synchronise(command);
      default:
        // EL2 invalidations are illegal with Hyp = 0.
        return this.invalidateTlb(opcode, command);
    }
  }

  private invalidateTlb(opcode: number, command: Uint32Array): number {
    const dropped = this.tlb.run(opcode, command);
    if (dropped === ILLEGAL) return CERROR_ILL;
    this.note('iotlb', get(command, 0, CMD.VMID), get(command, 0, CMD.ASID), dropped);
    return 0;
  }

  /** 4.3: an STE goes with every CD that was reached through it; a CD goes alone. */
  private invalidateConfiguration(opcode: number, command: Uint32Array): number {
    const { streams, contexts } = this.configuration;
    const stream = get(command, 0, CMD.StreamID);
    if (opcode === CMD_CFGI_CD || opcode === CMD_CFGI_CD_ALL) {
      if (!this.settings.s1p) return CERROR_ILL;
      const index = opcode === CMD_CFGI_CD ? get(command, 0, CMD.SubstreamID) : -1;
      this.note('config', -1, -1, contexts.invalidate(stream, stream, index));
      return 0;
    }
    const span = opcode === CMD_CFGI_STE ? 1 : 2 ** (get(command, 0, CMD.Range) + 1);
    const first = Math.floor(stream / span) * span;
    const last = first + span - 1;
    this.note('config', -1, -1, streams.invalidate(first, last, -1) + contexts.invalidate(first, last, -1));
    return 0;
  }

  private invalidateAtc(command: Uint32Array): number {
    if (!this.settings.ats) return CERROR_ILL;
    const size = get(command, 0, CMD.Size);
    if (size > 52) return CERROR_ILL;
    if (!this.enabled) return 0;
    const frame = Math.floor(frameAt(command, 0, CMD.Address) / 2 ** size) * 2 ** size;
    const substream = substreamOf(command);
    const global = substream >= 0 && get(command, 0, CMD.Global) === 1;
    this.atcs.get(get(command, 0, CMD.StreamID))?.invalidateAtc(substream, frame, size, global);
    return 0;
  }

  private respond(command: Uint32Array): number {
    const code = RESPONSES[get(command, 0, CMD.Resp)];
    if (!this.settings.pri || code === undefined) return CERROR_ILL;
    if (!this.enabled) return 0;
    const group = get(command, 0, CMD.PRGIndex);
    this.atcs.get(get(command, 0, CMD.StreamID))?.pageResponse(substreamOf(command), group, code);
    return 0;
  }

  /** 4.7.1, 4.7.2. CMD_RESUME.Abort is ignored with TERM_MODEL = 1: what is terminated aborts. */
  private endStall(opcode: number, command: Uint32Array): number {
    if (this.settings.stallModel === STALL_MODEL_TERMINATE) return CERROR_ILL;
    const stream = get(command, 0, CMD.StreamID);
    if (opcode === CMD_STALL_TERM) this.stalls.terminate(stream);
    else {
      const retry = get(command, 0, CMD.Action) === 1;
      const discard = !retry && this.settings.termModel === 0 && get(command, 0, CMD.Abort) === 0;
      this.stalls.resume(stream, get(command, 0, CMD.STAG), retry, discard);
    }
    return 0;
  }

  private synchronise(command: Uint32Array): number {
    const signal = get(command, 0, CMD.CS);
    if (signal === 0b11) return CERROR_ILL;
    if (signal !== CS_IRQ) return 0;
    const frame = frameAt(command, 0, CMD.MSIAddress);
    const offset = offsetAt(command, 0, CMD.MSIAddress);
    const abort = this.interrupts.syncComplete(frame, offset, get(command, 0, CMD.MSIData));
    if (abort !== 0) this.errors.activate(abort);
    return 0;
  }

  /** ATS and PRI are not operational while SMMUEN = 0 (6.3.9.6). */
  private get enabled(): boolean {
    return get(this.registers.words, AT.CR0, CR0.SMMUEN) === 1;
  }

  private note(cache: 'iotlb' | 'config', vmid: number, asid: number, count: number): void {
    if (!this.tracer.on) return;
    this.tracer.emit({ type: 'cache', owner: this.name, cache, action: 'invalidate', vmid, asid, frame: -1, count });
  }
}

const substreamOf = (command: Uint32Array): number =>
  get(command, 0, CMD.SSV) === 1 ? get(command, 0, CMD.SubstreamID) : NO_SUBSTREAM;
