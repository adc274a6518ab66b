/**
 * Finds the STE and CD of a transaction (IHI 0070, 3.3.2): through the configuration caches, or from memory. Byte
 * addresses here are plain numbers: 52 bits are exact. What is not valid is not cached.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { WALK_ABORT, WALK_OK } from '../pagetable/leaf.ts';
import type { Vmsav8Walker } from '../pagetable/vmsav8.ts';
import { ConfigCache } from './config-cache.ts';
import { ContextConfig } from './context-config.ts';
import type { Fault } from './fault.ts';
import { AT, type RegisterFile } from './register-file.ts';
import type { SmmuSettings } from './settings.ts';
import { CD_BYTES, CD_WORDS, L1CD, L1CD_BYTES } from './spec/cd.ts';
import {
  C_BAD_CD,
  C_BAD_STE,
  C_BAD_STREAMID,
  C_BAD_SUBSTREAMID,
  CLASS_CD,
  F_CD_FETCH,
  F_STE_FETCH,
  F_WALK_EABT,
} from './spec/events.ts';
import { frameAt, get, offsetAt } from './spec/field.ts';
import { FMT_2LEVEL, REGISTERS } from './spec/registers.ts';
import { L1STD, L1STD_BYTES, S1FMT_4K_L2, S1FMT_64K_L2, STE_BYTES, STE_WORDS } from './spec/ste.ts';
import { StreamConfig } from './stream-config.ts';
import { WALK_EVENT } from './walk-events.ts';

const STRTAB_CFG = REGISTERS.STRTAB_BASE_CFG.fields;

export class Configuration {
  readonly streams: ConfigCache<StreamConfig>;
  readonly contexts: ConfigCache<ContextConfig>;
  private readonly registers: RegisterFile;
  private readonly memory: PhysicalMemory;
  private readonly settings: SmmuSettings;
  private readonly walker: Vmsav8Walker;
  private readonly fault: Fault;
  private spareStream: StreamConfig;
  private spareContext: ContextConfig;
  private readonly words: Uint32Array;
  /** Address found by the last lookup step. */
  private address: number;

  constructor(
    registers: RegisterFile,
    memory: PhysicalMemory,
    settings: SmmuSettings,
    walker: Vmsav8Walker,
    fault: Fault,
  ) {
    this.registers = registers;
    this.memory = memory;
    this.settings = settings;
    this.walker = walker;
    this.fault = fault;
    this.streams = new ConfigCache(settings.steEntries, () => new StreamConfig());
    this.contexts = new ConfigCache(settings.cdEntries, () => new ContextConfig());
    this.spareStream = new StreamConfig();
    this.spareContext = new ContextConfig();
    this.words = new Uint32Array(Math.max(STE_WORDS, CD_WORDS));
    this.address = 0;
  }

  /** Changes whenever something cached goes. */
  get generation(): number {
    return this.streams.generation + this.contexts.generation;
  }

  /** The valid STE of `stream`, or null with `fault` filled in. */
  stream(stream: number): StreamConfig | null {
    return this.streams.find(stream, 0) ?? this.fetchStream(stream);
  }

  /** The valid CD at `index` of the stream's CD table, or null with `fault` filled in. */
  context(stream: number, index: number, config: StreamConfig): ContextConfig | null {
    return this.contexts.find(stream, index) ?? this.fetchContext(stream, index, config);
  }

  private fetchStream(stream: number): StreamConfig | null {
    if (!this.locateSte(stream)) return null;
    if (!this.load(this.address, STE_WORDS)) return this.fetchFault(F_STE_FETCH, this.address);
    const decoded = this.spareStream;
    if (!decoded.decode(this.words, this.settings)) {
      this.fault.configuration(C_BAD_STE);
      return null;
    }
    this.spareStream = this.streams.fill(stream, 0, decoded);
    return decoded;
  }

  private locateSte(stream: number): boolean {
    const words = this.registers.words;
    const literalLog2 = get(words, AT.STRTAB_BASE_CFG, STRTAB_CFG.LOG2SIZE);
    const log2 = Math.min(literalLog2, this.settings.sidSize);
    if (stream >= 2 ** log2) return this.badStream();
    const base = addressAt(words, AT.STRTAB_BASE, REGISTERS.STRTAB_BASE.fields.ADDR);
    if (get(words, AT.STRTAB_BASE_CFG, STRTAB_CFG.FMT) !== FMT_2LEVEL) {
      this.address = alignTo(base, STE_BYTES * 2 ** literalLog2) + stream * STE_BYTES;
      return true;
    }
    const split = splitOf(get(words, AT.STRTAB_BASE_CFG, STRTAB_CFG.SPLIT));
    const table = alignTo(base, Math.max(64, L1STD_BYTES * 2 ** (literalLog2 - split)));
    const descriptor = table + Math.floor(stream / 2 ** split) * L1STD_BYTES;
    if (!this.load(descriptor, 2)) {
      this.fetchFault(F_STE_FETCH, descriptor);
      return false;
    }
    const span = get(this.words, 0, L1STD.Span);
    const place = stream % 2 ** split;
    if (span === 0 || span > split + 1 || place >= 2 ** (span - 1)) return this.badStream();
    this.address = alignTo(addressAt(this.words, 0, L1STD.L2Ptr), STE_BYTES * 2 ** (span - 1)) + place * STE_BYTES;
    return true;
  }

  private badStream(): boolean {
    const recorded = get(this.registers.words, AT.CR2, REGISTERS.CR2.fields.RECINVSID) === 1;
    this.fault.configuration(C_BAD_STREAMID, recorded);
    return false;
  }

  private fetchContext(stream: number, index: number, config: StreamConfig): ContextConfig | null {
    if (!this.locateCd(index, config)) return null;
    if (!this.readable(config)) return null;
    if (!this.load(this.address, CD_WORDS)) return this.fetchFault(F_CD_FETCH, this.address);
    const decoded = this.spareContext;
    if (!decoded.decode(this.words, this.settings, config.s1MayStall)) {
      this.fault.configuration(C_BAD_CD);
      return null;
    }
    this.spareContext = this.contexts.fill(stream, index, decoded);
    return decoded;
  }

  /** IPA with stage 2, or PA, of a CD. */
  private locateCd(index: number, config: StreamConfig): boolean {
    const base = config.s1ContextFrame * 4096 + config.s1ContextOffset;
    const split = config.s1Fmt === S1FMT_4K_L2 ? 6 : config.s1Fmt === S1FMT_64K_L2 ? 10 : 0;
    if (config.s1CdMax === 0 || split === 0) {
      this.address = alignTo(base, CD_BYTES * 2 ** config.s1CdMax) + index * CD_BYTES;
      return true;
    }
    const table = alignTo(base, Math.max(64, L1CD_BYTES * 2 ** (config.s1CdMax - split)));
    this.address = table + Math.floor(index / 2 ** split) * L1CD_BYTES;
    if (!this.readable(config)) return false;
    if (!this.load(this.address, 2)) {
      this.fetchFault(F_CD_FETCH, this.address);
      return false;
    }
    const pointer = addressAt(this.words, 0, L1CD.L2Ptr);
    // 3.4.3 (3): an L2Ptr beyond OAS, like V = 0, is a bad SubstreamID. Beyond IAS it goes to stage 2: case (4) b.
    if (get(this.words, 0, L1CD.V) === 0 || (!config.stage2 && pointer >= 2 ** this.settings.oas)) {
      this.fault.configuration(C_BAD_SUBSTREAMID);
      return false;
    }
    this.address = alignTo(pointer, CD_BYTES * 2 ** split) + (index % 2 ** split) * CD_BYTES;
    return true;
  }

  /** Takes `address` through stage 2, if the stream has one. */
  private readable(config: StreamConfig): boolean {
    if (!config.stage2) return true;
    const frame = Math.floor(this.address / 4096);
    const offset = this.address - frame * 4096;
    const outcome = this.walker.tableAccess(config.second, frame);
    if (outcome === WALK_OK) {
      this.address = this.walker.s2Frame * 4096 + offset;
      return true;
    }
    if (outcome === WALK_ABORT) {
      this.fault.walkAbort(F_WALK_EABT, true, CLASS_CD, this.walker.fetchFrame, this.walker.fetchOffset);
    } else {
      this.fault.second(WALK_EVENT[outcome]!, config, CLASS_CD, frame);
    }
    return false;
  }

  private fetchFault(type: number, address: number): null {
    const frame = Math.floor(address / 4096);
    this.fault.fetch(type, frame, address - frame * 4096);
    return null;
  }

  /** Loads `count` words at a physical address; nothing is beyond OAS (3.4.3). */
  private load(address: number, count: number): boolean {
    const frame = Math.floor(address / 4096);
    const offset = address - frame * 4096;
    if (frame >= 2 ** (this.settings.oas - 12)) return false;
    for (let word = 0; word < count; word += 2) {
      if (!this.memory.load64(frame, offset + word * 4)) return false;
      this.words[word] = this.memory.lo;
      this.words[word + 1] = this.memory.hi;
    }
    return true;
  }
}

const alignTo = (address: number, size: number): number => Math.floor(address / size) * size;

const addressAt = (words: Uint32Array, base: number, f: Parameters<typeof frameAt>[2]): number =>
  frameAt(words, base, f) * 4096 + offsetAt(words, base, f);

/** SPLIT: values other than 6, 8 and 10 behave as 6 (6.3.25). */
const splitOf = (split: number): number => (split === 8 || split === 10 ? split : 6);
