/** BIND_IOMMUFD, ATTACH_IOMMUFD_PT, DETACH_IOMMUFD_PT: which iommufd a device belongs to, and what translates for it. */
import type { Dialect } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import {
  DeviceAttachIommufdPt,
  DeviceBindIommufd,
  DeviceDetachIommufdPt,
  VFIO_DEVICE_ATTACH_PASID,
  VFIO_DEVICE_BIND_FLAG_TOKEN,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_PASID,
} from '../abi/vfio.ts';
import { IommufdContext } from '../iommufd/context.ts';
import { copyStruct, readUser } from '../iommufd/user-memory.ts';
import type { Call } from './call.ts';
import type { Binding, VfioDevice } from './device.ts';

const OUT_DEVID_AT = 12;
const PT_ID_AT = 8;
const UUID_BYTES = 16;

/** @param present what this file has bound the device to already, or its group has */
export function bindIommufd(device: VfioDevice, call: Call, present: Binding | null): Binding {
  const bind = takeBind(call, device.dialect);
  const unknown = bind.flags & ~device.dialect.accepted.vfioBindFlags;
  if (unknown) throw fail('EINVAL', `flags 0x${bind.flags.toString(16)} are not all known`);
  if (bind.iommufd < 0) throw fail('EINVAL', `iommufd ${bind.iommufd} is negative`);
  if (present && !present.byNode) throw fail('EINVAL', `${device.fn.name} was opened, and so bound, by its group`);
  device.group.checkClosed();
  if (present) throw fail('EINVAL', `${device.name} is bound by this file already`);
  if (bind.flags & VFIO_DEVICE_BIND_FLAG_TOKEN) {
    readUser(call.caller.memory, bind.tokenUuidPtr, new Uint8Array(UUID_BYTES));
    throw fail('EINVAL', `a token is given, and ${device.name} has no virtual functions that need one`);
  }
  const file = call.caller.fileOf(bind.iommufd);
  if (!file && !call.caller.memoryFile(bind.iommufd)) throw fail('EBADF', `iommufd ${bind.iommufd} is not open`);
  if (!(file instanceof IommufdContext)) {
    throw fail('EBADFD', `iommufd ${bind.iommufd} is ${file ? `a ${file.kind}` : 'a file of another kind'}`);
  }
  const binding = device.bindByNode(file);
  try {
    call.write(OUT_DEVID_AT, u32Bytes(binding.device.id));
  } catch (error) {
    device.unbind();
    throw error;
  }
  return binding;
}

/** Releases that know no more than the first version do not look beyond it. */
function takeBind(call: Call, dialect: Dialect): InstanceType<typeof DeviceBindIommufd> {
  const bind = call.take(DeviceBindIommufd, 'outDevid');
  const layout = dialect.vfioCommands.get(VFIO_DEVICE_BIND_IOMMUFD & 0xff)!;
  if (layout.size > layout.minimumSize) copyStruct(call.caller.memory, call.address, bind.argsz, bind.bytes);
  return bind;
}

export function attachPt(device: VfioDevice, { attachments }: Binding, call: Call): void {
  const { ptId, flags } = call.take(DeviceAttachIommufdPt, 'ptId');
  checkFlags(flags, device.dialect.accepted.vfioAttachFlags);
  const hwptId =
    flags & VFIO_DEVICE_ATTACH_PASID
      ? attachments.attachPasid(ptId, call.take(DeviceAttachIommufdPt, 'pasid').pasid)
      : attachments.attach(ptId);
  try {
    call.write(PT_ID_AT, u32Bytes(hwptId));
  } catch (error) {
    // The device itself, even when a PASID was attached: so do kernels.
    attachments.detach();
    throw error;
  }
}

export function detachPt(device: VfioDevice, { attachments }: Binding, call: Call): void {
  const { flags } = call.take(DeviceDetachIommufdPt, 'flags');
  checkFlags(flags, device.dialect.accepted.vfioDetachFlags);
  if (flags & VFIO_DEVICE_DETACH_PASID) attachments.detachPasid(call.take(DeviceDetachIommufdPt, 'pasid').pasid);
  else attachments.detach();
}

function checkFlags(flags: number, known: number): void {
  if (flags & ~known) throw fail('EINVAL', `flags 0x${flags.toString(16)} are not all known`);
}

function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
