/** The driver of one SMMUv3: probe, its devices, its interrupts. */
import type { MmioDevice } from '../../hardware/iommu.ts';
import * as spec from '../../hardware/smmuv3/spec/events.ts';
import { EVENT, EVENT_BYTES } from '../../hardware/smmuv3/spec/events.ts';
import { type Field, get, put } from '../../hardware/smmuv3/spec/field.ts';
import { PAGE_REQUEST, PAGE_REQUEST_BYTES } from '../../hardware/smmuv3/spec/page-requests.ts';
import { CMDQ_ERR, REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { FrameAllocator } from '../frame-allocator.ts';
import type { IommuDriver, ReservedRegion } from '../iommu-driver.ts';
import { Cmdqv } from './cmdqv/cmdqv.ts';
import { CommandQueue, SMMU_QUEUE } from './command-queue.ts';
import { CommandBatch } from './commands.ts';
import { type DeviceDescription, SmmuDevice } from './device.ts';
import { IdPool } from './id-pool.ts';
import { type Identity, readIdentity } from './identity.ts';
import { RecordQueue } from './record-queue.ts';
import { Registers } from './registers.ts';
import { StreamTable } from './stream-table.ts';
import { DEFAULT_BEHAVIOUR, DEFAULT_MESSAGE_REGION, type NestingBehaviour, type Policy, type Unit } from './unit.ts';

const { CR0, CR0ACK, CR1, CR2, GBPA, GERROR, GERRORN, IRQ_CTRL, IRQ_CTRLACK } = REGISTERS;

/** Queue sizes, log2 entries, where the hardware allows them: commands and page requests in one frame, events in 32 KiB. */
const COMMANDS_LOG2 = 8;
const EVENTS_LOG2 = 10;
const PAGE_REQUESTS_LOG2 = 8;

/** Inner shareable, write-back: all tables and queues lie in ordinary memory. */
const SHAREABLE = 0b11;
const WRITE_BACK = 0b01;

/** Records that a VM may hear of; the rest concern the host's own tables. */
const GUEST_EVENTS: ReadonlySet<number> = new Set([
  spec.C_BAD_STE,
  spec.F_STREAM_DISABLED,
  spec.C_BAD_SUBSTREAMID,
  spec.C_BAD_CD,
  spec.F_TRANSLATION,
  spec.F_ADDR_SIZE,
  spec.F_ACCESS,
  spec.F_PERMISSION,
]);

export interface ArmSmmuV3Options {
  /** As in /sys/class/iommu. */
  readonly name: string;
  readonly mmio: MmioDevice;
  /** The Tegra241 CMDQV in front of it, where there is one. */
  readonly cmdqv?: { readonly mmio: MmioDevice };
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly tracer: Tracer;
  readonly policy: Policy;
  /** Of the dialect that the machine speaks; the newest release's when absent. */
  readonly behaviour?: NestingBehaviour;
  /** What its devices reserve for their messages; kernels' own choice when absent. */
  readonly messageRegion?: ReservedRegion;
}

export class ArmSmmuV3 implements IommuDriver {
  readonly name: string;
  readonly identity: Identity;
  private readonly tracer: Tracer;
  private readonly registers: Registers;
  private readonly unit: Unit;
  private readonly streams: StreamTable;
  private readonly events: RecordQueue;
  private readonly pageRequests: RecordQueue | null;
  private readonly devices: Map<number, SmmuDevice>;

  /** Reads the identity registers and builds tables and queues; the SMMU runs after probe(). */
  constructor(options: ArmSmmuV3Options) {
    const { name, memory, frames, policy, behaviour = DEFAULT_BEHAVIOUR } = options;
    this.name = name;
    this.tracer = options.tracer;
    this.registers = new Registers(options.mmio);
    const identity = readIdentity(this.registers);
    this.identity = identity;
    const commandsLog2 = Math.min(COMMANDS_LOG2, identity.commandQueueLog2);
    const eventsLog2 = Math.min(EVENTS_LOG2, identity.eventQueueLog2);
    const requestsLog2 = Math.min(PAGE_REQUESTS_LOG2, identity.pageRequestQueueLog2);
    const note = (text: string) => this.note(text);
    const queue = new CommandQueue(this.registers, SMMU_QUEUE, memory, frames, commandsLog2, note);
    const cmdqv = options.cmdqv
      ? new Cmdqv({ mmio: options.cmdqv.mmio, memory, frames, smmuQueue: queue, commandsLog2, note })
      : null;
    this.unit = {
      name,
      identity,
      memory,
      frames,
      policy,
      behaviour,
      messageRegion: options.messageRegion ?? DEFAULT_MESSAGE_REGION,
      commands: cmdqv ?? queue,
      queue,
      cmdqv,
      vmids: new IdPool(Math.min(identity.vmidBits, policy.vmidBits ?? identity.vmidBits)),
      asids: new IdPool(identity.asidBits),
      counts: { nestedDomains: 0, viommus: 0, attachments: 0, contextTables: 0 },
      domains: new Set(),
      drainRecords: () => {
        this.handleEventInterrupt();
        this.handlePageRequestInterrupt();
      },
    };
    this.streams = new StreamTable(memory, frames, identity.streamBits, identity.twoLevelStreamTable);
    this.events = new RecordQueue('events', this.registers, memory, frames, eventsLog2, EVENT_BYTES);
    this.pageRequests = identity.pri
      ? new RecordQueue('page-requests', this.registers, memory, frames, requestsLog2, PAGE_REQUEST_BYTES)
      : null;
    this.devices = new Map();
  }

  get resources(): Readonly<Record<string, number>> {
    const { vmids, asids, domains, counts, cmdqv } = this.unit;
    let tableFrames = counts.contextTables;
    for (const domain of domains) tableFrames += domain.table.tableFrames;
    const { nestedDomains, viommus, attachments } = counts;
    return {
      vmids: vmids.used,
      asids: asids.used,
      tableFrames,
      domains: domains.size,
      nestedDomains,
      viommus,
      attachments,
      ...cmdqv?.resources,
    };
  }

  /** Takes the SMMU from whatever state it is in to running, with every stream aborting (6.3.9, 3.11). */
  probe(): this {
    const { registers } = this;
    this.abortWhileDisabled();
    this.enable({});
    registers.write(CR1, tableAttributes());
    // PTM: CPUs do not broadcast TLB maintenance to us. RECINVSID: unknown StreamIDs are recorded.
    registers.write(CR2, fields(CR2.fields.PTM, CR2.fields.RECINVSID));
    this.streams.install(registers);
    this.unit.queue.install();
    this.enable({ commands: true });
    const batch = new CommandBatch();
    batch.invalidateAllConfiguration();
    batch.invalidateAllTranslations();
    this.unit.commands.submit(batch);
    this.events.install();
    this.pageRequests?.install();
    this.enable({ commands: true, records: true });
    this.enableInterrupts();
    this.enable({ commands: true, records: true, translation: true });
    this.unit.cmdqv?.start();
    return this;
  }

  /** A device of this SMMU; it aborts until something is attached. EINVAL-like mistakes of the machine are Errors. */
  probeDevice(description: DeviceDescription): SmmuDevice {
    const { streamId, name } = description;
    if (!(streamId >= 0 && streamId < 2 ** this.streams.streamBits)) {
      throw new Error(`${name}: StreamID ${streamId} does not fit ${this.streams.streamBits} bits of ${this.name}`);
    }
    const other = this.devices.get(streamId);
    if (other) throw new Error(`${name}: StreamID ${streamId} of ${this.name} belongs to ${other.name}`);
    this.streams.cover(streamId);
    const device = new SmmuDevice(this, this.unit, description, this.streams.addressOf(streamId));
    this.devices.set(streamId, device);
    return device;
  }

  /** The event queue's line: reads what is there and passes it on to VMs. */
  handleEventInterrupt(): void {
    if (this.events.drain((event) => this.handleEvent(event)))
      this.note('the event queue overflowed: events were lost');
  }

  /** The page request queue's line. Devices whose requests were lost have been told to try again (8.1). */
  handlePageRequestInterrupt(): void {
    const lost = this.pageRequests?.drain((entry) => {
      this.devices.get(get(entry, 0, PAGE_REQUEST.StreamID))?.reportPageRequest(entry);
    });
    if (!lost) return;
    this.note('the page request queue overflowed');
    for (const device of this.devices.values()) device.pageRequests?.discardPartial();
  }

  /** The global error line. */
  handleGlobalErrorInterrupt(): void {
    this.unit.queue.recover();
    // One interrupt may stand for several errors. A new command error is not ours to acknowledge: it has its own.
    const active = (this.registers.read(GERROR) ^ this.registers.read(GERRORN)) & ~CMDQ_ERR;
    if (active === 0) return;
    const names = Object.entries(GERROR.fields).flatMap(([name, field]) =>
      (active >>> field.shift) & 1 ? [name] : [],
    );
    this.note(`global error: ${names.join(', ')}`);
    this.registers.write(GERRORN, this.registers.read(GERRORN) ^ active);
  }

  /** The CMDQV's line. */
  handleCmdqvInterrupt(): void {
    this.unit.cmdqv?.handleInterrupt();
  }

  private handleEvent(event: Uint32Array): void {
    const known = GUEST_EVENTS.has(get(event, 0, EVENT.Type));
    const forGuest = known && !get(event, 0, EVENT.S2);
    const stream = get(event, 0, EVENT.StreamID);
    if (known && get(event, 0, EVENT.Stall)) {
      this.devices.get(stream)?.reportStall(event);
      return;
    }
    if (forGuest && this.devices.get(stream)?.report(event)) return;
    if (!this.tracer.on) return;
    const type = get(event, 0, EVENT.Type);
    const kind = spec.EVENT_LAYOUTS[type]?.name ?? `event 0x${type.toString(16)}`;
    this.note(`${kind} of ${this.devices.get(stream)?.name ?? `unknown stream ${stream}`} stays with the host`);
  }

  /** Until translation is on, transactions abort instead of passing untranslated. */
  private abortWhileDisabled(): void {
    const { registers } = this;
    const gbpa = Uint32Array.of(registers.read(GBPA));
    put(gbpa, 0, GBPA.fields.ABORT, 1);
    put(gbpa, 0, GBPA.fields.Update, 1);
    registers.write(GBPA, gbpa[0]!);
  }

  private enable(on: { commands?: true; records?: true; translation?: true }): void {
    const { SMMUEN, PRIQEN, EVENTQEN, CMDQEN, ATSCHK } = CR0.fields;
    const chosen: Field[] = [];
    if (on.commands) chosen.push(CMDQEN);
    if (on.records) chosen.push(EVENTQEN);
    if (on.records && this.pageRequests) chosen.push(PRIQEN);
    // ATSCHK: translated transactions are believed only as far as STE.EATS allows.
    if (on.records && this.identity.ats) chosen.push(ATSCHK);
    if (on.translation) chosen.push(SMMUEN);
    this.registers.writeAcknowledged(CR0, CR0ACK, fields(...chosen));
  }

  private enableInterrupts(): void {
    const { GERROR_IRQEN, PRIQ_IRQEN, EVENTQ_IRQEN } = IRQ_CTRL.fields;
    this.registers.writeAcknowledged(IRQ_CTRL, IRQ_CTRLACK, 0);
    // Address 0: wired lines, no messages.
    const none = new Uint32Array(2);
    this.registers.write64(REGISTERS.GERROR_IRQ_CFG0, none);
    this.registers.write64(REGISTERS.EVENTQ_IRQ_CFG0, none);
    if (this.pageRequests) this.registers.write64(REGISTERS.PRIQ_IRQ_CFG0, none);
    const lines = [GERROR_IRQEN, EVENTQ_IRQEN, ...(this.pageRequests ? [PRIQ_IRQEN] : [])];
    this.registers.writeAcknowledged(IRQ_CTRL, IRQ_CTRLACK, fields(...lines));
  }

  private note(text: string): void {
    if (this.tracer.on) this.tracer.emit({ type: 'note', from: this.name, text });
  }
}

/** A register value with these one-bit fields set. */
const fields = (...ones: Field[]): number => ones.reduce((value, field) => value | (1 << field.shift), 0) >>> 0;

function tableAttributes(): number {
  const { TABLE_SH, TABLE_OC, TABLE_IC, QUEUE_SH, QUEUE_OC, QUEUE_IC } = CR1.fields;
  const cr1 = new Uint32Array(1);
  for (const field of [TABLE_SH, QUEUE_SH]) put(cr1, 0, field, SHAREABLE);
  for (const field of [TABLE_OC, TABLE_IC, QUEUE_OC, QUEUE_IC]) put(cr1, 0, field, WRITE_BACK);
  return cr1[0]!;
}
