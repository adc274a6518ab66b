import { describe, expect, it } from 'vitest';
import {
  HwptAlloc,
  HwptInvalidate,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import { IommufdDevice } from './device.ts';
import { Program } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu } from './testing-driver.ts';

/** Commands of the fake driver: 0 is carried out, anything else refused. */
function setup(nestOnParent = false) {
  const program = new Program();
  const { id: devId } = IommufdDevice.bind(program.context, new FakeDevice(new FakeIommu({ nestOnParent })), 'vfio0');
  const hwptId = program.hwpt(devId, program.ioas(), NEST_PARENT);
  const viommuId = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, { devId, hwptId, type: FAKE_TYPE }).outViommuId;
  const data = { dataType: FAKE_TYPE, dataLen: 8, dataUptr: program.put(new Uint8Array(8), 0x900) };
  const ptId = nestOnParent ? hwptId : viommuId;
  const nestedId = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, { devId, ptId, ...data }).outHwptId;
  const call = (commands: number[], values: Record<string, number | bigint> = {}) => {
    const dataUptr = program.put(new Uint8Array(BigUint64Array.from(commands, BigInt).buffer), 0xa00);
    const all = { hwptId: viommuId, dataType: FAKE_TYPE, dataUptr, entryLen: 8, entryNum: commands.length, ...values };
    const { result, s } = program.ioctl(IOMMU_HWPT_INVALIDATE, HwptInvalidate, all);
    return [result, s.entryNum];
  };
  return { call, hwptId, nestedId, devId };
}

describe('HWPT_INVALIDATE', () => {
  it('carries out commands in order and says how many, also when one is refused', () => {
    const { call } = setup();
    expect(call([0, 0, 0])).toEqual([0, 3]);
    expect(call([0, 0, 5, 0])).toEqual([-5, 2]);
    expect(call([5])).toEqual([-5, 0]);
  });

  it('with an empty array tells whether the type is known', () => {
    const { call } = setup();
    expect(call([], { dataUptr: 0n, entryLen: 0 })).toEqual([0, 0]);
    expect(call([], { dataType: 77 })).toEqual([-22, 0]);
  });

  it('refuses an array without address or entry length, and writes 0 to entry_num', () => {
    const { call } = setup();
    expect(call([0], { reserved: 1 })).toEqual([-95, 0]);
    expect(call([0], { dataUptr: 0n })).toEqual([-22, 0]);
    expect(call([0], { entryLen: 0 })).toEqual([-22, 0]);
    expect(call([0], { entryLen: 0, hwptId: 99 })).toEqual([-22, 0]);
    expect(call([0], { entryLen: 3 })).toEqual([-22, 0]);
    expect(call([0], { dataUptr: 8n })).toEqual([-14, 0]);
  });

  it('is for nested HWPTs and vIOMMUs', () => {
    const { call, hwptId, nestedId } = setup();
    expect(call([0], { hwptId: 99 })).toEqual([-2, 0]);
    expect(call([0], { hwptId })).toEqual([-22, 0]);
    expect(call([0], { hwptId: nestedId })).toEqual([-95, 0]);
    const direct = setup(true);
    expect(direct.call([0, 0, 9], { hwptId: direct.nestedId })).toEqual([-5, 2]);
  });

  it('finds nested HWPTs only, before there are vIOMMUs', () => {
    const program = new Program({ abi: 'linux-6.12' });
    const values = { hwptId: program.ioas(), dataType: FAKE_TYPE };
    expect(program.err(IOMMU_HWPT_INVALIDATE, HwptInvalidate, values)).toBe('ENOENT');
  });

  it('skips the part of an entry that it does not know, when that is zero', () => {
    const { call } = setup();
    expect(call([0, 0, 0, 0], { entryLen: 16, entryNum: 2 })).toEqual([0, 2]);
    expect(call([0, 1, 0, 0], { entryLen: 16, entryNum: 2 })).toEqual([-7, 0]);
  });
});
