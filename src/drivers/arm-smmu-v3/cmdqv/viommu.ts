/** The driver's half of a vIOMMU with a virtual interface of a CMDQV: its guest issues invalidations by itself. */
import { fail } from '../../../abi/errno.ts';
import {
  IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
  ViommuTegra241Cmdqv,
} from '../../../abi/iommufd.ts';
import { IOMMU_VQUEUE_DATA_TEGRA241_CMDQV, VqueueTegra241Cmdqv } from '../../../abi/iommufd-viommu-v2.ts';
import { PAGE_BYTES, PAGE1 } from '../../../hardware/cmdqv/spec/registers.ts';
import { COMMAND_BYTES } from '../../../hardware/smmuv3/spec/commands.ts';
import type { DriverDevice, DriverHwQueue, MappableRegisters, UserData } from '../../iommu-driver.ts';
import type { PagingDomain } from '../paging-domain.ts';
import type { Unit } from '../unit.ts';
import { Viommu } from '../viommu.ts';
import type { Cmdqv } from './cmdqv.ts';
import { page0Of } from './places.ts';
import type { Vintf } from './vintf.ts';

/** Two commands: less is no queue. */
const SMALLEST_QUEUE = 2n * BigInt(COMMAND_BYTES);
/** Addresses that fit VCMDQ_BASE.ADDR: bits 47 to 5. */
const BASE_BITS = 0xffff_ffff_ffe0n;
const LARGEST_LOG2SIZE = PAGE1.BASE.fields.LOG2SIZE.mask;

export class CmdqvViommu extends Viommu {
  readonly hwQueueTypes: readonly number[];
  readonly region: MappableRegisters;
  private readonly cmdqv: Cmdqv;
  private readonly vintf: Vintf;
  private readonly data: UserData | null;

  /** @param data where to say what to map; ENOSPC when the CMDQV has no interface left */
  constructor(unit: Unit, cmdqv: Cmdqv, parent: PagingDomain, data: UserData | null) {
    super(unit, parent, [IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV]);
    this.hwQueueTypes = [IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV];
    this.cmdqv = cmdqv;
    this.data = data;
    try {
      if (unit.behaviour.mmap === 'reported-offset') checkData(data);
      this.vintf = cmdqv.open(this.tag.vmid);
    } catch (error) {
      super.free();
      throw error;
    }
    this.vintf.onError = (errorMap) => {
      this.onEvent?.(IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV, new Uint8Array(errorMap.buffer));
    };
    this.region = { mmio: cmdqv.mmio, offset: page0Of(this.vintf.index), length: PAGE_BYTES };
  }

  /** EFAULT when the answer cannot be written. */
  regionPlaced(offset: bigint): void {
    const answer = new ViommuTegra241Cmdqv();
    answer.outVintfMmapOffset = offset;
    answer.outVintfMmapLength = BigInt(this.region.length);
    this.data?.writeBack(answer.bytes);
  }

  /** ENOSPC when the interface has no slot left, EINVAL for a virtual StreamID of more than 32 bits. */
  override setVirtualDevice(device: DriverDevice, virtualId: bigint): void {
    if (virtualId >> 32n) throw fail('EINVAL', `virtual StreamID 0x${virtualId.toString(16)} has more than 32 bits`);
    this.vintf.addStream(virtualId, device.streamId);
    super.setVirtualDevice(device, virtualId);
  }

  override unsetVirtualDevice(device: DriverDevice, virtualId: bigint): void {
    this.vintf.removeStream(virtualId);
    super.unsetVirtualDevice(device, virtualId);
  }

  /** Queue n depends on queue n - 1: EIO without it. The guest starts it. */
  initHwQueue(_type: number, index: number, _iova: bigint, pa: number, length: bigint): DriverHwQueue {
    this.checkFree(index);
    const before = index > 0 ? this.vintf.queues[index - 1]! : null;
    if (index > 0 && !before) throw fail('EIO', `VCMDQ ${index} needs VCMDQ ${index - 1}, which does not exist`);
    const most = BigInt(COMMAND_BYTES) << BigInt(this.unit.identity.commandQueueLog2);
    if (length & (length - 1n) || length < SMALLEST_QUEUE || length > most) {
      throw fail('EINVAL', `length ${length} is not a power of two from ${SMALLEST_QUEUE} to ${most}`);
    }
    if (BigInt(pa) & ~BASE_BITS || pa % Number(length)) {
      throw fail(
        'EINVAL',
        `the queue lies at physical 0x${pa.toString(16)}, which is not aligned to its ${length} bytes`,
      );
    }
    const queue = this.vintf.addQueue(index, before);
    queue.setBase(pa, Math.log2(Number(length) / COMMAND_BYTES));
    return queue;
  }

  /**
   * Only the first byte is translated. Where the guest's pages are not contiguous in physical memory, or its base is not
   * aligned there to the queue's size, the hardware reads what is not the queue. The guest starts it.
   */
  initVqueue(data: UserData): DriverHwQueue {
    const { type } = data;
    const expected = IOMMU_VQUEUE_DATA_TEGRA241_CMDQV;
    if (type !== expected) throw fail('EINVAL', `VQUEUE data_type is ${type}, this vIOMMU takes ${expected}`);
    const bytes = data.copy(VqueueTegra241Cmdqv.size, VqueueTegra241Cmdqv.size);
    const { vcmdqId, vcmdqLog2size, vcmdqBase } = new VqueueTegra241Cmdqv(bytes);
    if (vcmdqBase === 0n || vcmdqBase & ~BASE_BITS) {
      throw fail('EINVAL', `vcmdq_base 0x${vcmdqBase.toString(16)} is 0, or has bits beyond 47 to 5`);
    }
    if (vcmdqLog2size === 0 || vcmdqLog2size > LARGEST_LOG2SIZE) {
      throw fail('EINVAL', `vcmdq_log2size is ${vcmdqLog2size}, expected 1 to ${LARGEST_LOG2SIZE}`);
    }
    this.checkFree(vcmdqId);
    const pa = this.parent.physical(vcmdqBase);
    if (pa === null) throw fail('EINVAL', `vcmdq_base 0x${vcmdqBase.toString(16)} is not mapped`);
    const queue = this.vintf.addQueue(vcmdqId, null);
    queue.setBase(pa, vcmdqLog2size);
    return queue;
  }

  override free(): void {
    this.cmdqv.close(this.vintf);
    super.free();
  }

  /** EINVAL for an index that is out of range, EEXIST for one that has a queue. */
  private checkFree(index: number): void {
    const { queues } = this.vintf;
    if (index >= queues.length) throw fail('EINVAL', `VCMDQ ${index} is not below ${queues.length}`);
    if (queues[index]) throw fail('EEXIST', `VCMDQ ${index} exists`);
  }
}

/** The struct is output only, but has to be there, and whole. */
function checkData(data: UserData | null): void {
  if (!data) throw fail('EINVAL', 'data_len is 0: there is nowhere to say what to map');
  data.copy(ViommuTegra241Cmdqv.size, ViommuTegra241Cmdqv.size);
}
