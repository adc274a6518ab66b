import { describe, expect, it } from 'vitest';
import { IOMMU_OPTION, Option } from '../abi/iommufd.ts';
import { IommufdDevice } from './device.ts';
import { Program } from './testing.ts';
import { FakeDevice, FakeIommu } from './testing-driver.ts';

const [RLIMIT_MODE, HUGE_PAGES] = [0, 1];
const [SET, GET] = [0, 1];

function setup() {
  const program = new Program();
  const call = (optionId: number, op: number, val64 = 0n, more = {}) => {
    const { result, s } = program.ioctl(IOMMU_OPTION, Option, { optionId, op, val64, ...more });
    return result || s.val64;
  };
  return { program, call };
}

describe('OPTION', () => {
  it('RLIMIT_MODE is 0 or 1, and can be set before there is any object', () => {
    const { program, call } = setup();
    expect(call(RLIMIT_MODE, GET, 1n)).toBe(0n);
    expect(call(RLIMIT_MODE, SET, 2n)).toBe(-22);
    expect(call(RLIMIT_MODE, SET, 1n)).toBe(1n);
    expect(call(RLIMIT_MODE, GET, 0n)).toBe(1n);
    expect(call(RLIMIT_MODE, GET, 0n, { objectId: 1 })).toBe(-95);
    program.ioas();
    expect(call(RLIMIT_MODE, SET, 0n)).toBe(-16);
    expect(call(RLIMIT_MODE, GET, 0n)).toBe(1n);
  });

  it('HUGE_PAGES is a matter of each IOAS', () => {
    const { program, call } = setup();
    const objectId = program.ioas();
    expect(call(HUGE_PAGES, GET, 0n, { objectId: 99 })).toBe(-2);
    expect(call(HUGE_PAGES, GET, 0n, { objectId })).toBe(1n);
    expect(call(HUGE_PAGES, SET, 2n, { objectId })).toBe(-22);
    expect(call(HUGE_PAGES, SET, 0n, { objectId })).toBe(0n);
    expect(call(HUGE_PAGES, GET, 5n, { objectId })).toBe(0n);
    expect(call(HUGE_PAGES, SET, 1n, { objectId })).toBe(1n);
    IommufdDevice.bind(program.context, new FakeDevice(new FakeIommu()), 'vfio0').attach(objectId);
    program.map(objectId, 0n, 0x1000n);
    expect(call(HUGE_PAGES, SET, 0n, { objectId })).toBe(-22);
  });

  it('refuses what it does not know', () => {
    const { program, call } = setup();
    const objectId = program.ioas();
    expect(call(7, GET)).toBe(-95);
    expect(call(RLIMIT_MODE, 2)).toBe(-95);
    expect(call(HUGE_PAGES, 2, 0n, { objectId })).toBe(-95);
    expect(call(RLIMIT_MODE, GET, 0n, { reserved: 1 })).toBe(-95);
  });
});
