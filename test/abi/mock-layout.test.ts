import { describe, expect, it } from 'vitest';
import * as mock from '../../src/abi/iommufd-test.ts';
import * as group from '../../src/abi/vfio-group.ts';
import * as type1 from '../../src/abi/vfio-type1.ts';
import recordedMock from '../vectors/abi-iommufd-test.json' with { type: 'json' };
import recordedGroup from '../vectors/abi-vfio-group.json' with { type: 'json' };
import recordedType1 from '../vectors/abi-vfio-type1.json' with { type: 'json' };
import { type Layout, layoutOfExports } from './layout.ts';

interface Recorded {
  structs: unknown;
  constants: Record<string, number>;
}

/** Without what src/abi names and the header does not: padding, and the union of payloads as a whole. */
function named({ structs, constants }: Layout): Layout {
  const kept = Object.entries(structs).map(([struct, { size, fields }]) => {
    const recorded = (recordedMock.structs as unknown as Layout['structs'])[struct]!.fields;
    return [struct, { size, fields: Object.fromEntries(Object.entries(fields).filter(([name]) => name in recorded)) }];
  });
  return { structs: Object.fromEntries(kept), constants };
}

const recordedLayout = ({ structs, constants }: Recorded): Layout => ({
  structs: structs as Layout['structs'],
  constants,
});

describe('layouts as recorded from the headers of Linux 7.1', () => {
  it('IOMMU_TEST_CMD and the driver data of the mock driver are the same, with nothing missing', () => {
    const { TEST_PAYLOAD_OFFSET, TEST_PAYLOAD_BYTES, ...constants } = layoutOfExports(
      ...Object.entries(mock),
    ).constants;
    expect(named({ ...layoutOfExports(...Object.entries(mock)), constants })).toEqual(recordedLayout(recordedMock));
    // The payload is the union: from the end of the header to `last`, and as large as its largest member.
    const largest = Math.max(...Object.values(recordedMock.structs).map(({ size }) => (size > 48 ? 0 : size)));
    expect([TEST_PAYLOAD_OFFSET, TEST_PAYLOAD_BYTES]).toEqual([16, largest]);
    expect(recordedMock.structs.iommu_test_cmd.fields.last[0]).toBe(16 + largest);
  });

  it('the group part and the type 1 part of VFIO are the same', () => {
    expect(layoutOfExports(...Object.entries(group))).toEqual(recordedLayout(recordedGroup));
    expect(layoutOfExports(...Object.entries(type1))).toEqual(recordedLayout(recordedType1));
  });
});
