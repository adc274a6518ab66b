/** An open VFIO character device, /dev/vfio/devices/vfioN. */
import * as vfio from '../abi/vfio.ts';
import { takes, takesNumber, withCommands } from './command-file.ts';
import { OPEN_FLAGS } from './iommufd.ts';
import { checked } from './refusal.ts';
import type { System } from './system.ts';

/** Flexible arrays behind a struct are the call's `tail`. */
export const VFIO_DEVICE_COMMANDS = {
  bindIommufd: takes(vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd),
  attachIommufdPt: takes(vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt),
  detachIommufdPt: takes(vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt),
  getInfo: takes(vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo),
  getRegionInfo: takes(vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo),
  getIrqInfo: takes(vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.IrqInfo),
  setIrqs: takes(vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet),
  reset: takesNumber(vfio.VFIO_DEVICE_RESET),
  getPciHotResetInfo: takes(vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.PciHotResetInfo),
  pciHotReset: takes(vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.PciHotReset),
  ioeventfd: takes(vfio.VFIO_DEVICE_IOEVENTFD, vfio.DeviceIoeventfd),
  feature: takes(vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature),
} as const;

export class VfioDevice extends withCommands(VFIO_DEVICE_COMMANDS) {
  static open(system: System, path: string): VfioDevice {
    return new VfioDevice(system, checked(system.open(path, OPEN_FLAGS), `open of ${path}`));
  }
}
