import { describe, expect, it } from 'vitest';
import * as iommufd from '../../src/abi/iommufd.ts';
import * as v2 from '../../src/abi/iommufd-viommu-v2.ts';
import * as vfio from '../../src/abi/vfio.ts';
import linux71 from '../vectors/abi-linux-7.1.json' with { type: 'json' };
import viommuV2 from '../vectors/abi-viommu-v2.json' with { type: 'json' };
import { hasCompiler, type Layout, layoutOfExports, layoutOfHeaders } from './layout.ts';

interface Vector {
  structs: unknown;
  ioctls: Record<string, number>;
  constants: Record<string, number>;
}

const layoutOfVector = ({ structs, ioctls, constants }: Vector): Layout => ({
  structs: structs as Layout['structs'],
  constants: { ...ioctls, ...constants },
});

const isNew = ([, value]: [string, unknown]): boolean => value !== iommufd.HwInfoWithoutPasid;
const mainline = layoutOfExports(...Object.entries(iommufd).filter(isNew));
const device = layoutOfExports(...Object.entries(vfio));

const recordedV2 = layoutOfVector(viommuV2);

/** The dialect's view: mainline's names as far as the dialect has them, its own, and its older GET_HW_INFO. */
const dialectV2 = ((): Layout => {
  const own = layoutOfExports(...Object.entries(v2), ['HwInfo', iommufd.HwInfoWithoutPasid]);
  const old = <T>(all: Record<string, T>, known: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(all).filter(([name]) => name in known));
  return {
    structs: { ...old(mainline.structs, recordedV2.structs), ...own.structs },
    constants: { ...old(mainline.constants, recordedV2.constants), ...own.constants },
  };
})();

describe('layouts as recorded from the headers of others', () => {
  it('iommufd and the device part of VFIO are those of Linux 7.1, with nothing missing and nothing more', () => {
    expect({
      structs: { ...mainline.structs, ...device.structs },
      constants: { ...mainline.constants, ...device.constants },
    }).toEqual(layoutOfVector(linux71));
  });

  it('viommu-v2 is that of the VMM fork of the design thread', () => {
    const { iommu_hwpt_pgfault: pgfault, ...structs } = dialectV2.structs;
    const { iommu_hwpt_pgfault: recorded, ...others } = recordedV2.structs;
    expect({ structs, constants: dialectV2.constants }).toEqual({ structs: others, constants: recordedV2.constants });
    // Its header leaves the padding before addr without a name.
    const { __reserved, ...named } = pgfault!.fields;
    expect({ size: pgfault!.size, fields: named }).toEqual(recorded);
    expect(__reserved).toEqual([20, 4]);
  });
});

describe.skipIf(!hasCompiler())('layouts as a C compiler (cc) sees the headers in examples/uapi', () => {
  it('iommufd.h declares what src/abi does', () => {
    expect(layoutOfHeaders(['iommufd.h'], mainline)).toEqual(mainline);
  });

  it('vfio.h declares what src/abi does', () => {
    expect(layoutOfHeaders(['vfio.h'], device)).toEqual(device);
  });

  it('iommufd-viommu-v2.h declares what src/abi does', () => {
    expect(layoutOfHeaders(['iommufd-viommu-v2.h', 'vfio.h'], dialectV2)).toEqual(dialectV2);
  });

  it('the comparison notices a field that is elsewhere', () => {
    const wrong: Layout = structuredClone(mainline);
    wrong.structs.iommu_ioas_map!.fields.iova = [24, 8];
    expect(layoutOfHeaders(['iommufd.h'], wrong)).not.toEqual(wrong);
  });
});
