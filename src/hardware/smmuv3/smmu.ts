/**
 * An Arm SMMUv3 (IHI 0070), Non-secure programming interface: a functional model that software reaches through its
 * registers and the structures in memory, and devices through `Iommu`.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { Clock } from '../clock.ts';
import {
  ABORTED,
  ATS_COMPLETER_ABORT,
  ATS_SUCCESS,
  ATS_UNSUPPORTED_REQUEST,
  type AtcHolder,
  DISCARDED,
  type Iommu,
  type MmioDevice,
  NO_SUBSTREAM,
  type PageRequest,
  PRG_FAILURE,
  READ,
  type Requester,
  STALLED,
  TRANSLATED,
  WRITE,
} from '../iommu.ts';
import { Vmsav8Walker } from '../pagetable/vmsav8.ts';
import { CommandExecutor } from './command-executor.ts';
import { CommandQueue } from './command-queue.ts';
import { Configuration } from './configuration.ts';
import { EventQueue } from './event-queue.ts';
import { Fault } from './fault.ts';
import { FaultRecorder, isTranslationRelated } from './fault-recorder.ts';
import { GlobalErrors } from './global-errors.ts';
import { type InterruptLines, Interrupts } from './interrupts.ts';
import { TlbInvalidation } from './invalidation.ts';
import { Iotlb } from './iotlb.ts';
import { PageRequestQueue, PRG_QUEUED } from './page-request-queue.ts';
import { AT, absentRegister, RegisterFile, type RegisterState } from './register-file.ts';
import type { SmmuSettings } from './settings.ts';
import { get } from './spec/field.ts';
import { REGISTERS, type RegisterName, type RegisterSpec } from './spec/registers.ts';
import { CONFIG_BYPASS } from './spec/ste.ts';
import { NO_STAG, Stalls } from './stalls.ts';
import type { StreamConfig } from './stream-config.ts';
import { atsPermissions, Translator } from './translator.ts';

const CR0 = REGISTERS.CR0.fields;
const GBPA = REGISTERS.GBPA.fields;

export interface SmmuParts {
  /** For traces: "smmu0". */
  readonly name: string;
  readonly memory: PhysicalMemory;
  readonly settings: SmmuSettings;
  readonly clock: Clock;
  readonly tracer: Tracer;
  readonly irq: InterruptLines;
}

export class Smmu implements Iommu, MmioDevice {
  readonly name: string;
  readonly settings: SmmuSettings;
  /** For command queues in front of this SMMU (Tegra241 CMDQV). */
  readonly executor: CommandExecutor;
  outFrame: number;
  outLog2Frames: number;
  outPermissions: number;
  /** Accesses to registers that do not exist here, by offset. */
  readonly unknownAccesses: Map<number, number>;
  private readonly tracer: Tracer;
  private readonly clock: Clock;
  private readonly registers: RegisterFile;
  private readonly configuration: Configuration;
  private readonly iotlb: Iotlb;
  private readonly translator: Translator;
  private readonly fault: Fault;
  private readonly events: EventQueue;
  private readonly recorder: FaultRecorder;
  private readonly stalls: Stalls;
  private readonly commands: CommandQueue;
  private readonly pageRequests: PageRequestQueue;
  private readonly oasFrames: number;
  /** CR0.SMMUEN, for the data plane. */
  private enabled: boolean;

  constructor(parts: SmmuParts) {
    const { name, memory, settings, clock, tracer, irq } = parts;
    this.name = name;
    this.settings = settings;
    this.tracer = tracer;
    this.clock = clock;
    this.outFrame = 0;
    this.outLog2Frames = 0;
    this.outPermissions = 0;
    this.unknownAccesses = new Map();
    this.enabled = false;
    this.oasFrames = 2 ** (settings.oas - 12);
    const registers = new RegisterFile(settings);
    const interrupts = new Interrupts(registers, memory, clock, irq, settings);
    const errors = new GlobalErrors(registers, interrupts);
    const walker = new Vmsav8Walker(memory);
    this.registers = registers;
    this.fault = new Fault();
    this.iotlb = new Iotlb(settings.iotlbEntries);
    this.configuration = new Configuration(registers, memory, settings, walker, this.fault);
    this.translator = new Translator(this.configuration, this.iotlb, walker, this.fault, settings);
    this.events = new EventQueue(name, registers, memory, errors, interrupts, tracer, settings.eventqs);
    this.recorder = new FaultRecorder(this.events);
    this.stalls = new Stalls(settings.stallMax);
    this.pageRequests = new PageRequestQueue(registers, memory, errors, interrupts, settings.priqs);
    const tlb = new TlbInvalidation(this.iotlb, settings);
    const { configuration, stalls } = this;
    this.executor = new CommandExecutor({
      name,
      registers,
      settings,
      errors,
      interrupts,
      configuration,
      tlb,
      stalls,
      tracer,
    });
    this.commands = new CommandQueue(name, registers, memory, settings.cmdqs, errors, this.executor, tracer);
  }

  translate(
    stream: number,
    substream: number,
    frame: number,
    offset: number,
    access: number,
    requester: Requester | null = null,
  ): number {
    if (!this.enabled) return this.bypass(frame);
    const translator = this.translator;
    const type = translator.transaction(stream, substream, frame, access);
    if (type !== 0) return this.refuse(stream, substream, frame, offset, access, requester);
    this.outFrame = translator.outFrame;
    this.outLog2Frames = translator.outLog2Frames;
    if (this.tracer.on) this.traceLookup(frame);
    return TRANSLATED;
  }

  withdraw(requester: Requester): void {
    this.stalls.withdraw(requester);
  }

  /** IHI 0070, 3.9.1.3. */
  translated(stream: number, _substream: number, frame: number, offset: number, access: number): number {
    if (!this.settings.ats) return ABORTED;
    const words = this.registers.words;
    if (this.enabled && get(words, AT.CR0, CR0.ATSCHK) === 1) {
      const config = this.configuration.stream(stream);
      if (config === null || (config.config & CONFIG_BYPASS) === 0) return ABORTED;
      if (!config.fullAts) return this.forbidden(stream, frame, offset, access);
    } else if (!this.enabled) {
      return this.forbidden(stream, frame, offset, access);
    }
    // An address beyond OAS ends without an event (3.9.1.1).
    if (frame >= this.oasFrames) return ABORTED;
    this.outFrame = frame;
    this.outLog2Frames = 0;
    return TRANSLATED;
  }

  /** IHI 0070, 3.9.1.2. */
  atsRequest(stream: number, substream: number, frame: number, asked: number): number {
    this.outPermissions = 0;
    // Execute and privileged stand in the PASID prefix: without one they are not asked for (13.7).
    const access = substream >= 0 ? asked : asked & (READ | WRITE);
    if (!this.settings.ats) return ATS_UNSUPPORTED_REQUEST;
    if (!this.enabled) return this.badRequest(stream, substream, frame, access);
    const config = this.configuration.stream(stream);
    if (config === null) return ATS_COMPLETER_ABORT;
    if ((config.config & CONFIG_BYPASS) === 0) return ATS_UNSUPPORTED_REQUEST;
    if (!config.fullAts) return this.badRequest(stream, substream, frame, access);
    const translator = this.translator;
    const type = translator.request(config, stream, substream, frame, access);
    if (type !== 0 && !isTranslationRelated(type)) return ATS_COMPLETER_ABORT;
    if (type === 0) this.outPermissions = this.grant(config, access);
    this.outFrame = this.outPermissions === 0 ? 0 : translator.outFrame;
    this.outLog2Frames = this.outPermissions === 0 ? 0 : translator.outLog2Frames;
    if (type === 0 && this.tracer.on) this.traceLookup(frame);
    return ATS_SUCCESS;
  }

  /** A page request of a device (PRI). Those that cannot be queued are answered by the SMMU itself, on the clock. */
  pageRequest(request: PageRequest): void {
    const code = this.settings.pri ? this.pageRequests.accept(request) : PRG_FAILURE;
    if (code <= PRG_QUEUED) return;
    // With PPS an answer to overflow carries the request's PASID; failures never carry one (8.2).
    const substream = code === PRG_FAILURE ? NO_SUBSTREAM : request.substream;
    const holder = this.executor.atcs.get(request.stream);
    if (holder) this.clock.defer(() => holder.pageResponse(substream, request.groupIndex, code));
  }

  /** Registers who answers CMD_ATC_INV and CMD_PRI_RESP for a stream; null takes it away. */
  attachAtc(stream: number, holder: AtcHolder | null): void {
    if (holder) this.executor.atcs.set(stream, holder);
    else this.executor.atcs.delete(stream);
  }

  readRegister(offset: number, size: number): number {
    const index = size === 4 ? this.registers.indexAt(offset) : -1;
    if (index >= 0) return this.registers.words[index]!;
    this.noteUnknown(offset, size);
    return 0;
  }

  writeRegister(offset: number, size: number, value: number): void {
    const index = size === 4 ? this.registers.indexAt(offset) : -1;
    if (index < 0) {
      this.noteUnknown(offset, size);
      return;
    }
    const name = this.registers.nameAt(index);
    const spec: RegisterSpec = REGISTERS[name];
    if (spec.access === 'RO') return;
    if (this.registers.locked(name)) {
      this.note(`write to ${name} ignored while ${spec.lock} is 1`);
    } else if (name === 'GBPA' && value >>> 31 === 0) {
      // GBPA changes only together with Update, which reads as 0 once it is done (6.3.14.1).
      this.note('write to GBPA ignored without Update');
    } else {
      this.registers.words[index] = this.registers.sanitised(index, value);
      this.written(name);
    }
  }

  /** As after power-on: registers, caches. What is registered from outside (ATCs, interrupt lines) stays. */
  reset(): void {
    this.stalls.terminate(null);
    this.registers.reset();
    this.dropCaches();
  }

  /** Every register by name. Caches are not part of it: a restored SMMU walks again. */
  save(): RegisterState {
    return this.registers.save();
  }

  restore(state: RegisterState): void {
    this.registers.restore(state);
    this.dropCaches();
  }

  private dropCaches(): void {
    this.enabled = get(this.registers.words, AT.CR0, CR0.SMMUEN) === 1;
    this.iotlb.clear();
    this.configuration.streams.clear();
    this.configuration.contexts.clear();
  }

  /** Side effects of a register write. CR0 and IRQ_CTRL take effect at once, so their ACK follows. */
  private written(name: RegisterName): void {
    const words = this.registers.words;
    switch (name) {
      case 'CR0':
        words[AT.CR0ACK] = words[AT.CR0]!;
        this.enabled = get(words, AT.CR0, CR0.SMMUEN) === 1;
        if (this.enabled) this.stalls.retryHeldBack();
        else this.stalls.terminate(null);
        this.commands.consume();
        break;
      case 'IRQ_CTRL':
        words[AT.IRQ_CTRLACK] = words[AT.IRQ_CTRL]!;
        break;
      case 'GBPA':
        words[AT.GBPA]! &= 0x7fffffff;
        break;
      case 'CMDQ_PROD':
        this.commands.consume();
        break;
      case 'GERRORN':
        this.stalls.retryHeldBack();
        this.commands.consume();
        break;
      case 'EVENTQ_CONS':
        this.stalls.retryHeldBack();
        break;
      default:
        break;
    }
  }

  /** SMMUEN = 0 (6.3.9.6): no event, whatever happens. */
  private bypass(frame: number): number {
    if (get(this.registers.words, AT.GBPA, GBPA.ABORT) === 1 || frame >= this.oasFrames) return ABORTED;
    this.outFrame = frame;
    this.outLog2Frames = 0;
    return TRANSLATED;
  }

  /**
   * Ends or stalls the transaction that has just met `fault`. Whose requester cannot wait, its system did not offer for
   * stalls: it ends, and says so (3.12).
   */
  private refuse(
    stream: number,
    substream: number,
    frame: number,
    offset: number,
    access: number,
    requester: Requester | null,
  ): number {
    const { fault, stalls, recorder } = this;
    const { privileged, instruction } = this.translator;
    const waits = fault.stall && requester !== null;
    if (waits && (stalls.full || !this.events.writable)) {
      stalls.holdBack(stream, requester);
      return STALLED;
    }
    const stag = waits ? stalls.add(stream, requester) : NO_STAG;
    recorder.transaction(fault, stream, substream, frame, offset, access, privileged, instruction, stag);
    if (waits) return STALLED;
    return fault.discard && !fault.stall ? DISCARDED : ABORTED;
  }

  private forbidden(stream: number, frame: number, offset: number, access: number): number {
    this.recorder.translatedForbidden(stream, frame, offset, access);
    return ABORTED;
  }

  private badRequest(stream: number, substream: number, frame: number, access: number): number {
    this.recorder.badAtsRequest(stream, substream, frame, access);
    return ATS_UNSUPPORTED_REQUEST;
  }

  /** Permissions of a completion. A skipped stage 1 grants reads and writes, whatever was asked for (13.6.4). */
  private grant(config: StreamConfig, access: number): number {
    const { identity, outPermissions } = this.translator;
    return identity ? READ | WRITE : atsPermissions(outPermissions, access, config.instCfg);
  }

  private traceLookup(frame: number): void {
    const { hit, vmid, asid } = this.translator;
    if (vmid < 0) return;
    const emit = (action: 'hit' | 'fill' | 'evict'): void =>
      this.tracer.emit({ type: 'cache', owner: this.name, cache: 'iotlb', action, vmid, asid, frame, count: 1 });
    if (!hit && this.iotlb.evicted) emit('evict');
    emit(hit ? 'hit' : 'fill');
  }

  private noteUnknown(offset: number, size: number): void {
    const seen = this.unknownAccesses.get(offset) ?? 0;
    this.unknownAccesses.set(offset, seen + 1);
    if (seen > 0) return;
    const name = absentRegister(offset) || 'no register';
    this.note(
      `access of ${size} bytes at offset 0x${offset.toString(16)} (${name}): reads as zero, writes are ignored`,
    );
  }

  private note(text: string): void {
    if (this.tracer.on) this.tracer.emit({ type: 'note', from: this.name, text });
  }
}
