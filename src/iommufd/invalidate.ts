/** IOMMU_HWPT_INVALIDATE: commands for the caches of a nested HWPT or a vIOMMU, carried out by the driver in order. */
import { fail } from '../abi/errno.ts';
import { HwptInvalidate } from '../abi/iommufd.ts';
import type { InvalidateResult } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import { hex } from './format.ts';
import { HwptNested } from './hwpt-nested.ts';
import { IommufdObject } from './objects.ts';
import { CallerDataArray } from './user-memory.ts';
import { Viommu } from './viommu.ts';

export function hwptInvalidate(command: Command): void {
  const c = new HwptInvalidate(command.bytes);
  let result: InvalidateResult = { done: 0, error: null };
  try {
    result = invalidate(command, c);
  } catch (error) {
    result.error = error as Error;
  }
  // The number that were carried out is told even when, and above all when, one was refused.
  c.entryNum = result.done;
  command.respond();
  if (result.error) throw result.error;
}

function invalidate(command: Command, c: InstanceType<typeof HwptInvalidate>): InvalidateResult {
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  if (c.entryNum && (!c.dataUptr || !c.entryLen)) {
    throw fail(
      'EINVAL',
      `entry_num ${c.entryNum} needs data_uptr ${hex(c.dataUptr)} and entry_len ${c.entryLen} not to be 0`,
    );
  }
  const entries = new CallerDataArray(command.caller.memory, c.dataType, c.entryLen, c.entryNum, c.dataUptr);
  const { objects, dialect } = command.context;
  const hasViommus = dialect.accepted.viommuTypes.length > 0;
  const target = objects.get(c.hwptId, hasViommus ? IommufdObject : HwptNested, 'hwpt_id');
  if (target instanceof Viommu) return target.driver.invalidate(entries);
  if (!(target instanceof HwptNested)) {
    throw fail('EINVAL', `hwpt_id ${c.hwptId} is a ${target.kind}: a nested HWPT or vIOMMU is needed`);
  }
  if (!target.domain.invalidate) {
    throw fail('EOPNOTSUPP', `nested HWPT ${c.hwptId} takes no commands: they go to its vIOMMU`);
  }
  return target.domain.invalidate(entries);
}
