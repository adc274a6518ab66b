/** VQUEUE of the dialect viommu-v2: a HW queue whose memory nobody pins, and nobody looks at beyond its first byte. */
import { fail } from '../abi/errno.ts';
import { VqueueAlloc } from '../abi/iommufd-viommu-v2.ts';
import type { DriverHwQueue } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import { hex } from './format.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { CallerData } from './user-memory.ts';
import { Viommu } from './viommu.ts';

export class Vqueue extends IommufdObject {
  private readonly viommu: Viommu;
  private readonly driver: DriverHwQueue;

  constructor(viommu: Viommu, driver: DriverHwQueue) {
    super();
    this.viommu = use(viommu);
    this.driver = driver;
  }

  get kind(): 'vqueue' {
    return 'vqueue';
  }

  destroy(): void {
    this.driver.free();
    unuse(this.viommu);
  }
}

/** IOMMU_VQUEUE_ALLOC */
export function vqueueAlloc(command: Command): void {
  const c = new VqueueAlloc(command.bytes);
  if (c.flags) throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} must be 0`);
  if (c.dataLen === 0) throw fail('EINVAL', 'data_len is 0: every type of VQUEUE has data');
  const viommu = command.context.objects.get(c.viommuId, Viommu, 'viommu_id');
  if (!viommu.driver.initVqueue) throw fail('EOPNOTSUPP', `vIOMMU ${viommu.id} has no queues for guests`);
  const data = new CallerData(command.caller.memory, c.dataType, c.dataLen, c.dataUptr);
  c.outVqueueId = command.create(new Vqueue(viommu, viommu.driver.initVqueue(data))).id;
  command.respond();
}
