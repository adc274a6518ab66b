/** What an ATC hit and an untranslated access of 64 bytes cost on top of the IOMMU. */
import { bench, describe } from '../../../bench/harness.ts';
import { NO_SUBSTREAM } from '../iommu.ts';
import { DMA_PROBE } from './dma-probe.ts';
import { functionRig } from './testing.ts';

const into = new Uint8Array(64);
const plain = functionRig(DMA_PROBE);
const cached = functionRig(DMA_PROBE, { ats: true });
cached.fn.enableAts(true);
for (let frame = 0; frame < 64; frame++) cached.dma.read(frame, 0, into, NO_SUBSTREAM);
let frame = 0;

describe('a DMA read of 64 bytes', () => {
  bench('untranslated', () => {
    plain.dma.read(1, 0, into, NO_SUBSTREAM);
  });
  bench('the ATC entry of the access before', () => {
    cached.dma.read(1, 0, into, NO_SUBSTREAM);
  });
  bench('another of 64 ATC entries each time', () => {
    frame = (frame + 1) & 63;
    cached.dma.read(frame, 0, into, NO_SUBSTREAM);
  });
});
