/** NVM Express 1.4: features (5.21.1) and how they are asked for. Facts only. */

export const FEATURE_ARBITRATION = 0x01;
export const FEATURE_POWER_MANAGEMENT = 0x02;
export const FEATURE_TEMPERATURE_THRESHOLD = 0x04;
export const FEATURE_ERROR_RECOVERY = 0x05;
export const FEATURE_VOLATILE_WRITE_CACHE = 0x06;
export const FEATURE_NUMBER_OF_QUEUES = 0x07;
export const FEATURE_INTERRUPT_COALESCING = 0x08;
export const FEATURE_INTERRUPT_VECTOR = 0x09;
export const FEATURE_WRITE_ATOMICITY = 0x0a;
export const FEATURE_ASYNC_EVENTS = 0x0b;

/** Command dword 10: Set Features bit 31, Get Features bits 10:8. */
export const SAVE = 0x8000_0000;
export const SELECT_SHIFT = 8;
export const SELECT = 0x7;
export const SELECT_CURRENT = 0;
export const SELECT_DEFAULT = 1;
export const SELECT_SAVED = 2;
export const SELECT_CAPABILITIES = 3;

/** Supported capabilities of a feature. */
export const CAPABILITY_PER_NAMESPACE = 0x2;
export const CAPABILITY_CHANGEABLE = 0x4;

/** Arbitration burst: no limit. */
export const ARBITRATION_UNLIMITED = 0x7;

/** Temperature threshold, dword 11: TMPTH in kelvin, TMPSEL (0: composite, 15: all), THSEL (0: over, 1: under). */
export const TEMPERATURE_MASK = 0xffff;
export const TMPSEL_SHIFT = 16;
export const TMPSEL = 0xf;
export const TMPSEL_ALL = 0xf;
export const THSEL_SHIFT = 20;
export const THSEL = 0x3;
export const THSEL_UNDER = 1;

/** Error recovery: report deallocated or unwritten blocks. */
export const ERROR_RECOVERY_DULBE = 0x1_0000;

export const INTERRUPT_VECTOR_COALESCING_DISABLE = 0x1_0000;

/** Asynchronous event configuration: the SMART warning about temperature, and changes of namespaces. */
export const ASYNC_TEMPERATURE = 0x02;
