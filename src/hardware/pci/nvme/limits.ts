/** What this controller has, where NVM Express leaves a choice: shown in CAP and Identify, and held to. */
import { CAP_CQR, CAP_CSS_NVM, CAP_MPSMAX, CAP_MQES, CAP_TO } from './spec/registers.ts';

/** I/O submission queues, and as many completion queues. */
export const IO_QUEUES = 32;
/** MSI-X vectors: one per I/O queue, and the admin queue's. */
export const VECTORS = IO_QUEUES + 1;

/** Entries of an I/O queue, 0's based (CAP.MQES). Drivers that take as many as there are may keep 16-bit indices: not 64 Ki. */
export const MQES = 0xfff;
/** Largest memory page, as CC.MPS: 2^(12 + 4) bytes. */
export const MPSMAX = 4;
/** Time to get ready in units of 500 ms. It takes none; drivers poll for as long. */
const TO = 10;

export const CAP =
  (BigInt(MQES) << CAP_MQES) | CAP_CQR | (BigInt(TO) << CAP_TO) | CAP_CSS_NVM | (BigInt(MPSMAX) << CAP_MPSMAX);

/** Largest transfer, as Identify shows it: 2^7 pages of 4 KiB, whatever CC.MPS is. */
export const MDTS = 7;
export const MOST_BYTES = 4096 * 2 ** MDTS;

/** Commands at work at the same time: more wait in their queues. A few are kept for the admin queue, which can abort others. */
export const COMMANDS = 64;
export const ADMIN_COMMANDS = 8;

/** Outstanding Asynchronous Event Requests; less than ADMIN_COMMANDS, so that they never hold all of those. */
export const ASYNC_EVENT_REQUESTS = 4;

export const ERROR_LOG_ENTRIES = 16;

/** Kelvin, at all times. */
export const TEMPERATURE = 308;
export const WARNING_TEMPERATURE = 343;
export const CRITICAL_TEMPERATURE = 363;
