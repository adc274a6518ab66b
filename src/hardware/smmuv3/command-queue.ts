/**
 * The SMMU's command queue (IHI 0070, 7.1). Commands are consumed in order within the register write that lets them be:
 * PROD moves, CR0.CMDQEN is set, or GERRORN acknowledges an error. So a CMD_SYNC has nothing to wait for.
 */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { CommandExecutor } from './command-executor.ts';
import { CommandRing } from './command-ring.ts';
import type { GlobalErrors } from './global-errors.ts';
import { AT, type RegisterFile } from './register-file.ts';
import { CERROR_ABT, CERROR_NAMES, COMMAND_WORDS } from './spec/commands.ts';
import { get } from './spec/field.ts';
import { CMDQ_ERR, REGISTERS } from './spec/registers.ts';

const CR0 = REGISTERS.CR0.fields;
const RING = { BASE: AT.CMDQ_BASE, PROD: AT.CMDQ_PROD, CONS: AT.CMDQ_CONS };

export class CommandQueue {
  private readonly name: string;
  private readonly registers: RegisterFile;
  private readonly ring: CommandRing;
  private readonly errors: GlobalErrors;
  private readonly executor: CommandExecutor;
  private readonly tracer: Tracer;
  private readonly command: Uint32Array;
  private consuming: boolean;

  /** @param log2Most log2 of the most entries: IDR1.CMDQS */
  constructor(
    name: string,
    registers: RegisterFile,
    memory: PhysicalMemory,
    log2Most: number,
    errors: GlobalErrors,
    executor: CommandExecutor,
    tracer: Tracer,
  ) {
    this.name = name;
    this.registers = registers;
    this.ring = new CommandRing(memory, registers.words, RING, log2Most);
    this.errors = errors;
    this.executor = executor;
    this.tracer = tracer;
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
    if (get(this.registers.words, AT.CR0, CR0.CMDQEN) === 0 || this.errors.active(CMDQ_ERR)) return false;
    return !this.ring.empty;
  }

  private step(): void {
    const { ring, command } = this;
    const error = ring.fetch(command) ? this.executor.execute(command) : CERROR_ABT;
    if (this.tracer.on) {
      this.tracer.emit({
        type: 'command',
        iommu: this.name,
        architecture: 'smmuv3',
        words: [...command],
        error: CERROR_NAMES[error] ?? '',
      });
    }
    if (error === 0) {
      ring.advance();
    } else {
      ring.stop(error);
      this.errors.activate(CMDQ_ERR);
    }
  }
}
