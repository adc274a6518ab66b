/** The first GiB of the physical address space: registers of IOMMUs and BARs of functions, side by side. */
import type { MmioDevice } from '../hardware/iommu.ts';
import { type Backing, FRAME_BYTES } from '../memory/physical-memory.ts';

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
    const other = this.blocks.find((block) => start < block.start + block.bytes && block.start < start + bytes);
    if (other) throw new Error(`registers at 0x${start.toString(16)} overlap those at 0x${other.start.toString(16)}`);
    this.blocks.push({ start, bytes, device });
  }

  /** Places a BAR of a power of two bytes, aligned to its size. @returns its physical address */
  placeBar(bytes: number, device: MmioDevice): number {
    const start = Math.ceil(this.nextBar / bytes) * bytes;
    this.nextBar = start + bytes;
    this.place(start, bytes, device);
    return start;
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    return this.access(frame * FRAME_BYTES + offset, into.length, (device, at, size, done) => {
      const value = device.readRegister(at, size);
      for (let i = 0; i < size; i++) into[done + i] = (value >>> (8 * i)) & 0xff;
    });
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    return this.access(frame * FRAME_BYTES + offset, from.length, (device, at, size, done) => {
      let value = 0;
      for (let i = 0; i < size; i++) value |= from[done + i]! << (8 * i);
      device.writeRegister(at, size, value >>> 0);
    });
  }

  /** In naturally aligned pieces of up to 4 bytes, low addresses first. */
  private access(
    address: number,
    length: number,
    piece: (device: MmioDevice, at: number, size: number, done: number) => void,
  ): boolean {
    const block = this.blocks.find(({ start, bytes }) => address >= start && address + length <= start + bytes);
    if (!block) return false;
    for (let done = 0; done < length; ) {
      const at = address + done - block.start;
      const left = length - done;
      const size = left >= 4 && at % 4 === 0 ? 4 : left >= 2 && at % 2 === 0 ? 2 : 1;
      piece(block.device, at, size, done);
      done += size;
    }
    return true;
  }
}
