/** IOMMU_DESTROY */
import { Destroy } from '../abi/iommufd.ts';
import type { Command } from './command.ts';

export function destroy({ context, bytes }: Command): void {
  const { id } = new Destroy(bytes);
  // A program that has unmapped an object's region may destroy it: nothing has told us of the munmap.
  context.mmapRegions.sweep();
  const object = context.objects.find(id);
  context.objects.remove(id);
  if (object === context.vfioIoas) context.vfioIoas = null;
}
