import { describe, expect, it } from 'vitest';
import { HwInfo } from './iommufd.ts';
import { isStruct } from './struct.ts';
import { STRUCTS } from './structs.ts';
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
