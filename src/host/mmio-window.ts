/** The first GiB of the physical address space: registers of IOMMUs, the MSI doorbell and BARs of functions, side by side. */
import type { MmioDevice } from '../hardware/iommu.ts';
import { readRegisters, writeRegisters } from '../hardware/register-access.ts';
import { type Backing, FRAME_BYTES, NO_REQUESTER } from '../memory/physical-memory.ts';

interface Block {
  readonly start: number;
  readonly bytes: number;
  readonly device: MmioDevice;
}

export class MmioWindow implements Backing {
  readonly name = 'registers';
  private readonly blocks: Block[];
  private nextBar: number;

  /** @param firstBar physical address from which BARs are placed */
  constructor(firstBar: number) {
    this.blocks = [];
    this.nextBar = firstBar;
  }

  /** Places `bytes` of registers at physical address `start`. */
  place(start: number, bytes: number, device: MmioDevice): void {
    const other = this.overlapping(start, bytes);
    if (other) throw new Error(`registers at 0x${start.toString(16)} overlap those at 0x${other.start.toString(16)}`);
    this.blocks.push({ start, bytes, device });
  }

  /** The next BAR starts at a multiple of `bytes`. */
  alignBars(bytes: number): void {
    this.nextBar = Math.ceil(this.nextBar / bytes) * bytes;
  }

  /** Places a BAR of a power of two bytes, aligned to its size, where nothing is. @returns its physical address */
  placeBar(bytes: number, device: MmioDevice): number {
    let start = Math.ceil(this.nextBar / bytes) * bytes;
    while (this.overlapping(start, bytes)) start += bytes;
    this.nextBar = start + bytes;
    this.place(start, bytes, device);
    return start;
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    const address = frame * FRAME_BYTES + offset;
    const block = this.blockOf(address, into.length);
    if (block) readRegisters(block.device, address - block.start, into);
    return block !== undefined;
  }

  write(frame: number, offset: number, from: Uint8Array, requester = NO_REQUESTER): boolean {
    const address = frame * FRAME_BYTES + offset;
    const block = this.blockOf(address, from.length);
    if (!block) return false;
    const { device, start } = block;
    if (device.postWrite) device.postWrite(address - start, from);
    else writeRegisters(device, address - start, from, requester);
    return true;
  }

  private overlapping(start: number, bytes: number): Block | undefined {
    return this.blocks.find((block) => start < block.start + block.bytes && block.start < start + bytes);
  }

  private blockOf(address: number, length: number): Block | undefined {
    return this.blocks.find(({ start, bytes }) => address >= start && address + length <= start + bytes);
  }
}
