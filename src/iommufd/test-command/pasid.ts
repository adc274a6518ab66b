/** PASID_ATTACH, PASID_REPLACE, PASID_DETACH and PASID_CHECK_HWPT, all on a mock device. */
import { fail } from '../../abi/errno.ts';
import { TestPasidAttach, TestPasidCheck, TestPasidDetach } from '../../abi/iommufd-test.ts';
import type { Command } from '../command.ts';
import type { IommufdDevice } from '../device.ts';
import { HwptNested } from '../hwpt-nested.ts';
import { HwptPaging } from '../hwpt-paging.ts';
import { IommufdObject } from '../objects.ts';
import { MockDeviceObject } from './mock-domain.ts';
import type { Operation } from './test-command.ts';

const deviceOf = ({ context }: Command, id: number): IommufdDevice =>
  context.objects.get(id, MockDeviceObject, 'id').device;

export const pasidAttach: Operation = (command, { id }, payload) => {
  const c = new TestPasidAttach(payload);
  const device = deviceOf(command, id);
  c.ptId = device.attach(c.ptId, c.pasid);
  try {
    command.respond();
  } catch (error) {
    device.detach(c.pasid);
    throw error;
  }
};

export const pasidReplace: Operation = (command, { id }, payload) => {
  const c = new TestPasidAttach(payload);
  c.ptId = deviceOf(command, id).replace(c.ptId, c.pasid);
  command.respond();
};

export const pasidDetach: Operation = (command, { id }, payload) => {
  deviceOf(command, id).detach(new TestPasidDetach(payload).pasid);
};

/** EINVAL unless the PASID is attached to `hwptId`; 0: to nothing. */
export const pasidCheckHwpt: Operation = (command, { id }, payload) => {
  const { pasid, hwptId } = new TestPasidCheck(payload);
  const attached = deviceOf(command, id).attached(pasid);
  const expected = hwptId ? command.context.objects.get(hwptId, IommufdObject, 'hwpt_id') : null;
  if (expected && !(expected instanceof HwptPaging || expected instanceof HwptNested)) {
    throw fail('EINVAL', `hwpt_id ${hwptId} is a ${expected.kind}`);
  }
  if (attached !== expected)
    throw fail('EINVAL', `pasid ${pasid} is attached to HWPT ${attached?.id ?? 0}, not ${hwptId}`);
};
