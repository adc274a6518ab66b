import { describe, expect, it } from 'vitest';
import { fail } from '../abi/errno.ts';
import {
  Destroy,
  IOMMU_HWPT_FAULT_ID_VALID as FAULT,
  HwptAlloc,
  IOMMU_DESTROY,
  IOMMU_HWPT_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import { IommufdDevice } from './device.ts';
import type { HwptPaging } from './hwpt-paging.ts';
import { Program, type ProgramOptions } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu, type FakeIommuOptions, type FakePagingDomain } from './testing-driver.ts';

function setup(options: ProgramOptions = {}, iommuOptions: FakeIommuOptions = {}) {
  const program = new Program(options);
  const iommu = new FakeIommu(iommuOptions);
  const device = IommufdDevice.bind(program.context, new FakeDevice(iommu), 'vfio0');
  const ioasId = program.ioas();
  const err = (values: Record<string, number | bigint>) =>
    program.err(IOMMU_HWPT_ALLOC, HwptAlloc, { devId: device.id, ptId: ioasId, ...values });
  const data = { dataType: FAKE_TYPE, dataLen: 8, dataUptr: program.put(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)) };
  const parent = () => program.hwpt(device.id, ioasId, NEST_PARENT);
  const viommu = (hwptId: number) =>
    program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, { devId: device.id, hwptId, type: FAKE_TYPE }).outViommuId;
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, iommu, device, ioasId, err, data, parent, viommu, destroy };
}

describe('HWPT_ALLOC of a paging HWPT', () => {
  it('fills the new domain with what the IOAS maps, and keeps it so', () => {
    const { program, device, ioasId } = setup();
    program.map(ioasId, 0x10000n, 0x4000n);
    const hwpt = program.context.objects.find(program.hwpt(device.id, ioasId)) as HwptPaging;
    const domain = hwpt.domain as FakePagingDomain;
    expect(domain.mappings.size).toBe(1);
    program.map(ioasId, 0x20000n, 0x1000n);
    expect(domain.physical(0x20000n)).not.toBeNull();
    expect(program.pinned.pinnedFrames).toBe(5);
  });

  it('checks reserved, data, device, base and flags in this order', () => {
    const { err } = setup();
    expect(err({ reserved: 1, dataLen: 1 })).toBe('EOPNOTSUPP');
    expect(err({ dataLen: 8, devId: 99 })).toBe('EINVAL');
    expect(err({ dataType: 1, devId: 99 })).toBe('EINVAL');
    expect(err({ devId: 99, ptId: 99 })).toBe('ENOENT');
    expect(err({ devId: 2 })).toBe('ENOENT');
    expect(err({ ptId: 99, flags: 0x80 })).toBe('EINVAL');
    expect(err({ ptId: 1 })).toBe('EINVAL');
    expect(err({ flags: 0x80 })).toBe('EOPNOTSUPP');
    expect(err({ flags: NEST_PARENT | FAULT })).toBe('EOPNOTSUPP');
    expect(err({ flags: FAULT, faultId: 1 })).toBe('ENOENT');
    expect(err({})).toBe('');
  });

  it('leaves neither domain nor pins when it is refused', () => {
    const { program, iommu, err, ioasId, data } = setup();
    program.map(ioasId, 0x10000n, 0x4000n);
    iommu.failAt('allocPaging', fail('ENOMEM', 'no memory'));
    expect(err({})).toBe('ENOMEM');
    iommu.failAt('map', fail('ENOMEM', 'no table'));
    expect(err({})).toBe('ENOMEM');
    expect(err(data)).toBe('EOPNOTSUPP');
    expect(err({ flags: FAULT })).toBe('ENOENT');
    expect(iommu.resources.domains).toBe(0);
    expect(program.pinned.pinnedFrames).toBe(0);
    expect(program.context.objects.size).toBe(2);
  });

  it('reserves the IOVAs that its aperture lacks until it is destroyed', () => {
    const { program, device, ioasId, destroy, err } = setup({}, { aperture: { start: 0x1000000n, last: 0x7fffffffn } });
    const id = program.hwpt(device.id, ioasId);
    expect(() => program.map(ioasId, 0x1000n, 0x1000n)).toThrow('EINVAL');
    expect(destroy(ioasId)).toBe('EBUSY');
    expect(destroy(id)).toBe('');
    program.map(ioasId, 0x1000n, 0x1000n);
    expect(err({})).toBe('EADDRINUSE');
  });

  it('takes only the flags that the release knows', () => {
    expect(setup({ abi: 'linux-6.6' }).err({ flags: NEST_PARENT })).toBe('EOPNOTSUPP');
    expect(setup({ abi: 'linux-6.7' }).err({ flags: NEST_PARENT })).toBe('');
    expect(setup({ abi: 'linux-6.7' }).err({ flags: FAULT })).toBe('EOPNOTSUPP');
  });
});

describe('HWPT_ALLOC of a nested HWPT', () => {
  it('on a vIOMMU holds the vIOMMU, and that holds the parent', () => {
    const { program, err, data, parent, viommu, destroy, iommu, device, ioasId } = setup();
    const parentId = parent();
    const viommuId = viommu(parentId);
    const nestedId = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, { devId: device.id, ptId: viommuId, ...data }).outHwptId;
    expect([ioasId, parentId, viommuId].map(destroy)).toEqual(['EBUSY', 'EBUSY', 'EBUSY']);
    expect(err({ ptId: nestedId, ...data })).toBe('EINVAL');
    expect([nestedId, viommuId, parentId, ioasId].map(destroy)).toEqual(['', '', '', '']);
    expect(iommu.resources).toEqual({ domains: 0, viommus: 0, virtualDevices: 0 });
  });

  it('on a vIOMMU needs data, no paging flags, and a device behind the same pIOMMU', () => {
    const { program, err, data, parent, viommu } = setup();
    const ptId = viommu(parent());
    const other = IommufdDevice.bind(program.context, new FakeDevice(new FakeIommu({ name: 'fake1' })), 'vfio1');
    expect(err({ ptId, ...data, devId: other.id, flags: 1 })).toBe('EINVAL');
    expect(err({ ptId, ...data, flags: NEST_PARENT })).toBe('EOPNOTSUPP');
    expect(err({ ptId })).toBe('EOPNOTSUPP');
    expect(err({ ptId, ...data, dataType: 1 })).toBe('EINVAL');
    expect(err({ ptId, ...data, dataLen: 3 })).toBe('EINVAL');
    expect(err({ ptId, ...data, dataLen: 9 })).toBe('EINVAL');
    expect(err({ ptId, ...data, dataUptr: 8n })).toBe('EFAULT');
  });

  it('directly on a parent is for drivers that offer it', () => {
    const plain = setup();
    expect(plain.err({ ptId: plain.parent(), ...plain.data })).toBe('EOPNOTSUPP');
    const { program, err, data, parent, device, ioasId, destroy } = setup({}, { nestOnParent: true });
    const parentId = parent();
    expect(err({ ptId: program.hwpt(device.id, ioasId), ...data })).toBe('EINVAL');
    expect(err({ ptId: device.attach(ioasId), ...data })).toBe('EINVAL');
    expect(err({ ptId: parentId, ...data })).toBe('');
    expect(destroy(parentId)).toBe('EBUSY');
  });
});
