/**
 * An NVM Express 1.4 controller: registers, doorbells, and the life of the controller between them (3.1, 7.3, 7.6). Queues
 * and commands are the engine's (engine.ts); what commands do is in admin-commands.ts and nvm-commands.ts.
 */
import { FRAME_BYTES } from '../../../memory/physical-memory.ts';
import type { FunctionKind, FunctionModel, FunctionPorts } from '../function-model.ts';
import { RegisterFile } from '../register-file.ts';
import { AdminCommands } from './admin-commands.ts';
import { AsyncEvents } from './async-events.ts';
import type { Command } from './command.ts';
import type { CompletionQueue } from './completion-queue.ts';
import { Engine, type EngineOwner } from './engine.ts';
import { ErrorLog, NO_COMMAND } from './error-log.ts';
import { Features } from './features.ts';
import { digitsOf } from './identify.ts';
import { Interrupts } from './interrupts.ts';
import { CAP, MPSMAX, VECTORS } from './limits.ts';
import { Namespace } from './namespace.ts';
import { NvmCommands } from './nvm-commands.ts';
import type { QueueRules } from './queue-commands.ts';
import { FLAGS_FUSE, FLAGS_PSDT, INVALID_FIELD, SQE_CDW10, SQE_CDW11, SQE_FLAGS, SUCCESS } from './spec/commands.ts';
import { ERROR_INVALID_DOORBELL, ERROR_INVALID_DOORBELL_VALUE, EVENT_ERROR } from './spec/log-pages.ts';
import {
  AQA_ACQS_SHIFT,
  AQA_SIZE,
  CC_AMS,
  CC_CSS,
  CC_EN,
  CC_ENTRY_SIZE,
  CC_IOCQES_SHIFT,
  CC_IOSQES_SHIFT,
  CC_MPS,
  CC_MPS_SHIFT,
  CC_SHN,
  CSTS_CFS,
  CSTS_RDY,
  CSTS_SHST_COMPLETE,
  DOORBELLS_AT,
  nvmeRegisters,
} from './spec/registers.ts';
import { Statistics } from './statistics.ts';

const REGISTERS = nvmeRegisters(CAP);

export class NvmeController implements FunctionModel, EngineOwner {
  private readonly ports: FunctionPorts;
  private readonly registers: RegisterFile;
  private readonly effect: (name: string) => void;
  private readonly engine: Engine;
  private readonly interrupts: Interrupts;
  private readonly events: AsyncEvents;
  private readonly errors: ErrorLog;
  private readonly features: Features;
  private readonly namespaces: readonly Namespace[];
  private readonly nvm: NvmCommands;
  private readonly admin: AdminCommands;
  /** Memory page size (CC.MPS). */
  private pageBytes: number;
  /** CC.EN and CC.SHN as they were acted upon. */
  private enabled: boolean;
  private shuttingDown: boolean;

  constructor(ports: FunctionPorts) {
    this.ports = ports;
    this.registers = new RegisterFile(DOORBELLS_AT, REGISTERS);
    this.effect = (name) => this.written(name);
    const engine = new Engine(ports.dma, ports.clock, this);
    this.engine = engine;
    this.interrupts = new Interrupts(ports, engine.completions);
    this.events = new AsyncEvents((command, status) => {
      engine.complete(command, status);
      engine.schedule();
    });
    this.errors = new ErrorLog();
    this.namespaces = ports.disks.map((disk, index) => new Namespace(index + 1, disk));
    this.features = new Features(this.namespaces.length, () => this.hasQueues());
    const statistics = new Statistics();
    this.nvm = new NvmCommands(this.namespaces, statistics);
    const { namespaces, events, features, errors } = this;
    const { vendorId, subsystemVendorId } = NVME.identity;
    const facts = { vendorId, subsystemVendorId, digits: digitsOf(ports.name), namespaces: namespaces.length };
    this.admin = new AdminCommands({ engine, events, features, errors, statistics, namespaces, facts });
    this.pageBytes = FRAME_BYTES;
    this.enabled = false;
    this.shuttingDown = false;
  }

  reset(): void {
    this.controllerReset();
    this.registers.reset();
    this.enabled = false;
    this.shuttingDown = false;
  }

  /** Doorbells cannot be read: they are 0. */
  readRegister(offset: number, size: number): number {
    return this.registers.read(offset, size);
  }

  writeRegister(offset: number, size: number, value: number): void {
    if (offset < DOORBELLS_AT) this.registers.write(offset, size, value, this.effect);
    else if (size === 4) this.ring((offset - DOORBELLS_AT) >>> 2, value);
  }

  execute(command: Command): number {
    if (command.entry[SQE_FLAGS]! & (FLAGS_FUSE | FLAGS_PSDT)) return INVALID_FIELD;
    if (command.queue!.id !== 0) return this.nvm.execute(command, this.pageBytes);
    return this.admin.execute(command, this.queueRules());
  }

  clearMore(command: Command): number {
    return this.nvm.clearMore(command);
  }

  failed(command: Command, status: number): void {
    const { id, queue, namespaceId } = command;
    const lba = queue!.id === 0 ? ([0, 0] as const) : ([command.dword(SQE_CDW10), command.dword(SQE_CDW11)] as const);
    this.errors.add({ queue: queue!.id, command: id, status, namespace: namespaceId, lba });
  }

  posted(queue: CompletionQueue): void {
    this.interrupts.posted(queue);
  }

  fatal(): void {
    this.engine.stop();
    this.interrupts.reset();
    this.events.reset();
    this.status = this.status | CSTS_CFS;
  }

  private get status(): number {
    return this.registers.get('CSTS');
  }

  private set status(status: number) {
    this.registers.set('CSTS', status);
  }

  private written(register: string): void {
    if (register === 'CC') this.configure(this.registers.get('CC'));
    else if (register === 'INTMS') this.setMask(this.interrupts.mask | this.registers.get('INTMS'));
    else if (register === 'INTMC') this.setMask(this.registers.get('INTMC'));
  }

  /** INTMS and INTMC show the same mask. */
  private setMask(mask: number): void {
    this.registers.set('INTMS', mask);
    this.registers.set('INTMC', mask);
    this.interrupts.mask = mask >>> 0;
    this.interrupts.refreshPin();
  }

  private configure(cc: number): void {
    const enable = (cc & CC_EN) !== 0;
    const shutDown = (cc & CC_SHN) !== 0;
    if (!enable && this.enabled) this.controllerReset();
    if (shutDown && !this.shuttingDown) this.shutDown();
    else if (enable && !this.enabled) this.enable(cc);
    this.enabled = enable;
    this.shuttingDown = shutDown;
  }

  /** 7.3.2: everything but the configuration of the admin queue. */
  private controllerReset(): void {
    this.engine.stop();
    this.events.reset();
    this.features.reset();
    this.setMask(0);
    this.interrupts.reset();
    this.status = 0;
  }

  private enable(cc: number): void {
    const pageLog2 = (cc >>> CC_MPS_SHIFT) & CC_MPS;
    const pageBytes = FRAME_BYTES << pageLog2;
    const attributes = this.registers.get('AQA');
    const submissions = (attributes & AQA_SIZE) + 1;
    const completions = ((attributes >>> AQA_ACQS_SHIFT) & AQA_SIZE) + 1;
    const known = pageLog2 <= MPSMAX && (cc & (CC_CSS | CC_AMS)) === 0;
    const aligned = this.isAligned('ASQ', pageBytes) && this.isAligned('ACQ', pageBytes);
    if (!known || !aligned || submissions < 2 || completions < 2) {
      this.status = CSTS_CFS;
      return;
    }
    this.pageBytes = pageBytes;
    const { engine } = this;
    engine.completions[0]!.open(this.registers.frameOf('ACQ'), completions, 0);
    engine.submissions[0]!.open(this.registers.frameOf('ASQ'), submissions, engine.completions[0]!);
    engine.running = true;
    this.status = CSTS_RDY;
  }

  /** 7.6.2: nothing more is fetched, and what was written is safe. */
  private shutDown(): void {
    this.engine.running = false;
    const safe = this.nvm.flush(this.namespaces) === SUCCESS;
    this.status = this.status | CSTS_SHST_COMPLETE | (safe ? 0 : CSTS_CFS);
  }

  private isAligned(register: string, pageBytes: number): boolean {
    return this.registers.frameOf(register) % (pageBytes / FRAME_BYTES) === 0;
  }

  private queueRules(): QueueRules {
    const { engine, features, pageBytes } = this;
    const cc = this.registers.get('CC');
    return {
      engine,
      features,
      enabledVectors: this.ports.enabledVectors,
      pageBytes,
      submissionEntryLog2: (cc >>> CC_IOSQES_SHIFT) & CC_ENTRY_SIZE,
      completionEntryLog2: (cc >>> CC_IOCQES_SHIFT) & CC_ENTRY_SIZE,
    };
  }

  private hasQueues(): boolean {
    const { submissions, completions } = this.engine;
    return [...submissions, ...completions].some(({ id, exists }) => id !== 0 && exists);
  }

  /** @param doorbell tail of SQ y: 2 * y; head of CQ y: 2 * y + 1 */
  private ring(doorbell: number, value: number): void {
    if (!(this.status & CSTS_RDY) || this.status & CSTS_CFS) return;
    const { engine } = this;
    const id = doorbell >>> 1;
    const queue = doorbell & 1 ? engine.completions[id] : engine.submissions[id];
    if (!queue?.exists) this.doorbellError(ERROR_INVALID_DOORBELL);
    else if (!queue.ring(value & 0xffff)) this.doorbellError(ERROR_INVALID_DOORBELL_VALUE);
    else if (doorbell & 1) {
      engine.makeRoom(engine.completions[id]!);
      this.interrupts.refreshPin();
    } else engine.schedule();
  }

  private doorbellError(information: number): void {
    this.errors.add({ ...NO_COMMAND, status: SUCCESS });
    this.events.raise(EVENT_ERROR, information);
  }
}

/**
 * 1b36 is the vendor of emulated devices, the device number is ours, nobody assigned it: drivers take it by its class, and
 * know of no quirks as they do for the numbers of real or other emulated controllers.
 */
export const NVME: FunctionKind = {
  name: 'nvme',
  identity: {
    vendorId: 0x1b36,
    deviceId: 0x0d3b,
    subsystemVendorId: 0x1b36,
    subsystemId: 0x0d3b,
    classCode: 0x010802,
    revision: 0x01,
    bar0Bytes: 0x4000,
    msix: { vectors: VECTORS, tableOffset: 0x2000, pendingOffset: 0x3000 },
    interruptPin: 1,
    registers: [],
  },
  create: (ports) => new NvmeController(ports),
};
