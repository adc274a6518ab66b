/**
 * IOMMU_IOAS_CHANGE_PROCESS: the caller answers for all pinned memory of the iommufd from now on. Only mappings of files
 * can change hands: EINVAL when there are others.
 */
import { fail } from '../abi/errno.ts';
import { IoasChangeProcess } from '../abi/iommufd.ts';
import { allOrNothing } from './all-or-nothing.ts';
import type { Command } from './command.ts';
import { hex, range } from './format.ts';
import { Ioas } from './ioas.ts';
import type { Charge } from './process-account.ts';

export function ioasChangeProcess({ bytes, context, caller }: Command): void {
  const { reserved } = new IoasChangeProcess(bytes);
  if (reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(reserved)} must be 0`);
  const charges = new Set<Charge>();
  for (const object of context.objects.all()) {
    if (!(object instanceof Ioas)) continue;
    for (const { pages, start, last } of object.table.areas) {
      if (pages.kind !== 'file') {
        throw fail('EINVAL', `${range(start, last)} of IOAS ${object.id} is not mapped from a file (${pages.kind})`);
      }
      if (pages.charge) charges.add(pages.charge);
    }
  }
  const { account } = caller;
  allOrNothing(
    charges,
    (charge) => charge.offer(account),
    (charge) => charge.cancel(account),
  );
  for (const charge of charges) charge.settle(account);
}
