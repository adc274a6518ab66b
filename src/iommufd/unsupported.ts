/** Commands of the uAPI that are known, have their size checked, and are then refused: EOPNOTSUPP. */
import { fail } from '../abi/errno.ts';
import type { Handler } from './command.ts';

/** Why, by name. The documentation lists them from here. */
export const UNSUPPORTED_COMMANDS: Readonly<Record<string, string>> = {
  IOMMU_VQUEUE_ALLOC: 'no IOMMU has queues for guests',
};

export const unsupported =
  (reason: string): Handler =>
  () => {
    throw fail('EOPNOTSUPP', reason);
  };
