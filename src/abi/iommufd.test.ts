import { describe, expect, it } from 'vitest';
import * as iommufd from './iommufd.ts';
import * as v2 from './iommufd-viommu-v2.ts';
import { STRUCTS } from './structs.ts';

describe('the uAPI as a client fills it', () => {
  it('IOAS_MAP puts each value where the kernel reads it', () => {
    const map = new iommufd.IoasMap();
    Object.assign(map, { size: 40, flags: 6, ioasId: 2, userVa: 0x1122334455667788n, length: 0x1000n, iova: 0xfn });
    expect(Buffer.from(map.bytes).toString('hex')).toBe(
      '28000000060000000200000000000000' + '8877665544332211' + '0010000000000000' + '0f00000000000000',
    );
  });

  it('SET_VDEV_ID of viommu-v2 is VDEVICE_ALLOC with a reserved word in place of the new ID', () => {
    expect(Object.values(v2.ViommuSetVdevId.fields).map(({ offset }) => offset)).toEqual(
      Object.values(iommufd.VdeviceAlloc.fields).map(({ offset }) => offset),
    );
    expect(v2.IOMMU_VIOMMU_UNSET_VDEV_ID).toBe(iommufd.IOMMU_VDEVICE_ALLOC);
  });

  it('every flag, type and index that a field names is a number that fits the field', () => {
    for (const layout of STRUCTS.values()) {
      for (const { format, bytes, uapiName } of Object.values(layout.fields)) {
        if (typeof format !== 'object') continue;
        for (const value of Object.values('flags' in format ? format.flags : format.names)) {
          expect(value, `${layout.structName}.${uapiName}`).toBeLessThan(2 ** (8 * bytes));
          expect(value, `${layout.structName}.${uapiName}`).toBeGreaterThanOrEqual(0);
        }
      }
    }
  });
});
