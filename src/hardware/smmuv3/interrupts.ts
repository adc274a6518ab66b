/** Interrupt sources (IHI 0070, 3.18): a wired line, and a message where one is configured. */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Clock } from '../clock.ts';
import type { InterruptLine } from '../iommu.ts';
import { AT, type RegisterFile } from './register-file.ts';
import { frameAt, get, offsetAt } from './spec/field.ts';
import {
  MSI_CMDQ_ABT_ERR,
  MSI_EVENTQ_ABT_ERR,
  MSI_GERROR_ABT_ERR,
  MSI_PRIQ_ABT_ERR,
  REGISTERS,
} from './spec/registers.ts';

/** Wired outputs. They pulse on the machine's clock, never within the access that caused them. */
export interface InterruptLines {
  readonly eventq: InterruptLine;
  readonly priq: InterruptLine;
  readonly cmdqSync: InterruptLine;
  readonly gerror: InterruptLine;
}

const IRQ_CTRL = REGISTERS.IRQ_CTRL.fields;
const MSI_ADDR = REGISTERS.EVENTQ_IRQ_CFG0.fields.ADDR;

const SOURCES = {
  EVENTQ: {
    enable: IRQ_CTRL.EVENTQ_IRQEN,
    address: AT.EVENTQ_IRQ_CFG0,
    data: AT.EVENTQ_IRQ_CFG1,
    abort: MSI_EVENTQ_ABT_ERR,
    line: 'eventq',
  },
  PRIQ: {
    enable: IRQ_CTRL.PRIQ_IRQEN,
    address: AT.PRIQ_IRQ_CFG0,
    data: AT.PRIQ_IRQ_CFG1,
    abort: MSI_PRIQ_ABT_ERR,
    line: 'priq',
  },
  GERROR: {
    enable: IRQ_CTRL.GERROR_IRQEN,
    address: AT.GERROR_IRQ_CFG0,
    data: AT.GERROR_IRQ_CFG1,
    abort: MSI_GERROR_ABT_ERR,
    line: 'gerror',
  },
} as const;

export type InterruptSource = keyof typeof SOURCES;

export class Interrupts {
  private readonly registers: RegisterFile;
  private readonly memory: PhysicalMemory;
  private readonly clock: Clock;
  private readonly lines: InterruptLines;
  private readonly msi: boolean;

  constructor(
    registers: RegisterFile,
    memory: PhysicalMemory,
    clock: Clock,
    lines: InterruptLines,
    settings: { readonly msi: boolean },
  ) {
    this.registers = registers;
    this.memory = memory;
    this.clock = clock;
    this.lines = lines;
    this.msi = settings.msi;
  }

  /** Raises an interrupt if it is enabled. Returns the global error that an aborted message activates, or 0. */
  raise(source: InterruptSource): number {
    const { enable, address, data, abort, line } = SOURCES[source];
    const words = this.registers.words;
    if (get(words, AT.IRQ_CTRL, enable) === 0) return 0;
    this.clock.defer(this.lines[line]);
    return this.message(frameAt(words, address, MSI_ADDR), offsetAt(words, address, MSI_ADDR), words[data]!)
      ? 0
      : abort;
  }

  /** Completion of a CMD_SYNC with SIG_IRQ: address and data are the command's (4.7.3). */
  syncComplete(frame: number, offset: number, data: number): number {
    this.clock.defer(this.lines.cmdqSync);
    return this.message(frame, offset, data) ? 0 : MSI_CMDQ_ABT_ERR;
  }

  private message(frame: number, offset: number, data: number): boolean {
    if (!this.msi || (frame === 0 && offset === 0)) return true;
    return this.memory.store32(frame, offset, data);
  }
}
