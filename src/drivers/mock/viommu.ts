/** A vIOMMU of the mock driver: it names devices, and invalidates their caches. */
import { fail } from '../../abi/errno.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_TEST_HW_QUEUE_MAX,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
  ViommuEventSelftest,
  ViommuInvalidateSelftest,
  ViommuSelftest,
} from '../../abi/iommufd-test.ts';
import { mayFail } from '../failure-points.ts';
import type {
  DriverDevice,
  DriverHwQueue,
  DriverViommu,
  EventSink,
  InvalidateResult,
  MappableMemory,
  NestedDomain,
  UserData,
  UserDataArray,
} from '../iommu-driver.ts';
import type { MockDevice } from './device.ts';
import type { MockIommu } from './mock-iommu.ts';
import { checkInvalidation } from './nested-domain.ts';
import type { MockPagingDomain } from './paging-domain.ts';

/** The region that a vIOMMU with data offers for mmap: two pages, the first word of which is the data. */
const REGION_BYTES = 8192;

/** What a kernel can allocate at once. */
const MOST_COMMAND_BYTES = 2 ** 22;

export class MockViommu implements DriverViommu {
  readonly parent: MockPagingDomain;
  readonly eventTypes: readonly number[];
  readonly hwQueueTypes: readonly number[];
  readonly region: MappableMemory | null;
  onEvent: EventSink | null;
  private readonly iommu: MockIommu;
  private readonly devices: Map<bigint, MockDevice>;
  private readonly queues: Array<MockHwQueue | null>;
  private readonly data: UserData | null;
  private readonly answer: InstanceType<typeof ViommuSelftest>;

  constructor(iommu: MockIommu, parent: MockPagingDomain, data: UserData | null) {
    mayFail('a mock vIOMMU');
    this.iommu = iommu;
    this.parent = parent;
    this.eventTypes = [IOMMU_VEVENTQ_TYPE_SELFTEST];
    this.hwQueueTypes = [IOMMU_HW_QUEUE_TYPE_SELFTEST];
    this.onEvent = null;
    this.devices = new Map();
    this.queues = new Array(IOMMU_TEST_HW_QUEUE_MAX).fill(null);
    this.data = data;
    this.answer = new ViommuSelftest(data?.copy(ViommuSelftest.end('outData'), ViommuSelftest.size));
    this.region = data ? { bytes: new Uint8Array(REGION_BYTES) } : null;
    if (this.region) new DataView(this.region.bytes.buffer).setUint32(0, this.answer.inData, true);
    iommu.resources.viommus++;
  }

  /** Tells the user where its region is, and what it gave. */
  regionPlaced(offset: bigint): void {
    const { answer } = this;
    answer.outData = answer.inData;
    answer.outMmapOffset = offset;
    answer.outMmapLength = BigInt(REGION_BYTES);
    this.data!.writeBack(answer.bytes);
  }

  allocNested(flags: number, data: UserData): NestedDomain {
    return this.iommu.allocNested(this.parent, this, flags, data);
  }

  /** Unlike on a nested domain, the whole array is read first: a command that cannot be read stops all of them. */
  invalidate(commands: UserDataArray): InvalidateResult {
    const { type, entryCount } = commands;
    if (type !== IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST) {
      throw fail('EINVAL', `data_type ${type} is not ${IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST}`);
    }
    if (entryCount * ViommuInvalidateSelftest.size > MOST_COMMAND_BYTES) {
      // A kernel leaves entry_num as it was here, though nothing was done.
      return { done: entryCount, error: fail('ENOMEM', `entry_num ${entryCount} is more than fits into 4 MiB`) };
    }
    mayFail('invalidation commands');
    const all = Array.from(
      { length: entryCount },
      (_, index) => new ViommuInvalidateSelftest(commands.copy(index, 0, ViommuInvalidateSelftest.size)),
    );
    const result: InvalidateResult = { done: 0, error: null };
    try {
      for (; result.done < entryCount; result.done++) this.carryOut(all[result.done]!);
    } catch (error) {
      result.error = error as Error;
    }
    return result;
  }

  setVirtualDevice(device: DriverDevice, virtualId: bigint): void {
    this.devices.set(virtualId, device as MockDevice);
  }

  unsetVirtualDevice(_device: DriverDevice, virtualId: bigint): void {
    if (!this.devices.delete(virtualId)) throw new Error(`virtual ID ${virtualId} is not set`);
  }

  /** ENOENT when the device has no vDEVICE here, in releases that need one; otherwise 0. */
  virtualIdOf(device: MockDevice): bigint {
    for (const [id, named] of this.devices) if (named === device) return id;
    if (!this.iommu.release.nestedAttachNeedsVdevice) return 0n;
    throw fail('ENOENT', `${device.name} has no vDEVICE in the vIOMMU of the nested HWPT`);
  }

  /** An event of the device that is known here by `virtualId`. */
  report(virtualId: bigint): void {
    const event = new ViommuEventSelftest();
    event.virtId = Number(BigInt.asUintN(32, virtualId));
    this.onEvent?.(IOMMU_VEVENTQ_TYPE_SELFTEST, event.bytes);
  }

  /** Queue n depends on queue n - 1: EIO without it. EFAULT when the core's address is not what the parent maps. */
  initHwQueue(_type: number, index: number, iova: bigint, pa: number): DriverHwQueue {
    if (index >= this.queues.length) throw fail('EINVAL', `index ${index} is not below ${this.queues.length}`);
    if (this.queues[index]) throw fail('EEXIST', `HW queue ${index} exists`);
    const dependsOn = index ? this.queues[index - 1]! : null;
    if (index && !dependsOn) throw fail('EIO', `HW queue ${index} needs HW queue ${index - 1}`);
    if (this.parent.physical(iova) !== pa)
      throw fail('EFAULT', `the parent does not map 0x${iova.toString(16)} to the queue`);
    mayFail('a mock HW queue');
    const queue = new MockHwQueue(dependsOn, () => (this.queues[index] = null));
    this.queues[index] = queue;
    return queue;
  }

  free(): void {
    if (this.devices.size) throw new Error('a mock vIOMMU with devices is freed');
    this.iommu.resources.viommus--;
  }

  private carryOut({ flags, vdevId, cacheId }: InstanceType<typeof ViommuInvalidateSelftest>): void {
    const device = this.devices.get(BigInt(vdevId));
    checkInvalidation(flags, 'cache_id', cacheId, 4);
    if (!device) throw fail('EINVAL', `vdev_id ${vdevId} names no vDEVICE`);
    if (flags) device.cache.fill(0);
    else device.cache[cacheId] = 0;
  }
}

class MockHwQueue implements DriverHwQueue {
  readonly dependsOn: DriverHwQueue | null;
  readonly free: () => void;

  constructor(dependsOn: DriverHwQueue | null, free: () => void) {
    this.dependsOn = dependsOn;
    this.free = free;
  }
}
