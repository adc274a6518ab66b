/** Every kind of PCI function that a machine may hold, by the name that its description uses. */
import { DMA_PROBE } from './dma-probe.ts';
import type { FunctionKind } from './function-model.ts';
import { IOAT } from './ioat.ts';
import { NVME } from './nvme/nvme.ts';

export const FUNCTION_KINDS: Readonly<Record<string, FunctionKind>> = {
  [IOAT.name]: IOAT,
  [DMA_PROBE.name]: DMA_PROBE,
  [NVME.name]: NVME,
};
