/**
 * A device of this project: single DMA reads and writes, and interrupts, on command. Registers of BAR0; facts only.
 * Write IOVA, PASID, LENGTH (and DATA for a write), then COMMAND; STATUS tells at once how it ended, or that it waits:
 * for the end of a stall, or for the answer to a page request. Until then COMMAND takes nothing. Writing N to INTERRUPT
 * sends the message of vector N at once; with fewer vectors enabled, of N modulo their number; with none, nothing.
 */
import type { Register } from './register.ts';

/** 'DMAP' in ASCII, as it stands in memory. */
export const PROBE_MAGIC = 0x50414d44;

export const DATA_AT = 0x100;
export const DATA_BYTES = 0x100;
export const PROBE_BLOCK_BYTES = DATA_AT + DATA_BYTES;

export const PASID_VALID = 0x8000_0000;
export const PASID_VALUE = 0x000f_ffff;

export const PROBE_VECTORS = 8;

export const COMMAND_READ = 1;
export const COMMAND_WRITE = 2;

export const STATUS_IDLE = 0;
export const STATUS_DONE = 1;
/** The IOMMU or memory refused the access, or the function may not send that PASID. */
export const STATUS_REFUSED = 2;
/** Unknown command, or a length that is not 1..DATA_BYTES. */
export const STATUS_INVALID = 3;
export const STATUS_WAITING = 4;

export const PROBE_REGISTERS: readonly Register[] = [
  { name: 'MAGIC', offset: 0x00, bytes: 4, reset: BigInt(PROBE_MAGIC) },
  { name: 'IOVA', offset: 0x08, bytes: 8, writable: 0xffff_ffff_ffff_ffffn },
  { name: 'PASID', offset: 0x10, bytes: 4, writable: BigInt(PASID_VALID + PASID_VALUE) },
  { name: 'LENGTH', offset: 0x14, bytes: 4, writable: 0xffff_ffffn },
  { name: 'COMMAND', offset: 0x18, bytes: 4, writable: 0xffff_ffffn },
  { name: 'STATUS', offset: 0x1c, bytes: 4, reset: BigInt(STATUS_IDLE) },
  { name: 'INTERRUPT', offset: 0x20, bytes: 4, writable: 0xffff_ffffn },
];
