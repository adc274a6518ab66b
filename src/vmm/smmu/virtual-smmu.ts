/**
 * An SMMUv3 as the guest sees it. Its registers, queues and interrupts are made of the same blocks as the silicon's; what it
 * does not do is translate: it keeps the host's SMMU as the guest wants it, stream by stream, command by command.
 */
import type { Clock } from '../../hardware/clock.ts';
import type { InterruptLine, MmioDevice } from '../../hardware/iommu.ts';
import { EventQueue } from '../../hardware/smmuv3/event-queue.ts';
import { GlobalErrors } from '../../hardware/smmuv3/global-errors.ts';
import { Interrupts } from '../../hardware/smmuv3/interrupts.ts';
import { OutputQueue } from '../../hardware/smmuv3/output-queue.ts';
import { AT, RegisterFile } from '../../hardware/smmuv3/register-file.ts';
import type { SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import { get } from '../../hardware/smmuv3/spec/field.ts';
import { REGISTERS, type RegisterName, type RegisterSpec } from '../../hardware/smmuv3/spec/registers.ts';
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { Faults } from '../faults.ts';
import { VirtualCommandQueue } from './command-queue.ts';
import { VirtualEvents } from './events.ts';
import { VirtualStreamTable, type Wish } from './stream-table.ts';

/** The devices of the guest behind this SMMU, on the host's side. */
export interface Streams {
  readonly sids: readonly number[];
  /** Has a device translated as the guest wants. */
  apply(sid: number, wish: Wish): void;
  translates(sid: number): boolean;
  invalidate(commands: readonly Uint32Array[]): number;
}

export interface VirtualSmmuParts {
  readonly name: string;
  readonly settings: SmmuSettings;
  /** Guest-physical. */
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly tracer: Tracer;
  readonly streams: Streams;
  readonly faults: Faults;
  /** Events or errors wait for the guest's driver. */
  readonly interrupt: InterruptLine;
}

const { SMMUEN } = REGISTERS.CR0.fields;
const { ABORT } = REGISTERS.GBPA.fields;

export class VirtualSmmu implements MmioDevice {
  readonly name: string;
  readonly settings: SmmuSettings;
  readonly events: VirtualEvents;
  private readonly registers: RegisterFile;
  private readonly table: VirtualStreamTable;
  private readonly commands: VirtualCommandQueue;
  private readonly streams: Streams;
  private readonly faults: Faults;
  private enabled: boolean;

  constructor(parts: VirtualSmmuParts) {
    const { name, settings, memory, clock, tracer, streams, faults, interrupt } = parts;
    this.name = name;
    this.settings = settings;
    this.streams = streams;
    this.faults = faults;
    this.enabled = false;
    const registers = new RegisterFile(settings);
    const lines = { eventq: interrupt, gerror: interrupt, cmdqSync: interrupt, priq: interrupt };
    const interrupts = new Interrupts(registers, memory, clock, lines, settings);
    const errors = new GlobalErrors(registers, interrupts);
    const names = { base: 'EVENTQ_BASE', prod: 'EVENTQ_PROD', cons: 'EVENTQ_CONS' } as const;
    const ring = new OutputQueue(registers, memory, names, settings.eventqs);
    const queue = new EventQueue(name, registers, memory, errors, interrupts, tracer, settings.eventqs);
    this.registers = registers;
    this.events = new VirtualEvents(queue, ring, errors, faults);
    this.table = new VirtualStreamTable(registers, memory, settings.ats, faults);
    const port = {
      knows: (sid: number) => streams.sids.includes(sid),
      translates: (sid: number) => streams.translates(sid),
      configure: (first: number, last: number) => this.configure(first, last),
      invalidate: (list: readonly Uint32Array[]) => streams.invalidate(list),
    };
    this.commands = new VirtualCommandQueue({ registers, memory, settings, errors, interrupts, port, faults });
  }

  readRegister(offset: number, size: number): number {
    const index = size === 4 ? this.registers.indexAt(offset) : -1;
    return index < 0 ? 0 : this.registers.words[index]!;
  }

  writeRegister(offset: number, size: number, value: number): void {
    const index = size === 4 ? this.registers.indexAt(offset) : -1;
    if (index < 0) return;
    const name = this.registers.nameAt(index);
    const spec: RegisterSpec = REGISTERS[name];
    const unlocked = this.faults.writableCommandCons && name === 'CMDQ_CONS';
    if (spec.access === 'RO' || (this.registers.locked(name) && !unlocked)) return;
    // GBPA changes only together with Update, which reads as 0 once it is done (6.3.14.1).
    if (name === 'GBPA' && value >>> 31 === 0) return;
    this.registers.words[index] = this.registers.sanitised(index, value);
    this.written(name);
  }

  /** Registers as after power-on; devices pass through, as GBPA then says. */
  reset(): void {
    this.registers.reset();
    this.enabled = false;
    this.applyAll();
  }

  /** A device has come, at `sid`. */
  plugged(sid: number): void {
    this.configure(sid, sid);
  }

  private written(name: RegisterName): void {
    const { words } = this.registers;
    switch (name) {
      case 'CR0':
        words[AT.CR0ACK] = words[AT.CR0]!;
        this.switchTranslation(get(words, AT.CR0, SMMUEN) === 1);
        this.commands.consume();
        break;
      case 'IRQ_CTRL':
        words[AT.IRQ_CTRLACK] = words[AT.IRQ_CTRL]!;
        break;
      case 'GBPA':
        words[AT.GBPA]! &= 0x7fff_ffff;
        if (!this.enabled && !this.faults.ignoreDisable) this.applyAll();
        break;
      case 'CMDQ_PROD':
      case 'GERRORN':
        this.commands.consume();
        break;
      default:
        break;
    }
  }

  private switchTranslation(on: boolean): void {
    if (on === this.enabled) return;
    this.enabled = on;
    if (on || !this.faults.ignoreDisable) this.applyAll();
  }

  private applyAll(): void {
    for (const sid of this.streams.sids) this.streams.apply(sid, this.wish(sid));
  }

  private configure(first: number, last: number): void {
    for (const sid of this.streams.sids) if (sid >= first && sid <= last) this.streams.apply(sid, this.wish(sid));
  }

  private wish(sid: number): Wish {
    if (this.enabled) return this.table.wish(sid);
    return { kind: get(this.registers.words, AT.GBPA, ABORT) === 1 ? 'abort' : 'bypass' };
  }
}
