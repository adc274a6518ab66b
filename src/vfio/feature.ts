/** DEVICE_FEATURE: the low power calls. No migration, no DMA logging, no VF token, no dma-buf: those are ENOTTY. */
import { fail } from '../abi/errno.ts';
import {
  DeviceFeature,
  LowPowerEntryWithWakeup,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';

const OPERATIONS = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
const KNOWN = VFIO_DEVICE_FEATURE_MASK | OPERATIONS | VFIO_DEVICE_FEATURE_PROBE;

export function deviceFeature(_device: VfioDevice, binding: Binding, call: Call): void | Promise<void> {
  const { argsz, flags } = call.take(DeviceFeature, 'flags');
  if (flags & ~KNOWN) throw fail('EINVAL', `flags 0x${flags.toString(16)} are not all known`);
  if ((flags & (OPERATIONS | VFIO_DEVICE_FEATURE_PROBE)) === OPERATIONS) {
    throw fail('EINVAL', 'flags ask for GET and SET at once, which only PROBE may');
  }
  const room = argsz - DeviceFeature.size;
  const { lowPower } = binding;
  switch (flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
      if (isSet(flags, room, 0)) lowPower.enter(null);
      return;
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
      return isSet(flags, room, LowPowerEntryWithWakeup.size) ? enterWithWakeup(binding, call) : undefined;
    case VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
      if (isSet(flags, room, 0)) lowPower.exit();
      return;
  }
  throw fail('ENOTTY', `feature ${flags & VFIO_DEVICE_FEATURE_MASK} is not one of the device's`);
}

/** Whether to carry out SET; a probe of it only succeeds. */
function isSet(flags: number, room: number, needed: number): boolean {
  if (flags & VFIO_DEVICE_FEATURE_GET) throw fail('EINVAL', 'flags ask for GET of a feature that can only be set');
  if (flags & VFIO_DEVICE_FEATURE_PROBE) return false;
  if (!(flags & VFIO_DEVICE_FEATURE_SET)) throw fail('EINVAL', 'flags ask for neither SET nor PROBE');
  if (room < needed) throw fail('EINVAL', `argsz leaves ${room} bytes for data of ${needed}`);
  return true;
}

async function enterWithWakeup({ lowPower }: Binding, call: Call): Promise<void> {
  const entry = new LowPowerEntryWithWakeup(call.read(DeviceFeature.size, LowPowerEntryWithWakeup.size));
  if (entry.wakeupEventfd < 0) throw fail('EINVAL', `wakeup_eventfd ${entry.wakeupEventfd} is negative`);
  lowPower.enter(await call.caller.eventFd(entry.wakeupEventfd));
}
