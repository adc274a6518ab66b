/** The same by the ioctls of VFIO's type 1 IOMMU, which iommufd understands for the IOAS that it is told of. */
import * as uapi from '../../abi/iommufd.ts';
import * as type1 from '../../abi/vfio-type1.ts';
import type { Client } from '../client.ts';
import type { ShadowFaults } from './faults.ts';
import { attempt, type HostSpace, type IoasSpace, type Span } from './host-space.ts';

const END = 2n ** 64n;
const PAGE = 4096n;
/** Everything is unmapped in two where it cannot be at once: no size says 2^64. */
const HALF = 2n ** 32n;

export class Type1Space implements HostSpace {
  private readonly ioas: IoasSpace;
  private readonly client: Client;
  private readonly iommufd: number;
  private readonly faults: ShadowFaults;

  constructor(client: Client, iommufd: number, ioas: IoasSpace, faults: ShadowFaults) {
    this.client = client;
    this.iommufd = iommufd;
    this.ioas = ioas;
    this.faults = faults;
    const values = { ioasId: ioas.ioasId, op: uapi.IOMMU_VFIO_IOAS_SET };
    client.ioctl(iommufd, uapi.IOMMU_VFIO_IOAS, uapi.VfioIoas, values);
  }

  get alignment(): bigint {
    return this.ioas.alignment;
  }

  get usable(): readonly Span[] {
    return this.ioas.usable;
  }

  /** Its READ and WRITE are those of a HostSpace. */
  map(iova: bigint, vaddr: bigint, size: bigint, prot: number): void {
    this.client.ioctl(this.iommufd, type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap, { flags: prot, vaddr, iova, size });
  }

  unmap(iova: bigint, size: bigint): void {
    this.client.ioctl(this.iommufd, type1.VFIO_IOMMU_UNMAP_DMA, type1.Type1DmaUnmap, { iova, size });
  }

  /** With the flag for it, which kernels before 5.12 do not know. */
  unmapAll(): void {
    if (this.faults.unmapAllBySize) {
      attempt(() => this.unmap(0n, BigInt.asUintN(64, END)));
      return;
    }
    const values = { flags: type1.VFIO_DMA_UNMAP_FLAG_ALL };
    const known = attempt(() => {
      this.client.ioctl(this.iommufd, type1.VFIO_IOMMU_UNMAP_DMA, type1.Type1DmaUnmap, values);
    });
    if (known) return;
    this.unmap(0n, HALF);
    this.unmapToEnd(HALF);
  }

  /**
   * Kernels 4.15 to 4.20 take a range that ends with the last page of all for one that wraps around. Nothing is ever mapped
   * in that page: IOMMUs translate fewer bits.
   */
  private unmapToEnd(iova: bigint): void {
    const done = attempt(() => this.unmap(iova, END - iova));
    if (!done && !this.faults.trustLastPage) this.unmap(iova, END - iova - PAGE);
  }
}
