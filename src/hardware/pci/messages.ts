/**
 * The messages of a function (PCI 3.0, 6.8.3): memory writes of what its MSI-X table says, untranslated and without a
 * PASID. One at a time: while a message stalls at the IOMMU, the others stay pending.
 */
import { NO_SUBSTREAM } from '../iommu.ts';
import type { DmaPort } from './dma.ts';
import type { DmaChannel } from './dma-channel.ts';
import type { MsixTable } from './msix.ts';

export class Messages {
  private readonly table: MsixTable;
  /** MSI-X is on, and not masked as a whole. */
  private readonly allowed: () => boolean;
  private readonly channel: DmaChannel;
  private readonly data: Uint8Array;
  private readonly dataView: DataView;

  constructor(table: MsixTable, port: DmaPort, allowed: () => boolean) {
    this.table = table;
    this.allowed = allowed;
    this.channel = port.channel(() => this.sendPending(), true);
    this.data = new Uint8Array(4);
    this.dataView = new DataView(this.data.buffer);
  }

  /** A message whose write is refused is lost: the IOMMU has recorded why. */
  sendPending(): void {
    if (!this.allowed()) return;
    const { table, channel } = this;
    for (let vector = 0; vector < table.vectors && !channel.waiting; vector++) {
      if (table.isMasked(vector) || !table.takePending(vector)) continue;
      this.dataView.setUint32(0, table.dataOf(vector), true);
      channel.write(table.frameOf(vector), table.offsetOf(vector), this.data, NO_SUBSTREAM);
    }
  }
}
