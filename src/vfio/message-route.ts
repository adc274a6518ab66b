/** How messages of a function (MSI) come to the host: what the machine says of the way, and what VFIO makes of it. */
import { Errno, fail } from '../abi/errno.ts';
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
 * Has `receive` take the messages of the function.
 * @returns the address that the function is to write them to
 * @throws Errno ENOSPC, whatever the reason, as a kernel's MSI core has it: most often that `device` is not attached
 */
export function openRoute(route: MessageRoute, device: IommufdDevice, receive: MessageReceiver): bigint {
  const { doorbell, requester, busAddress } = route;
  const offset = busAddress % PAGE_BYTES;
  try {
    const page = device.mapMessagePage(Number(busAddress - offset));
    doorbell.connect(requester, receive);
    return page === null ? busAddress : page + offset;
  } catch (error) {
    if (error instanceof Errno) throw fail('ENOSPC', error.reason);
    throw error;
  }
}

export function closeRoute({ doorbell, requester }: MessageRoute): void {
  doorbell.disconnect(requester);
}
