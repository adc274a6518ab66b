/** NVM Express 1.4: log pages (5.14.1) and asynchronous events (5.2). Facts only. */

export const LOG_ERRORS = 0x01;
export const LOG_SMART = 0x02;
export const LOG_FIRMWARE = 0x03;
export const LOG_CHANGED_NAMESPACES = 0x04;
export const LOG_EFFECTS = 0x05;

/** Command dword 10: the event of the page stays as it is. */
export const RETAIN_EVENT = 0x8000;

export const LOG_BYTES: Readonly<Record<number, number>> = {
  [LOG_SMART]: 512,
  [LOG_FIRMWARE]: 512,
  [LOG_CHANGED_NAMESPACES]: 4096,
  [LOG_EFFECTS]: 4096,
};

/** An entry of the error log. */
export const ERROR_ENTRY_BYTES = 64;
export const ERROR_COUNT = 0;
export const ERROR_SQID = 8;
export const ERROR_CID = 10;
export const ERROR_STATUS = 12;
export const ERROR_LOCATION = 14;
export const ERROR_LBA = 16;
export const ERROR_NSID = 24;
/** Not about a command, or not about a parameter of it. */
export const ERROR_NONE = 0xffff;

/** The SMART log; counters have 16 bytes. */
export const SMART_WARNING = 0;
export const SMART_TEMPERATURE = 1;
export const SMART_SPARE = 3;
export const SMART_SPARE_THRESHOLD = 4;
export const SMART_UNITS_READ = 32;
export const SMART_UNITS_WRITTEN = 48;
export const SMART_READS = 64;
export const SMART_WRITES = 80;
export const SMART_POWER_CYCLES = 112;
export const SMART_ERRORS = 176;
export const SMART_WARNING_TEMPERATURE = 0x02;
/** A unit is 1000 times 512 bytes, rounded up. */
export const SMART_UNIT_BYTES = 512_000;

/** The firmware slot log. */
export const FIRMWARE_ACTIVE = 0;
export const FIRMWARE_SLOT1 = 8;

/** The effects log: 4 bytes per opcode. */
export const EFFECTS_ADMIN = 0;
export const EFFECTS_NVM = 1024;
export const EFFECT_SUPPORTED = 0x1;
export const EFFECT_LBA_CHANGES = 0x2;

/** Asynchronous events: type in bits 2:0 of dword 0, information in 15:8, log page in 23:16. */
export const EVENT_ERROR = 0;
export const EVENT_SMART = 1;
export const ERROR_INVALID_DOORBELL = 0;
export const ERROR_INVALID_DOORBELL_VALUE = 1;
export const SMART_TEMPERATURE_THRESHOLD = 1;
