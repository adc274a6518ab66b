/** Recording of events (IHI 0070, 7.2 to 7.4). A record is built in `record` and written with `write`. */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { GlobalErrors } from './global-errors.ts';
import type { Interrupts } from './interrupts.ts';
import { OutputQueue, PUSHED_FIRST, QUEUE_ABORT, QUEUE_FULL } from './output-queue.ts';
import { AT, type RegisterFile } from './register-file.ts';
import { EVENT, EVENT_WORDS } from './spec/events.ts';
import { get, put } from './spec/field.ts';
import { EVENTQ_ABT_ERR, REGISTERS } from './spec/registers.ts';

export class EventQueue {
  readonly record: Uint32Array;
  private readonly name: string;
  private readonly registers: RegisterFile;
  private readonly queue: OutputQueue;
  private readonly errors: GlobalErrors;
  private readonly interrupts: Interrupts;
  private readonly tracer: Tracer;

  constructor(
    name: string,
    registers: RegisterFile,
    memory: PhysicalMemory,
    errors: GlobalErrors,
    interrupts: Interrupts,
    tracer: Tracer,
    maxLog2: number,
  ) {
    this.name = name;
    this.registers = registers;
    this.errors = errors;
    this.interrupts = interrupts;
    this.tracer = tracer;
    this.record = new Uint32Array(EVENT_WORDS);
    const names = { base: 'EVENTQ_BASE', prod: 'EVENTQ_PROD', cons: 'EVENTQ_CONS' } as const;
    this.queue = new OutputQueue(registers, memory, names, maxLog2);
  }

  /** A record would be written now (7.2.1). */
  get writable(): boolean {
    return this.deliverable && !this.queue.full;
  }

  /** Clears `record` and fills what every event has. `substream` below 0: none was provided. */
  begin(type: number, stream: number, substream: number): Uint32Array {
    const record = this.record.fill(0);
    put(record, 0, EVENT.Type, type);
    put(record, 0, EVENT.StreamID, stream);
    if (substream >= 0) {
      put(record, 0, EVENT.SSV, 1);
      put(record, 0, EVENT.SubstreamID, substream);
    }
    return record;
  }

  /** Delivers `record`, or loses it: queue disabled, full (overflow), or not accessible. */
  write(): void {
    const lost = !this.deliver();
    if (!this.tracer.on) return;
    this.tracer.emit({ type: 'fault', iommu: this.name, architecture: 'smmuv3', words: [...this.record], lost });
  }

  private get deliverable(): boolean {
    const enabled = get(this.registers.words, AT.CR0, REGISTERS.CR0.fields.EVENTQEN) === 1;
    return enabled && !this.errors.active(EVENTQ_ABT_ERR);
  }

  private deliver(): boolean {
    if (!this.deliverable) return false;
    const outcome = this.queue.push(this.record);
    if (outcome === QUEUE_FULL) this.queue.overflow();
    if (outcome === QUEUE_ABORT) this.errors.activate(EVENTQ_ABT_ERR);
    if (outcome === PUSHED_FIRST) {
      const abort = this.interrupts.raise('EVENTQ');
      if (abort !== 0) this.errors.activate(abort);
    }
    return outcome !== QUEUE_FULL && outcome !== QUEUE_ABORT;
  }
}
