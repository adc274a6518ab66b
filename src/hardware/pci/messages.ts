/**
 * The messages of a function (PCI 3.0, 6.8.3): memory writes of what its MSI-X table or its MSI capability says,
 * untranslated and without a PASID. One at a time: while a message stalls at the IOMMU, the others stay pending.
 */
import { NO_SUBSTREAM } from '../iommu.ts';
import type { DmaPort } from './dma.ts';
import type { DmaChannel } from './dma-channel.ts';

/** What each vector's message is, which of them are masked, and which are waiting. */
export interface MessageTable {
  readonly vectors: number;
  /** Frame of the message's address, and the rest of it. */
  frameOf(vector: number): number;
  offsetOf(vector: number): number;
  dataOf(vector: number): number;
  isMasked(vector: number): boolean;
  mask(vector: number, masked: boolean): void;
  setPending(vector: number): void;
  /** Clears and tells the pending bit. */
  takePending(vector: number): boolean;
}

export class Messages {
  /** The table in use, unless it is masked as a whole. */
  private readonly table: () => MessageTable | null;
  private readonly channel: DmaChannel;
  private readonly data: Uint8Array;
  private readonly dataView: DataView;

  constructor(port: DmaPort, table: () => MessageTable | null) {
    this.table = table;
    this.channel = port.channel(() => this.sendPending(), true);
    this.data = new Uint8Array(4);
    this.dataView = new DataView(this.data.buffer);
  }

  /** A message whose write is refused is lost: the IOMMU has recorded why. */
  sendPending(): void {
    const table = this.table();
    if (!table) return;
    const { channel } = this;
    for (let vector = 0; vector < table.vectors && !channel.waiting; vector++) {
      if (table.isMasked(vector) || !table.takePending(vector)) continue;
      this.dataView.setUint32(0, table.dataOf(vector), true);
      channel.write(table.frameOf(vector), table.offsetOf(vector), this.data, NO_SUBSTREAM);
    }
  }
}
