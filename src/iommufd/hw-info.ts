/** IOMMU_GET_HW_INFO: what the IOMMU behind a device can do. */
import { fail } from '../abi/errno.ts';
import { HwInfo, IOMMU_HW_INFO_FLAG_INPUT_TYPE, IOMMU_HW_INFO_TYPE_DEFAULT } from '../abi/iommufd.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { Command } from './command.ts';
import { IommufdDevice } from './device.ts';
import { hex } from './format.ts';
import { clearUser, writeUser } from './user-memory.ts';

export function getHwInfo(command: Command): void {
  const { accepted, behaviour } = command.context.dialect;
  const c = new HwInfo(command.bytes);
  if (c.flags & ~accepted.hwInfoFlags) {
    throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} has bits beyond ${hex(accepted.hwInfoFlags)}`);
  }
  const reserved = behaviour.hwInfoPasid ? c.reserved : [...c.reserved, c.outMaxPasidLog2];
  if (reserved.some((byte) => byte !== 0)) throw fail('EOPNOTSUPP', '__reserved must be 0');

  const device = command.context.objects.get(c.devId, IommufdDevice, 'dev_id').physical;
  const type = c.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE ? c.inDataType : IOMMU_HW_INFO_TYPE_DEFAULT;
  mayFail('hardware information');
  const info = device.hwInfo(type);
  const { memory } = command.caller;
  const copied = Math.min(c.dataLen, info.data.length);
  writeUser(memory, c.dataUptr, info.data.subarray(0, copied));
  clearUser(memory, c.dataUptr + BigInt(copied), c.dataLen - copied);

  c.outDataType = info.type;
  c.dataLen = info.data.length;
  c.outCapabilities = device.hwCapabilities & BigInt(accepted.hwCapabilities);
  c.outMaxPasidLog2 = behaviour.hwInfoPasid ? device.maxPasidLog2 : 0;
  command.respond();
}
