/** The driver's end of a queue that the SMMU fills: events and page requests (3.5.4, 7.2, 8.1). */
import { get, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import { FRAME_BYTES, type PhysicalMemory } from '../../memory/physical-memory.ts';
import type { FrameAllocator } from '../frame-allocator.ts';
import type { Registers } from './registers.ts';

const EVENT_REGISTERS = { base: REGISTERS.EVENTQ_BASE, prod: REGISTERS.EVENTQ_PROD, cons: REGISTERS.EVENTQ_CONS };
const PAGE_REQUEST_REGISTERS = { base: REGISTERS.PRIQ_BASE, prod: REGISTERS.PRIQ_PROD, cons: REGISTERS.PRIQ_CONS };

export class RecordQueue {
  private readonly registers: Registers;
  private readonly memory: PhysicalMemory;
  private readonly at: typeof EVENT_REGISTERS | typeof PAGE_REQUEST_REGISTERS;
  private readonly log2Entries: number;
  private readonly recordBytes: number;
  private readonly firstFrame: number;
  private readonly record: Uint32Array;

  constructor(
    kind: 'events' | 'page-requests',
    registers: Registers,
    memory: PhysicalMemory,
    frames: FrameAllocator,
    log2Entries: number,
    recordBytes: number,
  ) {
    this.registers = registers;
    this.memory = memory;
    this.at = kind === 'events' ? EVENT_REGISTERS : PAGE_REQUEST_REGISTERS;
    this.log2Entries = log2Entries;
    this.recordBytes = recordBytes;
    this.firstFrame = frames.allocate(Math.max(0, log2Entries - Math.log2(FRAME_BYTES / recordBytes)));
    this.record = new Uint32Array(recordBytes / 4);
  }

  /** Tells the SMMU where the queue is; it must be disabled. */
  install(): void {
    const base = new Uint32Array(2);
    putFrame(base, 0, this.at.base.fields.ADDR, this.firstFrame);
    put(base, 0, this.at.base.fields.LOG2SIZE, this.log2Entries);
    put(base, 0, this.at.base.fields.WA, 1);
    this.registers.write64(this.at.base, base);
    this.registers.write(this.at.prod, 0);
    this.registers.write(this.at.cons, 0);
  }

  /**
   * Hands over every record that is there (the words are valid during the call) and frees its place.
   * @returns whether the SMMU lost records before (overflow, acknowledged now)
   */
  drain(handle: (words: Uint32Array) => void): boolean {
    const { prod, cons } = this.at;
    const indices = Uint32Array.of(this.registers.read(prod), this.registers.read(cons));
    const { WR, OVFLG } = prod.fields;
    const { RD, OVACKFLG } = cons.fields;
    const overflow = get(indices, 0, OVFLG) !== get(indices, 1, OVACKFLG);
    put(indices, 1, OVACKFLG, get(indices, 0, OVFLG));
    let read = get(indices, 1, RD);
    const written = get(indices, 0, WR);
    while (read !== written) {
      this.load(read % 2 ** this.log2Entries);
      read = (read + 1) % 2 ** (this.log2Entries + 1);
      put(indices, 1, RD, read);
      // The place is free before the record is handled: what it sets off may need it.
      this.registers.write(cons, indices[1]!);
      handle(this.record);
    }
    if (overflow) this.registers.write(cons, indices[1]!);
    return overflow;
  }

  private load(index: number): void {
    const byte = index * this.recordBytes;
    const frame = this.firstFrame + Math.floor(byte / FRAME_BYTES);
    for (let word = 0; word < this.record.length; word += 2) {
      this.memory.load64(frame, (byte % FRAME_BYTES) + word * 4);
      this.record[word] = this.memory.lo;
      this.record[word + 1] = this.memory.hi;
    }
  }
}
