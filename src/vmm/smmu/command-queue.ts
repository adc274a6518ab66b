/**
 * The guest's command queue: what a virtual SMMU does itself, what it passes on to the host, and what it refuses
 * (IHI 0070, chapter 4). Commands for the host are passed on in batches, in their order; a CMD_SYNC ends a batch.
 */
import type { GlobalErrors } from '../../hardware/smmuv3/global-errors.ts';
import type { Interrupts } from '../../hardware/smmuv3/interrupts.ts';
import { AT, type RegisterFile } from '../../hardware/smmuv3/register-file.ts';
import type { SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import * as spec from '../../hardware/smmuv3/spec/commands.ts';
import {
  CERROR_ABT,
  CERROR_ILL,
  CMD,
  COMMAND_BYTES,
  COMMAND_LAYOUTS,
  COMMAND_WORDS,
  CS_IRQ,
} from '../../hardware/smmuv3/spec/commands.ts';
import { frameAt, get, offsetAt, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { CMDQ_ERR, REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Faults } from '../faults.ts';

/** Who carries out what the queue does not. */
export interface CommandPort {
  /** A device of the guest is at `sid`. */
  knows(sid: number): boolean;
  /** It is behind a stage 1 of the guest's. */
  translates(sid: number): boolean;
  /** The STEs of [first, last] may have changed. */
  configure(first: number, last: number): void;
  /** Has the host carry out commands. @returns how many it did */
  invalidate(commands: readonly Uint32Array[]): number;
}

interface Parts {
  readonly registers: RegisterFile;
  readonly memory: PhysicalMemory;
  readonly settings: SmmuSettings;
  readonly errors: GlobalErrors;
  readonly interrupts: Interrupts;
  readonly port: CommandPort;
  readonly faults: Faults;
}

const BASE = REGISTERS.CMDQ_BASE.fields;
const CONS = REGISTERS.CMDQ_CONS.fields;
const { CMDQEN, SMMUEN } = REGISTERS.CR0.fields;
const RESERVED_SIGNAL = 0b11;

export class VirtualCommandQueue {
  private readonly parts: Parts;
  /** Not yet passed on, with the index of each in the queue. */
  private batch: { readonly words: Uint32Array; readonly index: number }[];
  private consuming: boolean;

  constructor(parts: Parts) {
    this.parts = parts;
    this.batch = [];
    this.consuming = false;
  }

  /** Consumes what is there, until the queue is empty, disabled, or a command is in error. */
  consume(): void {
    if (this.consuming) return;
    this.consuming = true;
    try {
      while (this.runnable()) this.step();
      this.flush();
    } finally {
      this.consuming = false;
      this.batch = [];
    }
  }

  private runnable(): boolean {
    const { registers, errors } = this.parts;
    if (get(registers.words, AT.CR0, CMDQEN) === 0 || errors.active(CMDQ_ERR)) return false;
    return ((registers.words[AT.CMDQ_PROD]! ^ registers.words[AT.CMDQ_CONS]!) & this.indexMask) !== 0;
  }

  private step(): void {
    const index = get(this.parts.registers.words, AT.CMDQ_CONS, CONS.RD) & this.indexMask;
    const words = this.fetch(index);
    const error = words ? this.execute(words, index) : CERROR_ABT;
    if (error === 0) this.advance(index);
    // The host may refuse one that came earlier: its error is the first.
    else if (this.flush()) this.stop(index, error);
  }

  private get indexMask(): number {
    const { registers, settings } = this.parts;
    return (2 << Math.min(get(registers.words, AT.CMDQ_BASE, BASE.LOG2SIZE), settings.cmdqs)) - 1;
  }

  private advance(index: number): void {
    const { words } = this.parts.registers;
    if (!this.parts.errors.active(CMDQ_ERR)) put(words, AT.CMDQ_CONS, CONS.RD, (index + 1) & this.indexMask);
  }

  private stop(index: number, error: number): void {
    const { registers, errors } = this.parts;
    put(registers.words, AT.CMDQ_CONS, CONS.RD, index);
    put(registers.words, AT.CMDQ_CONS, CONS.ERR, error);
    errors.activate(CMDQ_ERR);
  }

  private fetch(index: number): Uint32Array | null {
    const { registers, memory, faults } = this.parts;
    const bytes = ((this.indexMask + 1) / 2) * COMMAND_BYTES;
    const written =
      frameAt(registers.words, AT.CMDQ_BASE, BASE.ADDR) * 4096 + offsetAt(registers.words, AT.CMDQ_BASE, BASE.ADDR);
    // The base is aligned to the queue's size (6.3.26).
    const base = faults.ignoreAlignment ? written : Math.floor(written / bytes) * bytes;
    const at = base + (index & (this.indexMask >>> 1)) * COMMAND_BYTES;
    const frame = Math.floor(at / 4096);
    const words = new Uint32Array(COMMAND_WORDS);
    return memory.read(frame, at - frame * 4096, new Uint8Array(words.buffer)) ? words : null;
  }

  /** @returns 0 or a CERROR code */
  private execute(words: Uint32Array, index: number): number {
    const { faults, settings } = this.parts;
    const opcode = get(words, 0, CMD.Opcode);
    const layout = COMMAND_LAYOUTS[opcode];
    if (!layout) return faults.ignoreUnknownCommands ? 0 : CERROR_ILL;
    if ('SSec' in layout.fields && get(words, 0, CMD.SSec) === 1 && !faults.acceptSecureStreams) return CERROR_ILL;
    switch (opcode) {
      case spec.CMD_PREFETCH_CONFIG:
      case spec.CMD_PREFETCH_ADDR:
        return 0;
      case spec.CMD_SYNC:
        return this.synchronise(words);
      case spec.CMD_CFGI_STE:
      case spec.CMD_CFGI_STE_RANGE:
        return this.configure(words, opcode);
      case spec.CMD_CFGI_CD:
      case spec.CMD_CFGI_CD_ALL:
        return faults.skipCfgiCdForwarding ? 0 : this.passForStream(words, index);
      case spec.CMD_TLBI_NH_ALL:
      case spec.CMD_TLBI_NSNH_ALL:
        return faults.skipTlbiForwarding || faults.dropTlbiAll ? 0 : this.pass(words, index);
      case spec.CMD_TLBI_NH_ASID:
      case spec.CMD_TLBI_NH_VA:
      case spec.CMD_TLBI_NH_VAA:
        return faults.skipTlbiForwarding ? 0 : this.pass(faults.roundRanges ? rounded(words) : words, index);
      case spec.CMD_ATC_INV:
        if (!settings.ats) return faults.acceptAtcInvWithoutAts ? 0 : CERROR_ILL;
        return faults.skipAtcInvForwarding ? 0 : this.invalidateAtc(words, index);
      default:
        // No stage 2, no EL2, no PRI, no stalls.
        return CERROR_ILL;
    }
  }

  private synchronise(words: Uint32Array): number {
    const { interrupts, errors, faults } = this.parts;
    const signal = get(words, 0, CMD.CS);
    if (signal === RESERVED_SIGNAL && !faults.acceptReservedSync) return CERROR_ILL;
    if (!this.flush() || signal !== CS_IRQ) return 0;
    const { MSIAddress, MSIData } = CMD;
    const abort = interrupts.syncComplete(
      frameAt(words, 0, MSIAddress),
      offsetAt(words, 0, MSIAddress),
      get(words, 0, MSIData),
    );
    if (abort !== 0) errors.activate(abort);
    return 0;
  }

  private configure(words: Uint32Array, opcode: number): number {
    const { port, faults } = this.parts;
    if (!this.flush()) return 0;
    const stream = get(words, 0, CMD.StreamID);
    if (opcode === spec.CMD_CFGI_STE) port.configure(stream, stream);
    else if (!faults.ignoreSteRange) {
      const span = 2 ** (get(words, 0, CMD.Range) + 1);
      const first = Math.floor(stream / span) * span;
      port.configure(first, first + span - 1);
    }
    return 0;
  }

  private invalidateAtc(words: Uint32Array, index: number): number {
    const { registers, faults } = this.parts;
    const enabled = get(registers.words, AT.CR0, SMMUEN) === 1;
    return enabled || faults.atcInvWhileDisabled ? this.passForStream(words, index) : 0;
  }

  /** A stream without a device has nothing cached. */
  private passForStream(words: Uint32Array, index: number): number {
    const { port, faults } = this.parts;
    const sid = get(words, 0, CMD.StreamID);
    if (faults.dropWithoutStage1 && !port.translates(sid)) return 0;
    if (faults.trustStreams && !port.knows(sid)) throw new Error(`there is no device at StreamID ${sid}`);
    return port.knows(sid) || faults.forwardUnknownStreams ? this.pass(words, index) : 0;
  }

  private pass(words: Uint32Array, index: number): number {
    this.batch.push({ words, index });
    return 0;
  }

  /** Passes the batch on. @returns whether all of it was done: otherwise the queue stands at the one that was not */
  private flush(): boolean {
    const { batch } = this;
    const { port, faults } = this.parts;
    if (batch.length === 0) return true;
    this.batch = [];
    const done = port.invalidate(batch.map(({ words }) => words));
    if (done === batch.length) return true;
    if (faults.assertBatches) throw new Error(`assertion failed: ${done} of ${batch.length} commands were carried out`);
    if (faults.forwardUnknownStreams) return true;
    this.stop(batch[done]!.index, CERROR_ILL);
    return false;
  }
}

/** A range as one aligned power of two, at or below its start. */
function rounded(words: Uint32Array): Uint32Array {
  if (get(words, 0, CMD.TG) === 0) return words;
  const pages = (get(words, 0, CMD.NUM) + 1) * 2 ** get(words, 0, CMD.SCALE);
  const log2Pages = Math.floor(Math.log2(pages));
  const changed = words.slice();
  put(changed, 0, CMD.NUM, 0);
  put(changed, 0, CMD.SCALE, log2Pages);
  const frame = frameAt(words, 0, CMD.Address);
  putFrame(changed, 0, CMD.Address, Math.floor(frame / 2 ** log2Pages) * 2 ** log2Pages);
  return changed;
}
