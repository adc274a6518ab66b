/**
 * BARs that programs have mapped through one file of a device. A mapping keeps the file, and so the device, until it is
 * gone, as it does in kernels.
 */
import { fail } from '../abi/errno.ts';
import { VFIO_PCI_ROM_REGION_INDEX } from '../abi/vfio.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import type { Mapping } from '../iommufd/file.ts';
import type { Binding, VfioDevice } from './device.ts';
import { accessRegisters, REGION_SHIFT, regionBytes } from './regions.ts';

const PAGE = 4096;
const MAP_SHARED = 1;

export class BarMappings {
  private readonly present: Set<Mapping>;
  private readonly onEnd: () => void;

  /** @param onEnd called when a mapping has gone */
  constructor(onEnd: () => void) {
    this.present = new Set();
    this.onEnd = onEnd;
  }

  /** Registers behind a BAR, the MSI-X table included. EINVAL for anything else, and for a private mapping. */
  map(device: VfioDevice, binding: Binding, length: bigint, flags: number, position: bigint): Mapping {
    const { fn } = device;
    const index = Number(position >> REGION_SHIFT);
    const size = index < VFIO_PCI_ROM_REGION_INDEX && device.barsMappable ? regionBytes(fn, index) : 0;
    const start = Number(position - (BigInt(index) << REGION_SHIFT));
    const bytes = Math.ceil(Number(length) / PAGE) * PAGE;
    if (!(flags & MAP_SHARED)) throw fail('EINVAL', `flags 0x${flags.toString(16)}: a BAR can only be mapped shared`);
    if (start + bytes > size) {
      throw fail('EINVAL', `${bytes} bytes at ${start} are not within the ${size} mappable bytes of region ${index}`);
    }
    const mapping: Mapping = {
      pages: {
        name: `${fn.name} BAR${index}`,
        length: bytes,
        frame: (device.barAddress + start) / PAGE,
        load: (offset, into) => answering(fn, binding, start + offset).read(into),
        store: (offset, from) => answering(fn, binding, start + offset).write(from),
      },
      inUse: null,
      ended: () => {
        if (this.present.delete(mapping)) this.onEnd();
      },
    };
    this.present.add(mapping);
    return mapping;
  }

  /** Whether any is left; notices those that have gone. */
  get inUse(): boolean {
    for (const mapping of this.present) if (mapping.inUse?.() === false) this.present.delete(mapping);
    return this.present.size > 0;
  }
}

/** EIO in low power: an access of a mapping, unlike a call, does not wake the device. */
function answering(fn: PciFunction, { config, lowPower }: Binding, offset: number): ReturnType<typeof accessRegisters> {
  if (lowPower.isEntered) throw fail('EIO', `${fn.name} is in low power`);
  return accessRegisters(fn, config, offset);
}
