/** The log pages of Get Log Page (NVMe 1.4, 5.14.1). */
import type { ErrorLog } from './error-log.ts';
import { FIRMWARE_REVISION, writeText } from './identify.ts';
import { TEMPERATURE } from './limits.ts';
import {
  ADMIN_ABORT,
  ADMIN_ASYNC_EVENT,
  ADMIN_CREATE_CQ,
  ADMIN_CREATE_SQ,
  ADMIN_DELETE_CQ,
  ADMIN_DELETE_SQ,
  ADMIN_GET_FEATURES,
  ADMIN_GET_LOG_PAGE,
  ADMIN_IDENTIFY,
  ADMIN_SET_FEATURES,
  NVM_COMPARE,
  NVM_DATASET_MANAGEMENT,
  NVM_FLUSH,
  NVM_READ,
  NVM_WRITE,
  NVM_WRITE_ZEROES,
} from './spec/commands.ts';
import {
  EFFECT_LBA_CHANGES,
  EFFECT_SUPPORTED,
  EFFECTS_ADMIN,
  EFFECTS_NVM,
  FIRMWARE_ACTIVE,
  FIRMWARE_SLOT1,
  LOG_BYTES,
  LOG_CHANGED_NAMESPACES,
  LOG_EFFECTS,
  LOG_ERRORS,
  LOG_FIRMWARE,
  LOG_SMART,
  SMART_ERRORS,
  SMART_POWER_CYCLES,
  SMART_READS,
  SMART_SPARE,
  SMART_SPARE_THRESHOLD,
  SMART_TEMPERATURE,
  SMART_UNIT_BYTES,
  SMART_UNITS_READ,
  SMART_UNITS_WRITTEN,
  SMART_WARNING,
  SMART_WARNING_TEMPERATURE,
  SMART_WRITES,
} from './spec/log-pages.ts';
import type { Statistics } from './statistics.ts';

export interface LogSources {
  readonly errors: ErrorLog;
  readonly statistics: Statistics;
  readonly isTooWarm: boolean;
}

/** A page as the host reads it, or null when there is none of that identifier. */
export function logPage(page: number, sources: LogSources): Uint8Array | null {
  switch (page) {
    case LOG_ERRORS:
      return sources.errors.page();
    case LOG_SMART:
      return smart(sources);
    case LOG_FIRMWARE:
      return firmware();
    case LOG_CHANGED_NAMESPACES:
      // Namespaces do not come or go.
      return new Uint8Array(LOG_BYTES[LOG_CHANGED_NAMESPACES]!);
    case LOG_EFFECTS:
      return effects();
    default:
      return null;
  }
}

function smart({ errors, statistics, isTooWarm }: LogSources): Uint8Array {
  const page = new Uint8Array(LOG_BYTES[LOG_SMART]!);
  const view = new DataView(page.buffer);
  const units = (bytes: number): bigint => BigInt(Math.ceil(bytes / SMART_UNIT_BYTES));
  page[SMART_WARNING] = isTooWarm ? SMART_WARNING_TEMPERATURE : 0;
  view.setUint16(SMART_TEMPERATURE, TEMPERATURE, true);
  page[SMART_SPARE] = 100;
  page[SMART_SPARE_THRESHOLD] = 10;
  view.setBigUint64(SMART_UNITS_READ, units(statistics.bytesRead), true);
  view.setBigUint64(SMART_UNITS_WRITTEN, units(statistics.bytesWritten), true);
  view.setBigUint64(SMART_READS, BigInt(statistics.reads), true);
  view.setBigUint64(SMART_WRITES, BigInt(statistics.writes), true);
  view.setBigUint64(SMART_POWER_CYCLES, 1n, true);
  view.setBigUint64(SMART_ERRORS, BigInt(errors.count), true);
  return page;
}

function firmware(): Uint8Array {
  const page = new Uint8Array(LOG_BYTES[LOG_FIRMWARE]!);
  page[FIRMWARE_ACTIVE] = 1;
  writeText(page, FIRMWARE_SLOT1, 8, FIRMWARE_REVISION);
  return page;
}

const ADMIN_OPCODES = [
  ADMIN_DELETE_SQ,
  ADMIN_CREATE_SQ,
  ADMIN_GET_LOG_PAGE,
  ADMIN_DELETE_CQ,
  ADMIN_CREATE_CQ,
  ADMIN_IDENTIFY,
  ADMIN_ABORT,
  ADMIN_SET_FEATURES,
  ADMIN_GET_FEATURES,
  ADMIN_ASYNC_EVENT,
];
const READING_OPCODES = [NVM_FLUSH, NVM_READ, NVM_COMPARE];
const WRITING_OPCODES = [NVM_WRITE, NVM_WRITE_ZEROES, NVM_DATASET_MANAGEMENT];

function effects(): Uint8Array {
  const page = new Uint8Array(LOG_BYTES[LOG_EFFECTS]!);
  for (const opcode of ADMIN_OPCODES) page[EFFECTS_ADMIN + 4 * opcode] = EFFECT_SUPPORTED;
  for (const opcode of READING_OPCODES) page[EFFECTS_NVM + 4 * opcode] = EFFECT_SUPPORTED;
  for (const opcode of WRITING_OPCODES) page[EFFECTS_NVM + 4 * opcode] = EFFECT_SUPPORTED | EFFECT_LBA_CHANGES;
  return page;
}
