import { describe, expect, it } from 'vitest';
import { fail } from '../abi/errno.ts';
import {
  Destroy,
  IOMMU_DESTROY,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import { V2_IOMMU_VIOMMU_ALLOC, V2ViommuAlloc } from '../abi/iommufd-viommu-v2.ts';
import { IommufdDevice } from './device.ts';
import { Program, type ProgramOptions } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu } from './testing-driver.ts';

function setup(options: ProgramOptions = {}) {
  const program = new Program(options);
  const iommu = new FakeIommu();
  const { id: devId } = IommufdDevice.bind(program.context, new FakeDevice(iommu), 'vfio0');
  const ioasId = program.ioas();
  const hwptId = program.hwpt(devId, ioasId, NEST_PARENT);
  const good = { devId, hwptId, type: FAKE_TYPE };
  const err = (values: Record<string, number | bigint> = {}) =>
    program.err(IOMMU_VIOMMU_ALLOC, ViommuAlloc, { ...good, ...values });
  return { program, iommu, ioasId, good, err };
}

describe('VIOMMU_ALLOC', () => {
  it('checks flags and type, device, what the driver knows, and the parent in this order', () => {
    const { program, ioasId, good, err } = setup();
    expect(err({ flags: 1, devId: 99 })).toBe('EOPNOTSUPP');
    expect(err({ type: 0, devId: 99 })).toBe('EOPNOTSUPP');
    expect(err({ devId: 99, type: 5 })).toBe('ENOENT');
    expect(err({ type: 5, hwptId: 99 })).toBe('EOPNOTSUPP');
    expect(err({ hwptId: 99 })).toBe('ENOENT');
    expect(err({ hwptId: ioasId })).toBe('ENOENT');
    expect(err({ hwptId: program.hwpt(good.devId, ioasId) })).toBe('EINVAL');
    expect(err()).toBe('');
  });

  it('works for a struct of the first release, without driver data', () => {
    const { program, good } = setup();
    expect(program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, { ...good, size: 24 }).outViommuId).toBe(4);
  });

  it('holds the parent, and gives the driver its part back', () => {
    const { program, iommu, good } = setup();
    const { outViommuId } = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, good);
    expect(program.err(IOMMU_DESTROY, Destroy, { id: good.hwptId })).toBe('EBUSY');
    expect(iommu.resources.viommus).toBe(1);
    program.ok(IOMMU_DESTROY, Destroy, { id: outViommuId });
    program.ok(IOMMU_DESTROY, Destroy, { id: good.hwptId });
    expect(iommu.resources).toEqual({ domains: 0, viommus: 0, virtualDevices: 0 });
  });

  it('leaves nothing when the driver has none left', () => {
    const { program, iommu, err } = setup();
    iommu.failAt('allocViommu', fail('ENOSPC', 'no VMID'));
    expect(err()).toBe('ENOSPC');
    expect(program.context.objects.counts().viommu).toBeUndefined();
  });

  it('gives a second vIOMMU on a pIOMMU, unless the machine allows one only', () => {
    const many = setup();
    expect([many.err(), many.err()]).toEqual(['', '']);
    const one = setup({ oneViommuPerPiommu: true });
    expect([one.err(), one.err()]).toEqual(['', 'EEXIST']);
    const other = IommufdDevice.bind(one.program.context, new FakeDevice(new FakeIommu({ name: 'fake1' })), 'vfio1');
    expect(one.err({ devId: other.id })).toBe('');
    one.program.ok(IOMMU_DESTROY, Destroy, { id: 4 });
    expect(one.err()).toBe('');
  });

  it('of the default type is for the dialect viommu-v2', () => {
    const { program, good } = setup({ abi: 'viommu-v2' });
    const v2 = { ...good, type: 0 };
    expect(program.ok(V2_IOMMU_VIOMMU_ALLOC, V2ViommuAlloc, v2).outViommuId).toBe(4);
    expect(program.err(V2_IOMMU_VIOMMU_ALLOC, V2ViommuAlloc, { ...v2, type: 7 })).toBe('EOPNOTSUPP');
  });
});
