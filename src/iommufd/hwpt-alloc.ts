/** IOMMU_HWPT_ALLOC: what is made depends on what pt_id names. */
import { fail } from '../abi/errno.ts';
import { HwptAlloc, IOMMU_HWPT_DATA_NONE, IOMMU_HWPT_FAULT_ID_VALID } from '../abi/iommufd.ts';
import type { Command } from './command.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './fault-queue.ts';
import { hex } from './format.ts';
import { HwptNested } from './hwpt-nested.ts';
import { HwptPaging } from './hwpt-paging.ts';
import { Ioas } from './ioas.ts';
import { use } from './objects.ts';
import { CallerData } from './user-memory.ts';
import { Viommu } from './viommu.ts';

export function hwptAlloc(command: Command): void {
  const { objects } = command.context;
  const c = new HwptAlloc(command.bytes);
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  if ((c.dataType === IOMMU_HWPT_DATA_NONE) !== (c.dataLen === 0)) {
    throw fail('EINVAL', `data_type ${c.dataType} does not go with data_len ${c.dataLen}`);
  }
  const device = objects.get(c.devId, IommufdDevice, 'dev_id');
  const data = new CallerData(command.caller.memory, c.dataType, c.dataLen, c.dataUptr);
  // Before there was nesting, an IOAS was all that could be meant.
  const nests = command.context.dialect.accepted.hwptDataTypes.length > 0;
  const base = nests ? objects.find(c.ptId) : objects.get(c.ptId, Ioas, 'pt_id');
  let hwpt: HwptPaging | HwptNested;
  if (base instanceof Ioas) {
    hwpt = command.create(HwptPaging.alloc(base, device, c.flags, data.length ? data : null));
    hwpt.fill();
  } else if (base instanceof HwptPaging) {
    hwpt = command.create(HwptNested.allocOnParent(base, device, c.flags, data));
  } else if (base instanceof Viommu) {
    hwpt = command.create(HwptNested.allocOnViommu(base, device, c.flags, data));
  } else {
    const what = base ? `is a ${base.kind}` : 'does not exist';
    throw fail('EINVAL', `pt_id ${c.ptId} ${what}: an IOAS, nesting parent or vIOMMU is needed`);
  }
  if (c.flags & IOMMU_HWPT_FAULT_ID_VALID) {
    hwpt.faultQueue = use(objects.get(c.faultId, FaultQueue, 'fault_id'));
    hwpt.domain.handlesFaults = true;
  }
  c.outHwptId = hwpt.id;
  command.respond();
}
