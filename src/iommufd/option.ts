/** IOMMU_OPTION: settings of the iommufd, or of an IOAS. */
import { fail } from '../abi/errno.ts';
import {
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  Option,
} from '../abi/iommufd.ts';
import type { Command } from './command.ts';
import { hex } from './format.ts';
import { Ioas } from './ioas.ts';
import { writeUser } from './user-memory.ts';

type OptionStruct = InstanceType<typeof Option>;

export function option(command: Command): void {
  const c = new Option(command.bytes);
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  if (c.optionId === IOMMU_OPTION_RLIMIT_MODE) rlimitMode(command, c);
  else if (c.optionId === IOMMU_OPTION_HUGE_PAGES) hugePages(command, c);
  else throw fail('EOPNOTSUPP', `option_id ${c.optionId} is unknown`);
  const { offset, bytes } = Option.fields.val64;
  writeUser(command.caller.memory, command.address + BigInt(offset), c.bytes.subarray(offset, offset + bytes));
}

/**
 * 0: pinned memory is accounted per user; 1: per process, as VFIO does. Can be set before there is any object. A kernel asks
 * for CAP_SYS_RESOURCE, which containers take from root; here nothing of the real machine is at stake.
 */
function rlimitMode({ context }: Command, c: OptionStruct): void {
  if (c.objectId) throw fail('EOPNOTSUPP', `object_id ${c.objectId} must be 0: the option is the iommufd's`);
  if (c.op === IOMMU_OPTION_OP_GET) {
    c.val64 = BigInt(context.rlimitMode);
    return;
  }
  checkSet(c);
  if (context.objects.size) throw fail('EBUSY', `the iommufd has ${context.objects.size} objects already`);
  context.rlimitMode = zeroOrOne(c);
}

function hugePages({ context }: Command, c: OptionStruct): void {
  const { table } = context.objects.get(c.objectId, Ioas, 'object_id');
  if (c.op === IOMMU_OPTION_OP_GET) {
    c.val64 = table.hugePages ? 1n : 0n;
    return;
  }
  checkSet(c);
  table.setHugePages(zeroOrOne(c) === 1);
}

function checkSet(c: OptionStruct): void {
  if (c.op !== IOMMU_OPTION_OP_SET) throw fail('EOPNOTSUPP', `op ${c.op} is neither GET nor SET`);
}

function zeroOrOne(c: OptionStruct): 0 | 1 {
  if (c.val64 > 1n) throw fail('EINVAL', `val64 ${hex(c.val64)} is neither 0 nor 1`);
  return c.val64 === 1n ? 1 : 0;
}
