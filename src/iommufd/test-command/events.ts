/** TRIGGER_IOPF and TRIGGER_VEVENT: what devices tell. */
import { fail } from '../../abi/errno.ts';
import { IOMMU_PGFAULT_FLAGS_LAST_PAGE, IOMMU_PGFAULT_FLAGS_PASID_VALID } from '../../abi/iommufd.ts';
import { IOMMU_VEVENTQ_TYPE_SELFTEST, TestTriggerIopf, TestTriggerVevent } from '../../abi/iommufd-test.ts';
import type { MockDevice } from '../../drivers/mock/device.ts';
import { IommufdDevice } from '../device.ts';
import { NO_PASID } from '../group.ts';
import { Viommu } from '../viommu.ts';
import type { Operation } from './test-command.ts';

/** A group of one page request. The mock device does not care for the answer. */
export const triggerIopf: Operation = ({ context }, _cmd, payload) => {
  const { devId, pasid, grpid, perm, addr } = new TestTriggerIopf(payload);
  const device = context.objects.get(devId, IommufdDevice, 'dev_id');
  const flags = IOMMU_PGFAULT_FLAGS_LAST_PAGE | (pasid === NO_PASID ? 0 : IOMMU_PGFAULT_FLAGS_PASID_VALID);
  device.physical.pageRequests!.report({ flags, pasid, group: grpid, permissions: perm, address: addr }, () => {});
};

/** ENOENT when the device is not known to a vIOMMU, EOPNOTSUPP when that has no vEVENTQ. */
export const triggerVevent: Operation = ({ context }, _cmd, payload) => {
  const { devId } = new TestTriggerVevent(payload);
  const device = context.objects.get(devId, IommufdDevice, 'dev_id').physical as MockDevice;
  const { viommu, virtualId } = device.eventTarget();
  const object = context.objects.all().find((each) => each instanceof Viommu && each.driver === viommu) as Viommu;
  if (!object.eventQueues.has(IOMMU_VEVENTQ_TYPE_SELFTEST)) {
    throw fail('EOPNOTSUPP', `vIOMMU ${object.id} has no vEVENTQ of the mock driver's type`);
  }
  viommu.report(virtualId);
};
