/** The IOAS that the VFIO type 1 ioctls, having no ID of one, are about. */
import { fail } from '../../abi/errno.ts';
import type { IommufdContext } from '../context.ts';
import { Ioas } from '../ioas.ts';

/** ENODEV without one. */
export function compatIoas({ vfioIoas }: IommufdContext): Ioas {
  if (!vfioIoas) throw fail('ENODEV', 'no IOAS is set for VFIO compatibility');
  return vfioIoas;
}

/**
 * What a group does when an iommufd becomes its container: makes one, unless there is one. Programs may destroy it.
 * @param take what the group does with it; when that fails, one that was made is not kept
 */
export function withCompatIoas(context: IommufdContext, take: () => void): void {
  const present = context.vfioIoas;
  if (!present) makeCompatIoas(context);
  try {
    take();
  } catch (error) {
    if (!present) context.objects.remove(context.vfioIoas!.id);
    context.vfioIoas = present;
    throw error;
  }
}

function makeCompatIoas(context: IommufdContext): void {
  const ioas = context.objects.reserve(new Ioas());
  context.objects.publish(ioas);
  context.vfioIoas = ioas;
}
