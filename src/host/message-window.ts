/** Where functions behind an IOMMU find the MSI doorbell: in a window that the host maps, or past the IOMMU. */
import type { ReservedRegion } from '../drivers/iommu-driver.ts';
import type { MessageRange } from '../hardware/message-bypass.ts';
import { TRANSLATER } from '../hardware/msi-doorbell.ts';
import { FRAME_BYTES } from '../memory/physical-memory.ts';

/** Physical address of the doorbell's frame, among the registers. */
export const DOORBELL_ADDRESS = 0x0809_0000;

/** A software window takes 256 pages, as in kernels; it is aligned to its size. */
export const WINDOW_BYTES = 0x10_0000;

/** Where the bus itself takes messages to the doorbell: x86's place. */
const BYPASS_ADDRESS = 0xfee0_0000;

export interface MessageWindow {
  readonly region: ReservedRegion;
  /** Of the doorbell's register on the bus. */
  readonly busAddress: bigint;
  /** null: the IOMMU translates messages as it does everything else. */
  readonly bypass: MessageRange | null;
}

/** @param start first IOVA of the software window, or null when messages pass the IOMMU by */
export function messageWindow(start: string | null): MessageWindow {
  if (start !== null) {
    return {
      region: { ...window(BigInt(start)), type: 'software-msi' },
      busAddress: BigInt(DOORBELL_ADDRESS + TRANSLATER),
      bypass: null,
    };
  }
  const firstFrame = BYPASS_ADDRESS / FRAME_BYTES;
  const lastFrame = firstFrame + WINDOW_BYTES / FRAME_BYTES - 1;
  return {
    region: { ...window(BigInt(BYPASS_ADDRESS)), type: 'msi' },
    busAddress: BigInt(BYPASS_ADDRESS + TRANSLATER),
    bypass: { firstFrame, lastFrame, doorbellFrame: DOORBELL_ADDRESS / FRAME_BYTES },
  };
}

const window = (start: bigint) => ({ start, last: start + BigInt(WINDOW_BYTES) - 1n });
