/** GET_INFO, GET_REGION_INFO, GET_IRQ_INFO: what the device has. */
import { fail } from '../abi/errno.ts';
import {
  DeviceInfo,
  InfoCapHeader,
  IrqInfo,
  RegionInfo,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_PCI_VGA_REGION_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
} from '../abi/vfio.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import { regionBytes, regionOffset } from './regions.ts';

export function getInfo(_device: VfioDevice, _binding: Binding, call: Call): void {
  const { argsz } = call.take(DeviceInfo, 'numIrqs');
  const info = new DeviceInfo();
  info.argsz = argsz;
  info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
  info.numRegions = VFIO_PCI_NUM_REGIONS;
  info.numIrqs = VFIO_PCI_NUM_IRQS;
  call.write(0, info.bytes.subarray(0, Math.min(argsz, DeviceInfo.size)));
}

export function getRegionInfo(device: VfioDevice, _binding: Binding, call: Call): void {
  const info = call.take(RegionInfo, 'offset');
  if (info.index >= VFIO_PCI_VGA_REGION_INDEX)
    throw fail('EINVAL', `index ${info.index} names no region of the device`);
  const size = regionBytes(device.fn, info.index);
  info.offset = regionOffset(info.index);
  info.size = BigInt(size);
  info.flags = size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
  info.capOffset = 0;
  if (size && info.index < VFIO_PCI_ROM_REGION_INDEX && device.barsMappable) makeMappable(device, info, call);
  call.write(0, info.bytes);
}

/** One that holds the MSI-X table carries a capability: the table can be mapped with the rest. */
function makeMappable({ fn }: VfioDevice, info: InstanceType<typeof RegionInfo>, call: Call): void {
  info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
  if (!fn.msix) return;
  info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
  const capability = new InfoCapHeader();
  capability.id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;
  capability.version = 1;
  if (info.argsz < RegionInfo.size + InfoCapHeader.size) {
    info.argsz = RegionInfo.size + InfoCapHeader.size;
    return;
  }
  info.capOffset = RegionInfo.size;
  call.write(RegionInfo.size, capability.bytes);
}

export function getIrqInfo(_device: VfioDevice, binding: Binding, call: Call): void {
  const info = call.take(IrqInfo, 'count');
  if (info.index >= VFIO_PCI_NUM_IRQS) throw fail('EINVAL', `index ${info.index} is not below ${VFIO_PCI_NUM_IRQS}`);
  const pin = info.index === VFIO_PCI_INTX_IRQ_INDEX;
  const kind = pin ? VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED : VFIO_IRQ_INFO_NORESIZE;
  info.flags = VFIO_IRQ_INFO_EVENTFD | kind;
  info.count = binding.interrupts.count(info.index, binding.config.interruptPin);
  call.write(0, info.bytes);
}
