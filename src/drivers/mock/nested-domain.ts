/** A nested domain of the mock driver: an IOTLB of four numbers, which invalidation sets to 0. */
import { fail } from '../../abi/errno.ts';
import {
  HwptInvalidateSelftest,
  type HwptSelftest,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
  IOMMU_TEST_INVALIDATE_FLAG_ALL,
  MOCK_NESTED_DOMAIN_IOTLB_NUM,
} from '../../abi/iommufd-test.ts';
import type { InvalidateResult, NestedDomain, PagingDomain, UserDataArray } from '../iommu-driver.ts';
import type { MockViommu } from './viommu.ts';

export class MockNestedDomain implements NestedDomain {
  readonly kind: 'nested';
  readonly parent: PagingDomain;
  /** The vIOMMU that it was allocated in, or null. */
  readonly viommu: MockViommu | null;
  readonly iotlb: Uint32Array;
  private readonly freed: () => void;

  constructor(
    parent: PagingDomain,
    viommu: MockViommu | null,
    config: InstanceType<typeof HwptSelftest>,
    freed: () => void,
  ) {
    this.kind = 'nested';
    this.parent = parent;
    this.viommu = viommu;
    this.iotlb = new Uint32Array(MOCK_NESTED_DOMAIN_IOTLB_NUM).fill(config.iotlb);
    this.freed = freed;
  }

  invalidate(commands: UserDataArray): InvalidateResult {
    if (commands.type !== IOMMU_HWPT_INVALIDATE_DATA_SELFTEST) {
      throw fail('EINVAL', `data_type ${commands.type} is not ${IOMMU_HWPT_INVALIDATE_DATA_SELFTEST}`);
    }
    const result: InvalidateResult = { done: 0, error: null };
    try {
      for (; result.done < commands.entryCount; result.done++) this.carryOut(commands, result.done);
    } catch (error) {
      result.error = error as Error;
    }
    return result;
  }

  free(): void {
    this.freed();
  }

  private carryOut(commands: UserDataArray, index: number): void {
    const { size } = HwptInvalidateSelftest;
    // One by one, commands may not be longer than known, whatever the tail; a whole array of them may.
    if (commands.entryLength > size) throw fail('EINVAL', `entry_len ${commands.entryLength} is more than ${size}`);
    const { flags, iotlbId } = new HwptInvalidateSelftest(commands.copy(index, size, size));
    checkInvalidation(flags, 'iotlb_id', iotlbId, this.iotlb.length);
    if (flags) this.iotlb.fill(0);
    else this.iotlb[iotlbId] = 0;
  }
}

/** What commands for IOTLBs and device caches have in common: EOPNOTSUPP for unknown flags, EINVAL for entries beyond. */
export function checkInvalidation(flags: number, field: string, entry: number, entries: number): void {
  if (flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL)
    throw fail('EOPNOTSUPP', `flags 0x${flags.toString(16)} has bits beyond 0x1`);
  if (entry >= entries) throw fail('EINVAL', `${field} ${entry} is not below ${entries}`);
}
