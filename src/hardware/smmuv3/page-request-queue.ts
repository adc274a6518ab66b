/** PRI: page requests of devices, and the automatic answers to those that cannot be queued (IHI 0070, chapter 8). */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { type PageRequest, PRG_FAILURE, PRG_SUCCESS } from '../iommu.ts';
import type { GlobalErrors } from './global-errors.ts';
import type { Interrupts } from './interrupts.ts';
import { OutputQueue, PUSHED_FIRST, QUEUE_ABORT, QUEUE_FULL } from './output-queue.ts';
import { AT, type RegisterFile } from './register-file.ts';
import { get, put, putFrame } from './spec/field.ts';
import { PAGE_REQUEST, PAGE_REQUEST_WORDS } from './spec/page-requests.ts';
import { PRIQ_ABT_ERR, REGISTERS } from './spec/registers.ts';

/** The request was queued; software will answer it. */
export const PRG_QUEUED = -1;
/** Discarded, and no answer is due (not the last of its group). */
export const PRG_DISCARDED = -2;

const CR0 = REGISTERS.CR0.fields;
const LO = REGISTERS.PRIQ_IRQ_CFG2.fields.LO;

export class PageRequestQueue {
  private readonly registers: RegisterFile;
  private readonly queue: OutputQueue;
  private readonly errors: GlobalErrors;
  private readonly interrupts: Interrupts;
  private readonly entry: Uint32Array;

  constructor(
    registers: RegisterFile,
    memory: PhysicalMemory,
    errors: GlobalErrors,
    interrupts: Interrupts,
    maxLog2: number,
  ) {
    this.registers = registers;
    this.errors = errors;
    this.interrupts = interrupts;
    this.entry = new Uint32Array(PAGE_REQUEST_WORDS);
    const names = { base: 'PRIQ_BASE', prod: 'PRIQ_PROD', cons: 'PRIQ_CONS' } as const;
    this.queue = new OutputQueue(registers, memory, names, maxLog2);
  }

  /** Takes a request. Returns PRG_QUEUED, PRG_DISCARDED, or the code of an automatic response. */
  accept(request: PageRequest): number {
    const { write, read, last, substream } = request;
    // A Stop PASID marker: L W R = 0b100 with a PASID. It is never answered.
    const marker = last && !write && !read && substream >= 0;
    const words = this.registers.words;
    const enabled = get(words, AT.CR0, CR0.SMMUEN) === 1 && get(words, AT.CR0, CR0.PRIQEN) === 1;
    if (!enabled || this.errors.active(PRIQ_ABT_ERR)) return marker ? PRG_DISCARDED : PRG_FAILURE;
    const code = this.queue.overflowed ? QUEUE_FULL : this.queue.push(this.encode(request));
    if (code === QUEUE_ABORT) {
      this.errors.activate(PRIQ_ABT_ERR);
      return marker ? PRG_DISCARDED : PRG_FAILURE;
    }
    if (code === QUEUE_FULL) this.queue.overflow();
    this.interrupt(code === PUSHED_FIRST, last);
    if (code !== QUEUE_FULL) return PRG_QUEUED;
    return last && !marker ? PRG_SUCCESS : PRG_DISCARDED;
  }

  /** LO chooses between "no longer empty" and "a request with Last came, queued or lost" (6.3.36). */
  private interrupt(first: boolean, last: boolean): void {
    const lastOnly = get(this.registers.words, AT.PRIQ_IRQ_CFG2, LO) === 1;
    if (!(lastOnly ? last : first)) return;
    const abort = this.interrupts.raise('PRIQ');
    if (abort !== 0) this.errors.activate(abort);
  }

  private encode(request: PageRequest): Uint32Array {
    const entry = this.entry.fill(0);
    put(entry, 0, PAGE_REQUEST.StreamID, request.stream);
    if (request.substream >= 0) {
      put(entry, 0, PAGE_REQUEST.SSV, 1);
      put(entry, 0, PAGE_REQUEST.SubstreamID, request.substream);
      put(entry, 0, PAGE_REQUEST.Priv, Number(request.privileged));
      put(entry, 0, PAGE_REQUEST.Execute, Number(request.execute));
    }
    put(entry, 0, PAGE_REQUEST.Read, Number(request.read));
    put(entry, 0, PAGE_REQUEST.Write, Number(request.write));
    put(entry, 0, PAGE_REQUEST.Last, Number(request.last));
    putFrame(entry, 0, PAGE_REQUEST.Address, request.frame);
    put(entry, 0, PAGE_REQUEST.PRGIndex, request.groupIndex);
    return entry;
  }
}
