/**
 * HW queue: guest memory that the hardware itself reads commands from, or writes records to. It is contiguous in physical
 * memory, and pinned: it cannot be unmapped from the nesting parent's IOAS before the queue ends.
 */
import { fail } from '../abi/errno.ts';
import { HwQueueAlloc } from '../abi/iommufd.ts';
import type { DriverHwQueue } from '../drivers/iommu-driver.ts';
import { Access } from './access.ts';
import type { Command } from './command.ts';
import { hex } from './format.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { PAGE_BYTES } from './pages.ts';
import { U64_MAX } from './u64.ts';
import { Viommu } from './viommu.ts';

const TYPE_DEFAULT = 0;
/** A kernel lists the pages in an array, which cannot be larger than 2 GiB. */
const MOST_PAGES = 2n ** 28n - 1n;

export class HwQueue extends IommufdObject {
  readonly viommu: Viommu;
  /** The queue that must not go before this one. */
  private dependsOn: HwQueue | null;
  private memory: PinnedRange | null;
  private driver: DriverHwQueue | null;

  constructor(viommu: Viommu) {
    super();
    this.viommu = use(viommu);
    this.dependsOn = null;
    this.memory = null;
    this.driver = null;
  }

  get kind(): 'hw-queue' {
    return 'hw-queue';
  }

  /** Pins the memory and starts the queue. What was done before a refusal is undone by destroy(). */
  start(command: Command, type: number, index: number, iova: bigint, length: bigint): void {
    this.memory = PinnedRange.pin(command, this.viommu, iova, length);
    const driver = this.viommu.driver.initHwQueue!(type, index, iova, this.memory.pa, length);
    this.driver = driver;
    const queues = command.context.objects.all().filter((object) => object instanceof HwQueue);
    const before = queues.find((queue) => queue.driver === driver.dependsOn);
    if (driver.dependsOn && before) this.dependsOn = use(before);
  }

  destroy(): void {
    this.driver?.free();
    if (this.dependsOn) unuse(this.dependsOn);
    this.memory?.unpin();
    unuse(this.viommu);
  }
}

/** Whole pages around [iova, iova + length) of a nesting parent, physically contiguous. */
class PinnedRange {
  /** Physical address of `iova`. */
  readonly pa: number;
  private readonly access: Access;
  private readonly start: bigint;
  private readonly length: bigint;

  private constructor(access: Access, start: bigint, length: bigint, offset: bigint) {
    this.access = access;
    this.start = start;
    this.length = length;
    this.pa = contiguousFrame(access, start, length) * Number(PAGE_BYTES) + Number(offset);
  }

  static pin({ context }: Command, viommu: Viommu, iova: bigint, length: bigint): PinnedRange {
    const offset = iova % PAGE_BYTES;
    const end = offset + length + PAGE_BYTES - 1n;
    if (end > U64_MAX) throw fail('ERANGE', `length ${hex(length)} overflows 64 bits when extended to pages`);
    const [start, bytes] = [iova - offset, end - (end % PAGE_BYTES)];
    if (bytes / PAGE_BYTES > MOST_PAGES) throw fail('ENOMEM', `length ${hex(length)} is more than ${MOST_PAGES} pages`);
    const access = Access.create(context, { pins: true });
    try {
      access.attach(viommu.parent.ioas);
      access.pin(start, bytes, false);
      try {
        return new PinnedRange(access, start, bytes, offset);
      } catch (error) {
        access.unpin(start, bytes);
        throw error;
      }
    } catch (error) {
      access.close();
      throw error;
    }
  }

  unpin(): void {
    this.access.unpin(this.start, this.length);
    this.access.close();
  }
}

/** The first frame of pinned pages: EFAULT when they do not lie behind one another physically. */
function contiguousFrame(access: Access, start: bigint, length: bigint): number {
  let first = -1;
  let expected = -1;
  access.forEachFrame(start, length, (frame) => {
    if (first < 0) first = expected = frame;
    if (frame !== expected)
      throw fail('EFAULT', `the queue's pages at ${hex(start)} are not contiguous in physical memory`);
    expected++;
  });
  return first;
}

/** IOMMU_HW_QUEUE_ALLOC */
export function hwQueueAlloc(command: Command): void {
  const c = new HwQueueAlloc(command.bytes);
  if (c.flags || c.type === TYPE_DEFAULT) {
    throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} must be 0, and type 0 (IOMMU_HW_QUEUE_TYPE_DEFAULT) is no type`);
  }
  if (c.length === 0n) throw fail('EINVAL', 'length is 0');
  if (c.nestingParentIova + c.length - 1n > U64_MAX) {
    throw fail(
      'EOVERFLOW',
      `nesting_parent_iova ${hex(c.nestingParentIova)} + length ${hex(c.length)} overflows 64 bits`,
    );
  }
  const viommu = command.context.objects.get(c.viommuId, Viommu, 'viommu_id');
  if (!viommu.driver.initHwQueue || !viommu.driver.hwQueueTypes?.includes(c.type)) {
    throw fail('EOPNOTSUPP', `vIOMMU ${viommu.id} has no HW queues of type ${hex(c.type)}`);
  }
  const queue = command.create(new HwQueue(viommu));
  queue.start(command, c.type, c.index, c.nestingParentIova, c.length);
  c.outHwQueueId = queue.id;
  command.respond();
}
