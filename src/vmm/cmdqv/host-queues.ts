/**
 * The host's half of a virtual CMDQV: page 0 of a VINTF, mapped, where loads and stores reach the hardware; and the queues
 * that the hardware reads by itself. They begin in the order of their indices and end in the reverse.
 */
import type { MappedRegisters } from '../../iommufd/file.ts';
import { Refused } from '../client.ts';
import type { HostSlicePort } from '../host-slice.ts';
import type { VintfSlice } from '../slice-calls.ts';

export class HostQueues {
  private readonly port: HostSlicePort;
  private readonly viommuId: number;
  /** Where page 0 is mapped in the process. */
  private readonly address: bigint;
  private readonly page0: MappedRegisters;
  /** IDs by index. */
  private readonly ids: Map<number, number>;
  private readonly word: Uint32Array<ArrayBuffer>;

  constructor(port: HostSlicePort, { viommuId, offset, length }: VintfSlice) {
    const { process } = port.client;
    this.port = port;
    this.viommuId = viommuId;
    this.address = process.mapRegisters(port.iommufd, length, offset);
    this.page0 = process.registersAt(this.address, BigInt(length))!.registers;
    this.ids = new Map();
    this.word = new Uint32Array(1);
  }

  runs(index: number): boolean {
    return this.ids.has(index);
  }

  /** The guest has said where its queue is. Some places the host refuses: then the queue does not run. */
  start(index: number, gpa: bigint, log2Entries: number): void {
    this.stop(index);
    try {
      this.ids.set(index, this.port.calls.allocQueue(this.viommuId, index, gpa, log2Entries));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }

  stop(index: number): void {
    const id = this.ids.get(index);
    if (id === undefined) return;
    this.ids.delete(index);
    this.port.teardown.destroy(id);
  }

  stopAll(): void {
    const indices = [...this.ids.keys()].sort((a, b) => b - a);
    if (this.port.faults.queuesFirstToLast) indices.reverse();
    for (const index of indices) this.stop(index);
  }

  /** The guest starts again. */
  reset(): void {
    if (this.port.faults.forgetQueues) this.ids.clear();
    else this.stopAll();
  }

  /** Takes page 0 away. */
  unmap(): void {
    if (!this.port.faults.keepPageMapped) this.port.client.process.unmapRegisters(this.address);
  }

  load(offset: number): number {
    this.page0.load(offset, new Uint8Array(this.word.buffer));
    return this.word[0]!;
  }

  store(offset: number, value: number): void {
    this.word[0] = value;
    this.page0.store(offset, new Uint8Array(this.word.buffer));
    this.port.client.machine.settle();
  }
}
