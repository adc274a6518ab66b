/**
 * A virtual interface of a CMDQV: what one VM, or the host, has of it. Its queues by logical index, the VMID under which
 * they invalidate, and slots that lead from virtual to physical StreamIDs.
 */
import { fail } from '../../../abi/errno.ts';
import { get, put } from '../../../hardware/smmuv3/spec/field.ts';
import { mayFail } from '../../failure-points.ts';
import type { Cmdqv } from './cmdqv.ts';
import { LogicalQueue } from './logical-queue.ts';
import { interfaceRegisters } from './places.ts';

export class Vintf {
  readonly index: number;
  /** By logical index. */
  readonly queues: Array<LogicalQueue | null>;
  /** A queue of it has stopped at an error: LVCMDQ_ERR_MAP, a bit for each queue that has. */
  onError: ((errorMap: Uint32Array) => void) | null;
  private readonly cmdqv: Cmdqv;
  private readonly at: ReturnType<typeof interfaceRegisters>;
  /** Virtual StreamIDs by slot. */
  private readonly streams: Array<bigint | null>;

  constructor(cmdqv: Cmdqv, index: number) {
    this.index = index;
    this.queues = new Array(cmdqv.queuesEach).fill(null);
    this.onError = null;
    this.cmdqv = cmdqv;
    this.at = interfaceRegisters(index);
    this.streams = new Array(cmdqv.streamsEach).fill(null);
  }

  /** Queues that exist. */
  get used(): number {
    return this.queues.filter((queue) => queue !== null).length;
  }

  /** @param hypervisor its queues take every command, as it is @returns whether the hardware grants that */
  start(vmid: number, hypervisor: boolean): boolean {
    const { registers } = this.cmdqv;
    const { config, status } = this.at;
    const { HYP_OWN, VMID, ENABLE } = config.fields;
    this.stop();
    const value = new Uint32Array(1);
    put(value, 0, VMID, vmid);
    put(value, 0, HYP_OWN, hypervisor ? 1 : 0);
    registers.write(config, value[0]!);
    put(value, 0, ENABLE, 1);
    registers.switch(config, status, value[0]!);
    return get(Uint32Array.of(registers.read(config)), 0, HYP_OWN) === 1;
  }

  stop(): void {
    // Also of indices without a queue: those that went out of order stayed with the interface.
    for (let logical = this.queues.length - 1; logical >= 0; logical--) {
      this.queues[logical]?.free();
      this.cmdqv.allocate(this.index, logical, false);
    }
    this.cmdqv.registers.switch(this.at.config, this.at.status, 0);
    for (let slot = 0; slot < this.streams.length; slot++) this.clearSlot(slot);
  }

  /** Adds a queue, stopped; the one before it exists already. */
  addQueue(index: number, dependsOn: LogicalQueue | null): LogicalQueue {
    mayFail('a VCMDQ');
    const queue = new LogicalQueue(this.cmdqv, this.index, index, dependsOn, () => {
      this.queues[index] = null;
    });
    this.queues[index] = queue;
    return queue;
  }

  /** ENOSPC when all slots are taken. */
  addStream(virtualId: bigint, stream: number): void {
    mayFail('a slot of a virtual StreamID');
    const slot = this.streams.indexOf(null);
    if (slot < 0) {
      throw fail('ENOSPC', `VINTF ${this.index} has ${this.streams.length} slots for StreamIDs, and all are taken`);
    }
    this.streams[slot] = virtualId;
    const match = this.at.sidMatch(slot);
    const value = new Uint32Array(1);
    // Bits that the slot does not have fall off, as with kernels.
    put(value, 0, match.fields.VIRT_SID, Number(virtualId));
    put(value, 0, match.fields.ENABLE, 1);
    this.cmdqv.registers.write(this.at.sidReplace(slot), stream);
    this.cmdqv.registers.write(match, value[0]!);
  }

  removeStream(virtualId: bigint): void {
    const slot = this.streams.indexOf(virtualId);
    if (slot < 0) throw new Error(`virtual StreamID ${virtualId} has no slot of VINTF ${this.index}`);
    this.clearSlot(slot);
  }

  errorMap(): Uint32Array {
    return Uint32Array.from(this.at.errorMap, (register) => this.cmdqv.registers.read(register));
  }

  private clearSlot(slot: number): void {
    this.streams[slot] = null;
    this.cmdqv.registers.write(this.at.sidMatch(slot), 0);
    this.cmdqv.registers.write(this.at.sidReplace(slot), 0);
  }
}
