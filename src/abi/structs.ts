/** All structs of the uAPI by name. */
import * as iommufd from './iommufd.ts';
import * as v2 from './iommufd-viommu-v2.ts';
import { type AnyStruct, isStruct } from './struct.ts';
import * as vfio from './vfio.ts';

/** Where two releases have a struct of one name, the newest layout. */
const everyStruct = (): ReadonlyMap<string, AnyStruct> => {
  const found = new Map<string, AnyStruct>();
  for (const layout of [...Object.values(v2), ...Object.values(vfio), ...Object.values(iommufd)]) {
    if (isStruct(layout) && layout !== iommufd.HwInfoWithoutPasid) found.set(layout.structName, layout);
  }
  return found;
};

/** By the name that the uAPI gives them, without `struct`: 'iommu_ioas_map'. */
export const STRUCTS: ReadonlyMap<string, AnyStruct> = everyStruct();
