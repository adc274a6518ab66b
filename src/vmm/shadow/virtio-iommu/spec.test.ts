/** Offsets come from a C program over the kernel's virtio_iommu.h. */
import { expect, it } from 'vitest';
import type { AnyStruct } from '../../../abi/struct.ts';
import * as spec from './spec.ts';

/** Size without the tail, and offsets. */
const GOLDEN: readonly (readonly [AnyStruct, number, Readonly<Record<string, number>>])[] = [
  [spec.Config, 40, { pageSizeMask: 0, inputStart: 8, inputEnd: 16, domainStart: 24, domainEnd: 28, probeSize: 32 }],
  [spec.AttachRequest, 20, { type: 0, domain: 4, endpoint: 8, flags: 12 }],
  [spec.DetachRequest, 20, { type: 0, domain: 4, endpoint: 8 }],
  [spec.MapRequest, 36, { type: 0, domain: 4, virtStart: 8, virtEnd: 16, physStart: 24, flags: 32 }],
  [spec.UnmapRequest, 28, { type: 0, domain: 4, virtStart: 8, virtEnd: 16 }],
  [spec.ProbeRequest, 72, { type: 0, endpoint: 4 }],
  [spec.ReservedMemory, 24, { type: 0, length: 2, subtype: 4, start: 8, end: 16 }],
];

it.each(GOLDEN)('$structName is laid out as in the header', (layout, size, offsets) => {
  expect(layout.size).toBe(size);
  for (const [name, offset] of Object.entries(offsets)) expect(layout.fields[name]!.offset, name).toBe(offset);
});

it('requests and answers have the numbers of the header', () => {
  const { T_ATTACH, T_DETACH, T_MAP, T_UNMAP, T_PROBE, PROBE_T_RESV_MEM, RESV_MEM_T_RESERVED, STATUS } = spec;
  expect([T_ATTACH, T_DETACH, T_MAP, T_UNMAP, T_PROBE]).toEqual([1, 2, 3, 4, 5]);
  expect([PROBE_T_RESV_MEM, RESV_MEM_T_RESERVED]).toEqual([1, 0]);
  expect(Object.values(STATUS)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect([STATUS.INVAL, STATUS.RANGE, STATUS.NOENT, STATUS.NOMEM]).toEqual([4, 5, 6, 8]);
});
