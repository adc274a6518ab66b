/** Event numbers by outcome of a walk (pagetable/vmsav8.ts). */
import { F_ACCESS, F_ADDR_SIZE, F_PERMISSION, F_TRANSLATION, F_WALK_EABT } from './spec/events.ts';

/** Index: WALK_OK, WALK_TRANSLATION, WALK_ADDRESS_SIZE, WALK_ACCESS, WALK_PERMISSION, WALK_ABORT. */
export const WALK_EVENT = [0, F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION, F_WALK_EABT] as const;
