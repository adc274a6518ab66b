/** Where things lie in physical memory: a GiB of registers, host RAM, then the window for pages of programs. */
import { MachineError } from './machine-error.ts';

/** log2 of the bytes of a slot. */
const SLOT_BITS = 30;

const FIRST_RAM_SLOT = 1;
const MOST_WINDOW_SLOTS = 4096;

/** In slots of 1 GiB. */
export interface PhysicalLayout {
  readonly ram: { readonly firstSlot: number; readonly slots: number };
  readonly window: { readonly firstSlot: number; readonly slots: number };
}

interface Measures {
  readonly memory: { readonly hostRamGiB: number };
  readonly iommus: readonly { readonly oas: number }[];
}

/** Every IOMMU must be able to put out every address. */
export function physicalLayout({ memory: { hostRamGiB }, iommus }: Measures): PhysicalLayout {
  const oas = Math.min(...iommus.map((iommu) => iommu.oas));
  const allSlots = 2 ** (oas - SLOT_BITS);
  const firstSlot = FIRST_RAM_SLOT + hostRamGiB;
  if (firstSlot >= allSlots) {
    const most = allSlots - FIRST_RAM_SLOT - 1;
    throw new MachineError(`memory.hostRamGiB: ${hostRamGiB} found, expected at most ${most} when an oas is ${oas}`);
  }
  return {
    ram: { firstSlot: FIRST_RAM_SLOT, slots: hostRamGiB },
    window: { firstSlot, slots: Math.min(allSlots - firstSlot, MOST_WINDOW_SLOTS) },
  };
}
