/** IOMMU_VFIO_IOAS: which IOAS the VFIO type 1 ioctls, having no ID of one, are about. */
import { fail } from '../abi/errno.ts';
import { IOMMU_VFIO_IOAS_CLEAR, IOMMU_VFIO_IOAS_GET, IOMMU_VFIO_IOAS_SET, VfioIoas } from '../abi/iommufd.ts';
import type { Command } from './command.ts';
import { hex } from './format.ts';
import { Ioas } from './ioas.ts';
import { compatIoas } from './vfio-compat/compat-ioas.ts';

export function vfioIoas(command: Command): void {
  const { context } = command;
  const c = new VfioIoas(command.bytes);
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  switch (c.op) {
    case IOMMU_VFIO_IOAS_GET: {
      c.ioasId = compatIoas(context).id;
      command.respond();
      return;
    }
    case IOMMU_VFIO_IOAS_SET:
      context.vfioIoas = context.objects.get(c.ioasId, Ioas, 'ioas_id');
      return;
    case IOMMU_VFIO_IOAS_CLEAR:
      context.vfioIoas = null;
      return;
    default:
      throw fail('EOPNOTSUPP', `op ${c.op} is none of GET, SET and CLEAR`);
  }
}
