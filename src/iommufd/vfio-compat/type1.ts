/** The VFIO type 1 ioctls on an iommufd. They work on the IOAS that IOMMU_VFIO_IOAS sets: ENODEV without one. */
import { fail } from '../../abi/errno.ts';
import * as vfio from '../../abi/vfio-type1.ts';
import type { IommufdContext } from '../context.ts';
import type { ClientProcess } from '../file.ts';
import { hex } from '../format.ts';
import { compatIoas } from './compat-ioas.ts';
import { getInfo } from './type1-info.ts';
import { mapDma, unmapDma } from './type1-map.ts';

/** @param arg of the ioctl: a number, or the address of a struct */
type Type1Handler = (context: IommufdContext, caller: ClientProcess, arg: bigint) => number;

const HANDLERS: ReadonlyMap<number, Type1Handler> = new Map<number, Type1Handler>([
  [vfio.VFIO_GET_API_VERSION, () => vfio.VFIO_API_VERSION],
  [vfio.VFIO_CHECK_EXTENSION, (context, _caller, arg) => checkExtension(context, arg)],
  [vfio.VFIO_SET_IOMMU, (context, _caller, arg) => setIommu(context, arg)],
  [vfio.VFIO_IOMMU_GET_INFO, (context, caller, arg) => getInfo(context, caller.memory, arg)],
  [vfio.VFIO_IOMMU_MAP_DMA, (context, caller, arg) => mapDma(context, caller, arg)],
  [vfio.VFIO_IOMMU_UNMAP_DMA, (context, caller, arg) => unmapDma(context, caller.memory, arg)],
]);

/** ENOTTY for a number that is none of the type 1 IOMMU. */
export function type1Ioctl(context: IommufdContext, caller: ClientProcess, command: number, arg: bigint): number {
  const handler = HANDLERS.get(command);
  if (!handler) throw fail('ENOTTY', `${hex(command)} is no command of iommufd`);
  return handler(context, caller, arg);
}

/** @returns 1 when there is such an extension, else 0 */
function checkExtension(context: IommufdContext, extension: bigint): number {
  switch (Number(extension)) {
    case vfio.VFIO_TYPE1_IOMMU:
    case vfio.VFIO_TYPE1v2_IOMMU:
    case vfio.VFIO_UNMAP_ALL:
      return 1;
    case vfio.VFIO_DMA_CC_IOMMU:
      return [...compatIoas(context).hwpts].every(({ domain }) => domain.enforceCacheCoherency) ? 1 : 0;
    default:
      return 0;
  }
}

/** Type 1 of the first version can unmap parts of what was mapped, for which there must be no huge pages. */
function setIommu(context: IommufdContext, type: bigint): number {
  const version = Number(type);
  if (version !== vfio.VFIO_TYPE1_IOMMU && version !== vfio.VFIO_TYPE1v2_IOMMU) {
    throw fail('EINVAL', `type ${type} is neither VFIO_TYPE1_IOMMU nor VFIO_TYPE1v2_IOMMU`);
  }
  const { table } = compatIoas(context);
  if (version === vfio.VFIO_TYPE1_IOMMU) table.setHugePages(false);
  return 0;
}
