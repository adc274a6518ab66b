/** VFIO_IOMMU_GET_INFO: page sizes and, as far as the program has room, a chain of capabilities. */
import { fail } from '../../abi/errno.ts';
import * as vfio from '../../abi/vfio-type1.ts';
import type { ProcessMemory } from '../../memory/process-memory.ts';
import type { IommufdContext } from '../context.ts';
import { PAGE_BYTES } from '../pages.ts';
import type { Span } from '../spans.ts';
import { max } from '../u64.ts';
import { readUser, writeUser } from '../user-memory.ts';
import { compatIoas } from './compat-ioas.ts';
import { commonPageSizes } from './contained-groups.ts';

const OLDEST_SIZE = vfio.Type1Info.end('iovaPgsizes');
/** Of `next` in the header of a capability. */
const NEXT = vfio.Type1InfoDmaAvail.fields.next;

export function getInfo(context: IommufdContext, memory: ProcessMemory, address: bigint): number {
  const info = new vfio.Type1Info();
  readUser(memory, address, info.bytes.subarray(0, OLDEST_SIZE));
  const room = info.argsz;
  if (room < OLDEST_SIZE) throw fail('EINVAL', `argsz ${room} is less than ${OLDEST_SIZE}`);
  const { table } = compatIoas(context);
  const capabilities = [dmaAvailable(), iovaRanges(table.usableRanges())];

  // Only capabilities that fit are written; argsz then tells what all of them need.
  let offset = vfio.Type1Info.size;
  for (const [index, bytes] of capabilities.entries()) {
    const next = offset + align8(bytes.length);
    const last = index === capabilities.length - 1;
    if (!last && room >= next) new DataView(bytes.buffer).setUint32(NEXT.offset, next, true);
    if (room - offset >= bytes.length) writeUser(memory, address + BigInt(offset), bytes);
    offset = next;
  }
  info.argsz = offset;
  info.flags = vfio.VFIO_IOMMU_INFO_PGSIZES | vfio.VFIO_IOMMU_INFO_CAPS;
  info.iovaPgsizes = pageSizesFor(commonPageSizes(context), table.alignment);
  info.capOffset = room >= offset ? vfio.Type1Info.size : 0;
  writeUser(memory, address, info.bytes.subarray(0, Math.min(room, vfio.Type1Info.size)));
  return 0;
}

/** Bit n set: 2^n bytes can be mapped. Sizes below a page count as a page. */
function pageSizesFor(leaves: bigint, alignment: bigint): bigint {
  const small = leaves & (PAGE_BYTES - 1n);
  return max(small ? (leaves & -PAGE_BYTES) | PAGE_BYTES : leaves, alignment);
}

/** There is no limit of our own to the number of mappings. */
function dmaAvailable(): Uint8Array {
  const capability = new vfio.Type1InfoDmaAvail();
  capability.id = vfio.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;
  capability.version = 1;
  capability.avail = 0xffff_ffff;
  return capability.bytes;
}

function iovaRanges(ranges: readonly Span[]): Uint8Array {
  const header = vfio.Type1InfoCapIovaRange.size;
  const bytes = new Uint8Array(header + ranges.length * vfio.VfioIovaRange.size);
  const capability = new vfio.Type1InfoCapIovaRange(bytes);
  capability.id = vfio.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
  capability.version = 1;
  capability.nrIovas = ranges.length;
  for (const [index, { start, last }] of ranges.entries()) {
    const range = new vfio.VfioIovaRange(bytes.subarray(header + index * vfio.VfioIovaRange.size));
    range.start = start;
    range.end = last;
  }
  return bytes;
}

const align8 = (bytes: number): number => (bytes + 7) & ~7;
