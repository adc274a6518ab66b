/** SET_IRQS: the checks of its header and the data behind it; what it does is in interrupts.ts. */
import { fail } from '../abi/errno.ts';
import {
  IrqSet,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VFIO_PCI_NUM_IRQS,
} from '../abi/vfio.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';

/** Bytes of data per interrupt. */
const DATA_BYTES = new Map([
  [VFIO_IRQ_SET_DATA_NONE, 0],
  [VFIO_IRQ_SET_DATA_BOOL, 1],
  [VFIO_IRQ_SET_DATA_EVENTFD, 4],
]);

const KNOWN_FLAGS = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;

export function setIrqs(_device: VfioDevice, binding: Binding, call: Call): void | Promise<void> {
  const { argsz, flags, index, start, count } = call.take(IrqSet, 'count');
  if (index >= VFIO_PCI_NUM_IRQS) throw fail('EINVAL', `index ${index} is not below ${VFIO_PCI_NUM_IRQS}`);
  if (flags & ~KNOWN_FLAGS) throw fail('EINVAL', `flags 0x${flags.toString(16)} are not all known`);
  const present = binding.interrupts.count(index, binding.config.interruptPin);
  if (start >= present || start + count > present) {
    throw fail('EINVAL', `start ${start} and count ${count} leave the ${present} interrupts at index ${index}`);
  }
  const each = DATA_BYTES.get(flags & VFIO_IRQ_SET_DATA_TYPE_MASK);
  if (each === undefined) throw fail('EINVAL', `flags 0x${flags.toString(16)} do not name one type of data`);
  if (argsz - IrqSet.size < count * each) {
    throw fail('EINVAL', `argsz ${argsz} does not hold ${count} items of ${each} bytes behind the header`);
  }
  const data = call.read(IrqSet.size, count * each);
  return binding.interrupts.set(call.caller, { index, flags, start, count, data: new DataView(data.buffer) });
}
