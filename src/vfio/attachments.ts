/**
 * What a bound device is attached to: by itself, and by PASIDs. To the IOMMU PASID 0 is the device itself, but here, as in
 * kernels, these are kept apart: neither replaces the other, nor detaches it.
 */
import { fail } from '../abi/errno.ts';
import type { IommufdDevice } from '../iommufd/device.ts';

/** Kernels keep PASIDs as signed numbers. */
const PASID_LIMIT = 2 ** 31;

export class Attachments {
  private readonly device: IommufdDevice;
  private itself: boolean;
  private readonly pasids: Set<number>;

  constructor(device: IommufdDevice) {
    this.device = device;
    this.itself = false;
    this.pasids = new Set();
  }

  /** Attaches, or replaces what is attached. Errnos of IommufdDevice.attach(). @returns the ID of the HWPT */
  attach(ptId: number): number {
    const hwptId = this.itself ? this.device.replace(ptId) : this.device.attach(ptId);
    this.itself = true;
    return hwptId;
  }

  /** The same for a PASID. ENOSPC for one of more than 31 bits. */
  attachPasid(ptId: number, pasid: number): number {
    if (pasid >= PASID_LIMIT) throw fail('ENOSPC', `PASID ${pasid} has more than 31 bits`);
    const { device, pasids } = this;
    const hwptId = pasids.has(pasid) ? device.replace(ptId, pasid) : device.attach(ptId, pasid);
    pasids.add(pasid);
    return hwptId;
  }

  /** Does nothing when not attached. */
  detach(): void {
    if (this.itself) this.device.detach();
    this.itself = false;
  }

  detachPasid(pasid: number): void {
    if (this.pasids.delete(pasid)) this.device.detach(pasid);
  }

  /** Detaches everything. */
  close(): void {
    for (const pasid of this.pasids) this.detachPasid(pasid);
    this.detach();
  }
}
