/** DEVICE_FEATURE: the low power calls and dma-bufs. No migration, no DMA logging, no VF token: those are ENOTTY. */
import { fail } from '../abi/errno.ts';
import {
  DeviceFeature,
  FeatureDmaBuf,
  LowPowerEntryWithWakeup,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio.ts';
import type { EventFd } from '../iommufd/file.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';
import { exportDmaBuf } from './exported-bars.ts';

const OPERATIONS = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
const KNOWN = VFIO_DEVICE_FEATURE_MASK | OPERATIONS | VFIO_DEVICE_FEATURE_PROBE;

/** @returns a descriptor, for the feature that gives one */
export function deviceFeature(
  device: VfioDevice,
  binding: Binding,
  call: Call,
): Promise<number | undefined> | undefined {
  const { argsz, flags } = call.take(DeviceFeature, 'flags');
  if (flags & ~KNOWN) throw fail('EINVAL', `flags 0x${flags.toString(16)} are not all known`);
  if ((flags & (OPERATIONS | VFIO_DEVICE_FEATURE_PROBE)) === OPERATIONS) {
    throw fail('EINVAL', 'flags ask for GET and SET at once, which only PROBE may');
  }
  const asks = (operation: number, needed: number): boolean =>
    isAsked(flags, operation, argsz - DeviceFeature.size, needed);
  const feature = flags & VFIO_DEVICE_FEATURE_MASK;
  switch (feature) {
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
      if (asks(VFIO_DEVICE_FEATURE_SET, 0)) enterLowPower(binding, null);
      return;
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
      if (asks(VFIO_DEVICE_FEATURE_SET, LowPowerEntryWithWakeup.size)) return enterWithWakeup(binding, call);
      return;
    case VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
      if (asks(VFIO_DEVICE_FEATURE_SET, 0)) exitLowPower(binding);
      return;
    case VFIO_DEVICE_FEATURE_DMA_BUF:
      if (!device.dialect.accepted.vfioFeatures.includes(feature)) break;
      if (asks(VFIO_DEVICE_FEATURE_GET, FeatureDmaBuf.size)) return exportDmaBuf(device, binding, call);
      return;
  }
  throw fail('ENOTTY', `feature ${feature} is not one of the device's`);
}

/** Whether to carry out `operation`, the only one that the feature has; a probe of it only succeeds. */
function isAsked(flags: number, operation: number, room: number, needed: number): boolean {
  const name = operation === VFIO_DEVICE_FEATURE_GET ? 'GET' : 'SET';
  if (flags & OPERATIONS & ~operation) throw fail('EINVAL', `flags ask for more than ${name}, which the feature has`);
  if (flags & VFIO_DEVICE_FEATURE_PROBE) return false;
  if (!(flags & operation)) throw fail('EINVAL', `flags ask for neither ${name} nor PROBE`);
  if (room < needed) throw fail('EINVAL', `argsz leaves ${room} bytes for data of ${needed}`);
  return true;
}

/** Devices that are asleep are not there for others. */
function enterLowPower({ lowPower, exportedBars }: Binding, wakeup: EventFd | null): void {
  exportedBars.setAvailable(false);
  lowPower.enter(wakeup);
}

async function enterWithWakeup(binding: Binding, call: Call): Promise<undefined> {
  const entry = new LowPowerEntryWithWakeup(call.read(DeviceFeature.size, LowPowerEntryWithWakeup.size));
  if (entry.wakeupEventfd < 0) throw fail('EINVAL', `wakeup_eventfd ${entry.wakeupEventfd} is negative`);
  enterLowPower(binding, await call.caller.eventFd(entry.wakeupEventfd));
}

/** A device that an access has woken is there for others again only after this, as in kernels. */
function exitLowPower({ lowPower, exportedBars, config }: Binding): void {
  lowPower.exit();
  if (config.memoryEnabled) exportedBars.setAvailable(true);
}
