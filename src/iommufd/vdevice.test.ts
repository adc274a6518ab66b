import { describe, expect, it } from 'vitest';
import { fail } from '../abi/errno.ts';
import {
  Destroy,
  IOMMU_DESTROY,
  IOMMU_VDEVICE_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
  VdeviceAlloc,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import {
  IOMMU_VIOMMU_SET_VDEV_ID,
  IOMMU_VIOMMU_UNSET_VDEV_ID,
  V2_IOMMU_VIOMMU_ALLOC,
  V2ViommuAlloc,
  ViommuSetVdevId,
  ViommuUnsetVdevId,
} from '../abi/iommufd-viommu-v2.ts';
import { IommufdDevice } from './device.ts';
import { Program } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu, type FakeViommu } from './testing-driver.ts';
import type { Viommu } from './viommu.ts';

function setup(abi = 'linux-7.1') {
  const program = new Program({ abi });
  const iommu = new FakeIommu();
  const bind = (of = iommu) => IommufdDevice.bind(program.context, new FakeDevice(of), 'vfio');
  const [one, two] = [bind(), bind()];
  const elsewhere = bind(new FakeIommu({ name: 'fake1' }));
  const hwptId = program.hwpt(one.id, program.ioas(), NEST_PARENT);
  const values = { devId: one.id, hwptId, type: FAKE_TYPE };
  const viommuId =
    abi === 'viommu-v2'
      ? program.ok(V2_IOMMU_VIOMMU_ALLOC, V2ViommuAlloc, { ...values, type: 0 }).outViommuId
      : program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, values).outViommuId;
  const viommu = program.context.objects.find(viommuId) as Viommu;
  const names = () => [...(viommu.driver as FakeViommu).virtualDevices.entries()];
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, iommu, one, two, elsewhere, viommuId, names, destroy };
}

describe('VDEVICE_ALLOC', () => {
  const alloc = (s: ReturnType<typeof setup>, devId: number, virtId: bigint) =>
    s.program.err(IOMMU_VDEVICE_ALLOC, VdeviceAlloc, { viommuId: s.viommuId, devId, virtId });

  it('gives a device one virtual ID, which no other device of the vIOMMU has', () => {
    const s = setup();
    expect(alloc(s, s.one.id, 0x99n)).toBe('');
    expect(alloc(s, s.one.id, 0x98n)).toBe('EEXIST');
    expect(alloc(s, s.two.id, 0x99n)).toBe('EEXIST');
    expect(alloc(s, s.two.id, 0n)).toBe('');
    expect(s.names()).toEqual([
      [0x99n, s.one.physical],
      [0n, s.two.physical],
    ]);
  });

  it('wants a vIOMMU, and a device behind its pIOMMU', () => {
    const s = setup();
    expect(alloc({ ...s, viommuId: s.one.id }, 99, 1n)).toBe('ENOENT');
    expect(alloc(s, 99, 1n)).toBe('ENOENT');
    expect(alloc(s, s.elsewhere.id, 1n)).toBe('EINVAL');
    s.iommu.failAt('setVirtualDevice', fail('ENOMEM', 'no memory'));
    expect(alloc(s, s.one.id, 1n)).toBe('ENOMEM');
    expect(alloc(s, s.one.id, 1n)).toBe('');
  });

  it('holds the vIOMMU until it is destroyed, and then frees the virtual ID', () => {
    const s = setup();
    const values = { viommuId: s.viommuId, devId: s.one.id, virtId: 1n };
    const { outVdeviceId } = s.program.ok(IOMMU_VDEVICE_ALLOC, VdeviceAlloc, values);
    expect(s.destroy(s.viommuId)).toBe('EBUSY');
    expect(s.destroy(outVdeviceId)).toBe('');
    expect(alloc(s, s.two.id, 1n)).toBe('');
  });

  it('leaves a tombstone when the device goes first: the ID names nothing and is not given again', () => {
    const s = setup();
    const values = { viommuId: s.viommuId, devId: s.one.id, virtId: 1n };
    const { outVdeviceId } = s.program.ok(IOMMU_VDEVICE_ALLOC, VdeviceAlloc, values);
    s.one.unbind();
    expect(s.names()).toEqual([]);
    expect(s.destroy(outVdeviceId)).toBe('ENOENT');
    expect(s.destroy(s.viommuId)).toBe('');
    expect(s.program.ioas()).not.toBe(outVdeviceId);
    expect(s.program.ioas()).not.toBe(outVdeviceId);
    expect(s.program.ioas()).not.toBe(outVdeviceId);
  });

  it('stays without its device before Linux 6.17', () => {
    const s = setup('linux-6.16');
    const values = { viommuId: s.viommuId, devId: s.one.id, virtId: 1n };
    const { outVdeviceId } = s.program.ok(IOMMU_VDEVICE_ALLOC, VdeviceAlloc, values);
    s.one.unbind();
    expect(s.names()).toEqual([]);
    expect(s.destroy(s.viommuId)).toBe('EBUSY');
    expect(s.destroy(outVdeviceId)).toBe('');
    expect(s.destroy(s.viommuId)).toBe('');
  });
});

describe('SET_VDEV_ID and UNSET_VDEV_ID of viommu-v2', () => {
  const set = (s: ReturnType<typeof setup>, devId: number, vdevId: bigint) =>
    s.program.err(IOMMU_VIOMMU_SET_VDEV_ID, ViommuSetVdevId, { viommuId: s.viommuId, devId, vdevId });
  const unset = (s: ReturnType<typeof setup>, devId: number, vdevId: bigint) =>
    s.program.err(IOMMU_VIOMMU_UNSET_VDEV_ID, ViommuUnsetVdevId, { viommuId: s.viommuId, devId, vdevId });

  it('set one ID per device and clear the same one', () => {
    const s = setup('viommu-v2');
    expect(unset(s, s.one.id, 0x99n)).toBe('ENOENT');
    expect(set(s, s.one.id, 0x99n)).toBe('');
    expect(set(s, s.one.id, 0x99n)).toBe('EEXIST');
    expect(set(s, s.two.id, 0x99n)).toBe('EBUSY');
    expect(unset(s, s.one.id, 0x88n)).toBe('EINVAL');
    expect(s.names()).toEqual([[0x99n, s.one.physical]]);
    expect(unset(s, s.one.id, 0x99n)).toBe('');
    expect(set(s, s.one.id, 0x88n)).toBe('');
    expect(set(s, s.elsewhere.id, 1n)).toBe('EINVAL');
    expect(set(s, 99, 1n)).toBe('ENOENT');
    expect(unset(s, 99, 1n)).toBe('ENOENT');
  });

  it('make no object: the vIOMMU can be destroyed, and takes the IDs along', () => {
    const s = setup('viommu-v2');
    set(s, s.one.id, 1n);
    expect(s.destroy(s.viommuId)).toBe('');
    expect(s.one.virtualIds.size).toBe(0);
    expect(s.iommu.resources.virtualDevices).toBe(0);
  });

  it('end with the device', () => {
    const s = setup('viommu-v2');
    set(s, s.one.id, 1n);
    s.one.unbind();
    expect(s.names()).toEqual([]);
    expect(set(s, s.two.id, 1n)).toBe('');
  });
});
