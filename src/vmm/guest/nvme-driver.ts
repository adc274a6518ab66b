/**
 * The guest's driver of an NVMe controller: admin queue and one pair of I/O queues, commands one at a
 * time, polled. All its memory is mapped page by page, at IOVAs that have nothing to do with where the pages lie.
 */

import {
  CC_EN,
  CC_IOCQES_SHIFT,
  CC_IOSQES_SHIFT,
  CSTS_RDY,
  DOORBELLS_AT,
} from '../../hardware/pci/nvme/spec/registers.ts';
import { COMMAND_MASTER, COMMAND_MEMORY } from '../../hardware/pci/spec/config-space.ts';
import type { AddressSpace } from './address-space.ts';
import type { GuestFunction } from './function.ts';
import { PAGE } from './ram.ts';
import type { GuestSmmuDriver } from './smmu-driver.ts';

const CC = 0x14;
const CSTS = 0x1c;
const AQA = 0x24;
const ASQ = 0x28;
const ACQ = 0x30;

const ENTRIES = 8;
const SUBMISSION_BYTES = 64;
const COMPLETION_BYTES = 16;
/** Entries of 2^6 and 2^4 bytes. */
const ENTRY_SIZES = (6 << CC_IOSQES_SHIFT) | (4 << CC_IOCQES_SHIFT);
const BLOCK = 512;

const CREATE_SQ = 0x01;
const CREATE_CQ = 0x05;
const CONTIGUOUS = 1;
const WRITE = 0x01;
const READ = 0x02;

interface Page {
  readonly iova: bigint;
  gpa: bigint;
}

interface Ring {
  readonly submissions: Page;
  readonly completions: Page;
  /** Doorbell of the submission queue. */
  readonly doorbell: number;
  tail: number;
  head: number;
  phase: number;
}

export class NvmeDriver {
  private readonly fn: GuestFunction;
  private readonly smmu: GuestSmmuDriver;
  private readonly space: AddressSpace;
  private readonly buffer: Page;
  private readonly admin: Ring;
  private readonly io: Ring;
  private nextIova: bigint;
  private nextId: number;

  constructor(fn: GuestFunction, smmu: GuestSmmuDriver, space: AddressSpace) {
    this.fn = fn;
    this.smmu = smmu;
    this.space = space;
    this.nextIova = 0xffff_0000n;
    this.nextId = 1;
    this.admin = this.ring(0);
    this.io = this.ring(1);
    this.buffer = this.page();
  }

  /** Enables the controller and makes the I/O queues. */
  start(): void {
    const { fn, admin, io } = this;
    fn.setCommand(COMMAND_MEMORY | COMMAND_MASTER);
    fn.writeBar(CC, 0);
    this.clear(admin);
    this.clear(io);
    fn.writeBar(AQA, (ENTRIES - 1) * 0x1_0001);
    this.write64(ASQ, admin.submissions.iova);
    this.write64(ACQ, admin.completions.iova);
    fn.writeBar(CC, ENTRY_SIZES | CC_EN);
    if ((fn.readBar(CSTS) & CSTS_RDY) === 0) throw new Error('the NVMe controller is not ready');
    const queue = 1 + (ENTRIES - 1) * 0x1_0000;
    this.must(this.run(admin, CREATE_CQ, 0, io.completions.iova, [queue, CONTIGUOUS]));
    this.must(this.run(admin, CREATE_SQ, 0, io.submissions.iova, [queue, CONTIGUOUS | 0x1_0000]));
  }

  /** Writes one block. @returns the status, 0 for success */
  writeBlock(block: number, text: string): number {
    const bytes = this.smmu.ram.at(this.buffer.gpa, BLOCK);
    bytes.set(new TextEncoder().encode(text.padEnd(BLOCK)));
    return this.run(this.io, WRITE, 1, this.buffer.iova, [block, 0, 0]);
  }

  /** Reads one block as text; the status when it is not 0. */
  readBlock(block: number): string | number {
    const bytes = this.smmu.ram.at(this.buffer.gpa, BLOCK).fill(0);
    const status = this.run(this.io, READ, 1, this.buffer.iova, [block, 0, 0]);
    return status || new TextDecoder().decode(bytes).trimEnd();
  }

  /** Gives the buffer another page at the same IOVA, as every I/O of a kernel does. */
  moveBuffer(): void {
    const gpa = this.smmu.ram.allocate();
    this.smmu.unmap(this.space, this.buffer.iova);
    this.smmu.map(this.space, this.buffer.iova, gpa);
    this.buffer.gpa = gpa;
  }

  private run(ring: Ring, opcode: number, nsid: number, prp1: bigint, dwords: readonly number[]): number {
    const { ram } = this.smmu;
    const entry = ram.words(ring.submissions.gpa + BigInt(SUBMISSION_BYTES * ring.tail), SUBMISSION_BYTES / 4).fill(0);
    entry[0] = opcode | (this.nextId++ << 16);
    entry[1] = nsid;
    entry[6] = Number(prp1 & 0xffff_ffffn);
    entry[7] = Number(prp1 >> 32n);
    entry.set(dwords, 10);
    ring.tail = (ring.tail + 1) % ENTRIES;
    this.fn.writeBar(ring.doorbell, ring.tail);
    return this.complete(ring);
  }

  /** @returns status code and type of the oldest completion */
  private complete(ring: Ring): number {
    const at = ring.completions.gpa + BigInt(COMPLETION_BYTES * ring.head);
    const status = this.smmu.ram.words(at, 4)[3]! >>> 16;
    if ((status & 1) !== ring.phase) throw new Error('the NVMe controller does not complete a command');
    ring.head = (ring.head + 1) % ENTRIES;
    if (ring.head === 0) ring.phase ^= 1;
    this.fn.writeBar(ring.doorbell + 4, ring.head);
    return (status >>> 1) & 0x7ff;
  }

  private must(status: number): void {
    if (status) throw new Error(`an NVMe admin command ends with status 0x${status.toString(16)}`);
  }

  private ring(queue: number): Ring {
    const [submissions, completions] = [this.page(), this.page()];
    return { submissions, completions, doorbell: DOORBELLS_AT + 8 * queue, tail: 0, head: 0, phase: 1 };
  }

  private clear(ring: Ring): void {
    for (const { gpa } of [ring.submissions, ring.completions]) this.smmu.ram.at(gpa, PAGE).fill(0);
    Object.assign(ring, { tail: 0, head: 0, phase: 1 });
  }

  private page(): Page {
    this.nextIova -= BigInt(PAGE);
    const made = { iova: this.nextIova, gpa: this.smmu.ram.allocate() };
    this.smmu.map(this.space, made.iova, made.gpa);
    return made;
  }

  private write64(offset: number, value: bigint): void {
    this.fn.writeBar(offset, Number(value & 0xffff_ffffn));
    this.fn.writeBar(offset + 4, Number(value >> 32n));
  }
}
