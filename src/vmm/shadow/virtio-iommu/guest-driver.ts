/** The guest's driver of a virtio-iommu: requests one by one, each with what the device answers. */
import type { AnyStruct } from '../../../abi/struct.ts';
import { READ, type Span, WRITE } from '../host-space.ts';
import type { Status } from './spec.ts';
import * as spec from './spec.ts';
import type { VirtualVirtioIommu } from './virtual-virtio-iommu.ts';

const NAMES = Object.keys(spec.STATUS) as Status[];

export class GuestVirtioIommuDriver {
  /** The smallest page that the device maps. */
  readonly granule: bigint;
  private readonly device: VirtualVirtioIommu;

  /** @param pageBytes of the guest's kernel, which cannot do with an IOMMU that has larger ones */
  constructor(device: VirtualVirtioIommu, pageBytes: bigint) {
    this.device = device;
    const { pageSizeMask } = device.config;
    this.granule = pageSizeMask & -pageSizeMask;
    if (this.granule > pageBytes) throw new Error(`granule ${this.granule} is larger than pages of ${pageBytes}`);
  }

  attach(domain: number, endpoint: number): Status {
    return this.send(spec.AttachRequest, { type: spec.T_ATTACH, domain, endpoint });
  }

  detach(domain: number, endpoint: number): Status {
    return this.send(spec.DetachRequest, { type: spec.T_DETACH, domain, endpoint });
  }

  map(domain: number, iova: bigint, gpa: bigint, length: bigint, prot = READ | WRITE): Status {
    const flags = (prot & READ ? spec.MAP_READ : 0) | (prot & WRITE ? spec.MAP_WRITE : 0);
    const values = { domain, virtStart: iova, virtEnd: iova + length - 1n, physStart: gpa, flags };
    return this.send(spec.MapRequest, { type: spec.T_MAP, ...values });
  }

  unmap(domain: number, iova: bigint, length: bigint): Status {
    return this.send(spec.UnmapRequest, { type: spec.T_UNMAP, domain, virtStart: iova, virtEnd: iova + length - 1n });
  }

  /** Where nothing may be mapped for an endpoint. */
  reservedRegions(endpoint: number): Span[] {
    const { probeSize } = this.device.config;
    const properties = new Uint8Array(probeSize);
    this.send(spec.ProbeRequest, { type: spec.T_PROBE, endpoint }, properties);
    const regions: Span[] = [];
    for (let at = 0; at + spec.ReservedMemory.size <= probeSize; ) {
      const { type, length, start, end } = new spec.ReservedMemory(properties.subarray(at));
      if ((type & 0xfff) === 0) break;
      if ((type & 0xfff) === spec.PROBE_T_RESV_MEM) regions.push({ start, last: end });
      at += 4 + length;
    }
    return regions;
  }

  /** The lowest IOVA from `from` on at which `length` bytes can be mapped for an endpoint. */
  freeIova(endpoint: number, from: bigint, length: bigint): bigint {
    let iova = from;
    for (const { start, last } of this.reservedRegions(endpoint)) {
      if (iova <= last && iova + length > start) iova = last + 1n;
    }
    return iova;
  }

  private send(layout: AnyStruct, values: Readonly<Record<string, number | bigint>>, room = new Uint8Array()): Status {
    const request = Object.assign(new layout(), values).bytes;
    const writable = new Uint8Array(room.length + spec.TAIL_BYTES);
    this.device.request(request, writable);
    room.set(writable.subarray(0, room.length));
    return NAMES[writable[room.length]!]!;
  }
}
