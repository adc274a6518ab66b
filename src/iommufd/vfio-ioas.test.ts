import { expect, it } from 'vitest';
import { Destroy, IOMMU_DESTROY, IOMMU_VFIO_IOAS, VfioIoas } from '../abi/iommufd.ts';
import { Program } from './testing.ts';

const [GET, SET, CLEAR] = [0, 1, 2];

it('VFIO_IOAS is set, told, cleared, and forgotten with the IOAS', () => {
  const program = new Program();
  const call = (op: number, ioasId = 0, more = {}) => {
    const { result, s } = program.ioctl(IOMMU_VFIO_IOAS, VfioIoas, { op, ioasId, ...more });
    return result || s.ioasId;
  };
  const ioas = program.ioas();
  expect(call(GET)).toBe(-19);
  expect(call(SET, 99)).toBe(-2);
  expect(call(SET, ioas)).toBe(ioas);
  expect(call(GET)).toBe(ioas);
  expect(call(CLEAR)).toBe(0);
  expect(call(GET)).toBe(-19);
  call(SET, ioas);
  program.ok(IOMMU_DESTROY, Destroy, { id: ioas });
  expect(call(GET)).toBe(-19);
  expect(call(3)).toBe(-95);
  expect(call(GET, 0, { reserved: 1 })).toBe(-95);
});
