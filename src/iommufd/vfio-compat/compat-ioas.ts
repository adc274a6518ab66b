/** The IOAS that the VFIO type 1 ioctls, having no ID of one, are about. */
import { fail } from '../../abi/errno.ts';
import type { IommufdContext } from '../context.ts';
import { Ioas } from '../ioas.ts';

/** ENODEV without one. */
export function compatIoas({ vfioIoas }: IommufdContext): Ioas {
  if (!vfioIoas) throw fail('ENODEV', 'no IOAS is set for VFIO compatibility');
  return vfioIoas;
}

/** What a group does when an iommufd becomes its container: makes one, unless there is one. Programs may destroy it. */
export function ensureCompatIoas(context: IommufdContext): void {
  if (context.vfioIoas) return;
  const ioas = context.objects.reserve(new Ioas());
  context.objects.publish(ioas);
  context.vfioIoas = ioas;
}
