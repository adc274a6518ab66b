/** How messages of a function (MSI) come to the host: what the machine says of the way, and what VFIO makes of it. */
import type { MessageReceiver, MsiDoorbell } from '../hardware/msi-doorbell.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import { PAGE_BYTES } from '../iommufd/pages.ts';

export interface MessageRoute {
  readonly doorbell: MsiDoorbell;
  /** How the doorbell knows the function. */
  readonly requester: number;
  /** Of the doorbell on the bus: its physical address, or one that leads there past the IOMMU. */
  readonly busAddress: bigint;
}

/**
 * Has `receive` take the messages of the function. ENOSPC when `device` is not attached, ENOMEM.
 * @returns the address that the function is to write them to
 */
export function openRoute(route: MessageRoute, device: IommufdDevice, receive: MessageReceiver): bigint {
  const { doorbell, requester, busAddress } = route;
  const offset = busAddress % PAGE_BYTES;
  const page = device.mapMessagePage(Number(busAddress - offset));
  doorbell.connect(requester, receive);
  return page === null ? busAddress : page + offset;
}

export function closeRoute({ doorbell, requester }: MessageRoute): void {
  doorbell.disconnect(requester);
}
