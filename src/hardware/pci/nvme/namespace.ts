/** A namespace: a disk, in blocks, under a number. */
import type { BlockStore, Disk } from './disk.ts';

export class Namespace {
  /** NSID, from 1 on. */
  readonly id: number;
  readonly store: BlockStore;
  readonly blockBytes: number;
  readonly blocks: number;

  constructor(id: number, disk: Disk) {
    this.id = id;
    this.store = disk.store;
    this.blockBytes = disk.blockBytes;
    this.blocks = Math.floor(disk.store.bytes / disk.blockBytes);
    if (this.blocks === 0) throw new Error(`a disk of ${disk.store.bytes} bytes holds no block`);
  }

  /** @param start first block, 64 bits as two words */
  holds(startLow: number, startHigh: number, blocks: number): boolean {
    return startHigh * 2 ** 32 + startLow + blocks <= this.blocks;
  }

  position(startLow: number, startHigh: number): number {
    return (startHigh * 2 ** 32 + startLow) * this.blockBytes;
  }
}
