/**
 * Parts of a device's BARs behind descriptors (dma-buf), for DMA of other devices. They are there while the device
 * decodes memory: whatever stops that, or resets it, takes them back from all who have mapped them. The end of the
 * binding does so for good.
 */
import { fail } from '../abi/errno.ts';
import {
  DeviceFeature,
  FeatureDmaBuf,
  RegionDmaRange,
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_ROM_REGION_INDEX,
} from '../abi/vfio.ts';
import { mayFail } from '../drivers/failure-points.ts';
import { openDescriptor } from '../iommufd/descriptor.ts';
import { DmaBuf, DmaBufFile } from '../iommufd/dma-buf.ts';
import { hex } from '../iommufd/format.ts';
import { U64_MAX } from '../iommufd/u64.ts';
import { ownPages, type PageSource } from '../memory/process-memory.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import { regionBytes } from './regions.ts';

const PAGE = 4096;
const PAGE_BITS = BigInt(PAGE - 1);

/** What a kernel allocates in one piece: an array that is larger is ENOMEM. */
const MOST_ARRAY_BYTES = 2 ** 22;

/** Lengths with the highest bit set have another meaning to kernels' DMA mapping. */
const LENGTH_LIMIT = 2n ** 63n;

export class ExportedBars {
  private readonly buffers: Set<DmaBuf>;

  constructor() {
    this.buffers = new Set();
  }

  /** @param memory as of DmaBuf */
  add(length: number, memory: PageSource | null, available: boolean): DmaBuf {
    const ended = (): void => {
      this.buffers.delete(buffer);
    };
    const buffer = new DmaBuf({ length, memory, revoked: !available, ended });
    this.buffers.add(buffer);
    return buffer;
  }

  /** Takes everything back, or lets it be mapped again. */
  setAvailable(available: boolean): void {
    for (const buffer of this.buffers) if (buffer.revoked === available) buffer.setRevoked(!available);
  }

  /** Nobody gets anything any more. */
  close(): void {
    this.setAvailable(false);
    this.buffers.clear();
  }
}

interface Range {
  readonly offset: bigint;
  readonly length: bigint;
}

/**
 * DEVICE_FEATURE_DMA_BUF: a descriptor of ranges of one BAR, one behind the other.
 * @returns the descriptor
 */
export async function exportDmaBuf(device: VfioDevice, binding: Binding, call: Call): Promise<number> {
  const asked = new FeatureDmaBuf(call.read(DeviceFeature.size, FeatureDmaBuf.size));
  const { regionIndex, openFlags, flags, nrRanges } = asked;
  if (nrRanges === 0 || flags !== 0) {
    throw fail('EINVAL', `nr_ranges ${nrRanges} must not be 0, and flags ${hex(flags)} must be`);
  }
  if (regionIndex >= VFIO_PCI_ROM_REGION_INDEX) throw fail('ENODEV', `region_index ${regionIndex} is no BAR`);
  const ranges = readRanges(call, nrRanges);
  const length = totalLength(ranges);
  checkWithin(ranges, regionIndex, device);
  mayFail('a dma-buf');
  const memory = ranges.length === 1 ? barPages(device, ranges[0]!) : null;
  const buffer = binding.exportedBars.add(length, memory, binding.config.memoryEnabled);
  let opened = -1;
  const take = (fd: number): void => {
    opened = fd;
  };
  await openDescriptor(call.caller, new DmaBufFile(buffer), take, openFlags);
  return opened;
}

/** argsz has no say in how many there are. */
function readRanges(call: Call, count: number): Range[] {
  const { size } = RegionDmaRange;
  if (count * size > MOST_ARRAY_BYTES) throw fail('ENOMEM', `${count} ranges are more than a kernel takes`);
  const bytes = call.read(DeviceFeature.size + FeatureDmaBuf.size, count * size);
  return Array.from({ length: count }, (_, i) => new RegionDmaRange(bytes.subarray(i * size, (i + 1) * size)));
}

/** EINVAL for ranges that are not whole pages, or too much together. */
function totalLength(ranges: readonly Range[]): number {
  let total = 0n;
  for (const { offset, length } of ranges) {
    if (length === 0n || ((offset | length) & PAGE_BITS) !== 0n) {
      throw fail('EINVAL', `the range ${hex(offset)} + ${hex(length)} is not one or more whole pages`);
    }
    total += length;
    if (total >= LENGTH_LIMIT) throw fail('EINVAL', `the ranges are ${hex(total)} bytes together`);
  }
  return Number(total);
}

/** EINVAL for what is not in the BAR, EOVERFLOW for what is not even in the address space. */
function checkWithin(ranges: readonly Range[], index: number, { fn, barAddress }: VfioDevice): void {
  const size = regionBytes(fn, index);
  if (size === 0) throw fail('EINVAL', `BAR${index} of ${fn.name} has no memory`);
  for (const { offset, length } of ranges) {
    const range = `the range ${hex(offset)} + ${hex(length)}`;
    if (BigInt(barAddress) + offset + length > U64_MAX) throw fail('EOVERFLOW', `${range} overflows 64 bits`);
    if (offset + length > size) throw fail('EINVAL', `${range} leaves the ${hex(size)} bytes of BAR${index}`);
  }
}

/** The frames of the BAR themselves: an IOMMU that translates to them leads to the device. */
function barPages({ fn, barAddress }: VfioDevice, { offset }: Range): PageSource {
  const pages: PageSource = {
    name: `${fn.name} BAR${VFIO_PCI_BAR0_REGION_INDEX}`,
    firstFrame: (barAddress + Number(offset)) / PAGE,
    read: () => false,
    write: () => false,
    resolve: (address, length) => ownPages(pages, address, length),
  };
  return pages;
}
