/** A channel of a device for its DMA, without the device's own registers. */
import { NO_SUBSTREAM } from '../../src/hardware/iommu.ts';
import { DMA_DONE, DMA_WAITING, type DmaChannel } from '../../src/hardware/pci/dma-channel.ts';
import type { PciFunction } from '../../src/hardware/pci/pci-function.ts';

export type Outcome = 'done' | 'refused' | 'waiting';

export class Channel {
  private readonly channel: DmaChannel;
  private readonly settle: () => void;
  private last: number;

  /** @param settle lets the machine do what is queued */
  constructor({ dma }: PciFunction, settle: () => void) {
    this.settle = settle;
    this.last = DMA_DONE;
    this.channel = dma.channel((outcome) => {
      this.last = outcome;
    });
  }

  /** It waits for a page, and has not been reset. */
  get waiting(): boolean {
    return this.channel.waiting;
  }

  /** Of what was started last. */
  get outcome(): Outcome {
    return this.last === DMA_DONE ? 'done' : this.last === DMA_WAITING ? 'waiting' : 'refused';
  }

  /** What became of an access once the machine has settled. @param substream PASID, or null */
  start(write: boolean, iova: bigint, bytes: Uint8Array, substream: number | null): Outcome {
    const [frame, offset] = [Number(iova >> 12n), Number(iova & 0xfffn)];
    const { channel } = this;
    const pasid = substream ?? NO_SUBSTREAM;
    this.last = write ? channel.write(frame, offset, bytes, pasid) : channel.read(frame, offset, bytes, pasid);
    this.settle();
    return this.outcome;
  }
}
