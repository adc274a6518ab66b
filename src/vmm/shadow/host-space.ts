/** The IOVA space of a device of the guest, as the host offers it to a VMM. Bytes. What the host refuses throws Refused. */
import * as uapi from '../../abi/iommufd.ts';
import { type Client, Refused } from '../client.ts';
import type { ShadowFaults } from './faults.ts';

export const READ = 1;
export const WRITE = 2;

/** Both bounds inclusive. */
export interface Span {
  readonly start: bigint;
  readonly last: bigint;
}

export interface HostSpace {
  /** IOVAs and lengths are multiples of it. */
  readonly alignment: bigint;
  /** Where something can be mapped, lowest first. */
  readonly usable: readonly Span[];
  /** @param prot READ | WRITE */
  map(iova: bigint, userVa: bigint, length: bigint, prot: number): void;
  unmap(iova: bigint, length: bigint): void;
  unmapAll(): void;
}

const U64_MAX = 2n ** 64n - 1n;

/** Far more ranges than there can be between a window for MSIs and the ends. */
const MOST_RANGES = 16;

const MAP_FLAGS = [0, uapi.IOMMU_IOAS_MAP_READABLE, uapi.IOMMU_IOAS_MAP_WRITEABLE].map(
  (flag) => flag | uapi.IOMMU_IOAS_MAP_FIXED_IOVA,
);
MAP_FLAGS[READ | WRITE] = MAP_FLAGS[READ]! | MAP_FLAGS[WRITE]!;

/** By the ioctls of iommufd. */
export class IoasSpace implements HostSpace {
  readonly ioasId: number;
  private readonly client: Client;
  private readonly iommufd: number;
  private readonly faults: ShadowFaults;

  constructor(client: Client, iommufd: number, faults: ShadowFaults) {
    this.client = client;
    this.iommufd = iommufd;
    this.faults = faults;
    this.ioasId = client.ioctl(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc).outIoasId;
  }

  get alignment(): bigint {
    return this.ranges().outIovaAlignment;
  }

  get usable(): readonly Span[] {
    const { numIovas } = this.ranges();
    const bytes = this.client.data(numIovas * uapi.IovaRange.size);
    return Array.from({ length: numIovas }, (_, index) => {
      const { start, last } = new uapi.IovaRange(bytes.subarray(index * uapi.IovaRange.size));
      return { start, last };
    });
  }

  map(iova: bigint, userVa: bigint, length: bigint, prot: number): void {
    const values = { flags: MAP_FLAGS[prot]!, ioasId: this.ioasId, userVa, length, iova };
    this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
  }

  unmap(iova: bigint, length: bigint): void {
    const values = { ioasId: this.ioasId, iova, length };
    this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, values);
  }

  /** The one length that is no multiple of anything stands for everything. */
  unmapAll(): void {
    if (this.faults.unmapAllBySize) attempt(() => this.unmap(0n, BigInt.asUintN(64, U64_MAX + 1n)));
    else this.unmap(0n, U64_MAX);
  }

  private ranges() {
    const allowedIovas = this.client.put(new Uint8Array(MOST_RANGES * uapi.IovaRange.size));
    const values = { ioasId: this.ioasId, numIovas: MOST_RANGES, allowedIovas };
    return this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IoasIovaRanges, values);
  }
}

/** @returns whether `step` was done: false when it was refused with EINVAL; other refusals are thrown */
export function attempt(step: () => void): boolean {
  try {
    step();
    return true;
  } catch (error) {
    if (!(error instanceof Refused && error.code === 'EINVAL')) throw error;
    return false;
  }
}
