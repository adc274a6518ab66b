import { describe, expect, it } from 'vitest';
import {
  Destroy,
  HwInfo,
  HwptAlloc,
  HwptInvalidate,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_DATA_ARM_SMMUV3,
  IoasMap,
} from './iommufd.ts';
import { isStruct } from './struct.ts';
import { STRUCTS, structText } from './structs.ts';
import { DeviceBindIommufd } from './vfio.ts';

describe('structs by name', () => {
  it('are found in the newest layout', () => {
    expect(STRUCTS.get('iommu_hw_info')).toBe(HwInfo);
    expect(STRUCTS.get('iommu_viommu_alloc')?.size).toBe(40);
    expect(STRUCTS.get('iommu_virq_alloc')?.size).toBe(24);
    expect(STRUCTS.get('vfio_device_bind_iommufd')).toBe(DeviceBindIommufd);
    expect([...STRUCTS.values()].every(isStruct)).toBe(true);
  });
});

describe('the text of a struct', () => {
  it('names flags and leaves out reserved fields that are zero', () => {
    const map = new IoasMap();
    Object.assign(map, { size: 40, flags: 7, ioasId: 3, userVa: 0x7f0000000000n, length: 0x2000n, iova: 0x1000n });
    expect(structText(IoasMap, map.bytes)).toBe(
      '{size=40, flags=IOMMU_IOAS_MAP_FIXED_IOVA|IOMMU_IOAS_MAP_WRITEABLE|IOMMU_IOAS_MAP_READABLE, ioas_id=3, ' +
        'user_va=0x7f0000000000, length=0x2000, iova=0x1000}',
    );
  });

  it('shows what it has no name for as a number', () => {
    const map = new IoasMap();
    Object.assign(map, { flags: 0x11, reserved: 5 });
    expect(structText(IoasMap, map.bytes.subarray(0, 16))).toBe(
      '{size=0, flags=IOMMU_IOAS_MAP_FIXED_IOVA|0x10, ioas_id=0, __reserved=5}',
    );
    const invalidate = new HwptInvalidate();
    invalidate.dataType = 0xdeadbeef;
    expect(structText(HwptInvalidate, invalidate.bytes)).toContain('data_type=0xdeadbeef');
  });

  it('ends where an older, shorter struct ends', () => {
    const alloc = new HwptAlloc();
    Object.assign(alloc, { size: 24, flags: IOMMU_HWPT_ALLOC_NEST_PARENT, dataType: IOMMU_HWPT_DATA_ARM_SMMUV3 });
    expect(structText(HwptAlloc, alloc.bytes.subarray(0, 24))).toBe(
      '{size=24, flags=IOMMU_HWPT_ALLOC_NEST_PARENT, dev_id=0, pt_id=0, out_hwpt_id=0}',
    );
    expect(structText(HwptAlloc, alloc.bytes)).toContain('data_type=IOMMU_HWPT_DATA_ARM_SMMUV3');
    expect(structText(Destroy, new Uint8Array(3))).toBe('{}');
  });

  it('shows a signed fd as it is', () => {
    const bind = new DeviceBindIommufd();
    bind.iommufd = -1;
    expect(structText(DeviceBindIommufd, bind.bytes)).toContain('iommufd=-1');
  });
});
