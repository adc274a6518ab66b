/**
 * The guest's driver of a CMDQV in front of its SMMU, with what a kernel's does: it takes VINTF 0 for itself, finds out
 * whether it is a hypervisor there, and sends the commands that its queues take by them, past whoever is beneath it.
 */
import * as spec from '../../hardware/cmdqv/spec/registers.ts';
import type { MmioDevice } from '../../hardware/iommu.ts';
import {
  CMD,
  CMD_ATC_INV,
  CMD_TLBI_NH_ASID,
  CMD_TLBI_NH_VA,
  COMMAND_BYTES,
} from '../../hardware/smmuv3/spec/commands.ts';
import { type Field, get, put } from '../../hardware/smmuv3/spec/field.ts';
import { type Command, sync } from './commands.ts';
import { GuestQueue } from './queue.ts';
import type { GuestRam } from './ram.ts';

const { CONFIG, PARAM, STATUS, VI_ERR_MAP, CMDQ_ALLOC_MAP } = spec.CONFIG_REGISTERS;
const { VINTF, PAGE0, PAGE1 } = spec;

const MOST_LOG2_ENTRIES = 12;
/** What a queue takes of a guest that owns no hypervisor's interface. */
const GUEST_OPCODES: readonly number[] = [CMD_TLBI_NH_ASID, CMD_TLBI_NH_VA, CMD_ATC_INV];

export interface CmdqvOptions {
  /** The driver's own mistake: it sends every command through its queues. */
  readonly unfiltered?: boolean;
}

/** An error that a queue has met: CONS_INDX.ERR, and the command's index. */
export interface QueueError {
  readonly queue: number;
  readonly code: number;
  readonly index: number;
}

interface LogicalQueue {
  readonly index: number;
  readonly ring: GuestQueue;
}

export class GuestCmdqvDriver {
  /** Errors that the interrupt has told of, oldest first. */
  readonly errors: QueueError[];
  /** How often commands were not carried out in time. */
  timeouts: number;
  /** It has read back that VINTF 0 is a hypervisor's. */
  hypOwn: boolean;
  private readonly mmio: MmioDevice;
  private readonly ram: GuestRam;
  private readonly unfiltered: boolean;
  /** Those that run. */
  private queues: readonly LogicalQueue[];
  /** Whose turn it is. */
  private turn: number;

  constructor(mmio: MmioDevice, ram: GuestRam, { unfiltered = false }: CmdqvOptions = {}) {
    this.errors = [];
    this.timeouts = 0;
    this.hypOwn = false;
    this.mmio = mmio;
    this.ram = ram;
    this.unfiltered = unfiltered;
    this.queues = [];
    this.turn = 0;
  }

  /** How many of its queues run; where none does, every command goes by the SMMU's own. */
  get running(): number {
    return this.queues.length;
  }

  /** @param log2Entries at most, as the SMMU says (IDR1.CMDQS) */
  start(log2Entries: number): void {
    this.queues = [];
    this.write(CONFIG.offset, CONFIG.reset & ~1);
    this.write(CONFIG.offset, CONFIG.reset | 1);
    if (this.field(STATUS.offset, STATUS.fields.CMDQV_ENABLED) === 0) return;
    const { CMDQV_NUM_CMDQ_LOG2, CMDQV_NUM_VI_LOG2 } = PARAM.fields;
    const count = 2 ** (this.field(PARAM.offset, CMDQV_NUM_CMDQ_LOG2) - this.field(PARAM.offset, CMDQV_NUM_VI_LOG2));
    const config = new Uint32Array(1);
    put(config, 0, VINTF.CONFIG.fields.HYP_OWN, 1);
    put(config, 0, VINTF.CONFIG.fields.ENABLE, 1);
    this.write(spec.VINTF_REGISTERS + VINTF.CONFIG.offset, config[0]!);
    this.hypOwn = this.field(spec.VINTF_REGISTERS + VINTF.CONFIG.offset, VINTF.CONFIG.fields.HYP_OWN) === 1;
    const queues = Array.from({ length: count }, (_, index) => this.startQueue(index, log2Entries));
    this.queues = queues.filter((queue) => queue !== null);
  }

  /** A queue takes it. */
  takes(command: Command): boolean {
    if (this.queues.length === 0) return false;
    return this.hypOwn || this.unfiltered || GUEST_OPCODES.includes(get(command, 0, CMD.Opcode));
  }

  push(command: Command): void {
    this.current.ring.push(command);
  }

  /** Has the commands carried out; the next ones go by the next queue. */
  ring(): void {
    const { ring } = this.current;
    ring.ring();
    if (!ring.consumed) this.timeouts++;
    this.turn++;
  }

  /** Skips what was in error, and lets the queues go on. One that stops at the same place again is given up. */
  interrupt(): void {
    if ((this.read(VI_ERR_MAP.offset) & 1) === 0) return;
    const map = this.read(spec.VINTF_REGISTERS + VINTF.LVCMDQ_ERR_MAP.offset);
    for (const queue of this.queues.filter(({ index }) => (map >>> index) & 1)) {
      const error = {
        queue: queue.index,
        code: this.errorOf(queue.index),
        index: this.field(page0(queue.index) + PAGE0.CONS_INDX.offset, PAGE0.CONS_INDX.fields.RD),
      };
      const before = this.errors.findLast((other) => other.queue === error.queue);
      this.errors.push(error);
      if (before?.index === error.index) this.giveUp(queue);
      else queue.ring.mend(sync());
      this.write(page0(queue.index) + PAGE0.GERRORN.offset, this.read(page0(queue.index) + PAGE0.GERROR.offset));
    }
  }

  /** CONS_INDX.ERR of a queue, as it stands. */
  errorOf(queue: number): number {
    return this.field(page0(queue) + PAGE0.CONS_INDX.offset, PAGE0.CONS_INDX.fields.ERR);
  }

  private giveUp(queue: LogicalQueue): void {
    this.write(page0(queue.index) + PAGE0.CONFIG.offset, 0);
    this.queues = this.queues.filter((other) => other !== queue);
  }

  private get current(): LogicalQueue {
    return this.queues[this.turn % this.queues.length]!;
  }

  /** @returns null when whoever is beneath does not let it run */
  private startQueue(index: number, log2Entries: number): LogicalQueue | null {
    const allocation = new Uint32Array(1);
    put(allocation, 0, CMDQ_ALLOC_MAP.fields.LVCMDQ, index);
    put(allocation, 0, CMDQ_ALLOC_MAP.fields.ALLOC, 1);
    this.write(CMDQ_ALLOC_MAP.offset + 4 * index, allocation[0]!);
    this.write(page0(index) + PAGE0.CONFIG.offset, 0);
    const registers = {
      base: page1(index) + PAGE1.BASE.offset,
      prod: page0(index) + PAGE0.PROD_INDX.offset,
      cons: page0(index) + PAGE0.CONS_INDX.offset,
    };
    const log2 = Math.min(log2Entries, MOST_LOG2_ENTRIES);
    const ring = new GuestQueue(this.mmio, this.ram, registers, log2, COMMAND_BYTES);
    ring.start();
    this.write(page0(index) + PAGE0.CONFIG.offset, 1);
    return this.field(page0(index) + PAGE0.STATUS.offset, PAGE0.STATUS.fields.CMDQ_EN_OK) === 1
      ? { index, ring }
      : null;
  }

  private field(offset: number, field: Field): number {
    return get(Uint32Array.of(this.read(offset)), 0, field);
  }

  private read(offset: number): number {
    return this.mmio.readRegister(offset, 4);
  }

  private write(offset: number, value: number): void {
    this.mmio.writeRegister(offset, 4, value >>> 0);
  }
}

const page0 = (queue: number): number => spec.VINTF_PAGES + queue * spec.VCMDQ_BYTES;
const page1 = (queue: number): number => spec.VINTF_PAGES + spec.PAGE_BYTES + queue * spec.VCMDQ_BYTES;
