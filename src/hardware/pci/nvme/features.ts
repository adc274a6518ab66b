/**
 * Features (NVMe 1.4, 5.21.1): values of 32 bits that the host sets and gets. None survives a controller reset, so none is
 * saveable. Some are kept and change nothing: coalescing of interrupts, bursts, write atomicity.
 */
import type { Command } from './command.ts';
import { IO_QUEUES, TEMPERATURE, VECTORS, WARNING_TEMPERATURE } from './limits.ts';
import {
  COMMAND_SEQUENCE_ERROR,
  FEATURE_NOT_NAMESPACE_SPECIFIC,
  FEATURE_NOT_SAVEABLE,
  INVALID_FIELD,
  INVALID_NAMESPACE,
  NSID_ALL,
  SQE_CDW10,
  SQE_CDW11,
  SUCCESS,
} from './spec/commands.ts';
import {
  CAPABILITY_CHANGEABLE,
  CAPABILITY_PER_NAMESPACE,
  ERROR_RECOVERY_DULBE,
  FEATURE_ARBITRATION,
  FEATURE_ASYNC_EVENTS,
  FEATURE_ERROR_RECOVERY,
  FEATURE_INTERRUPT_COALESCING,
  FEATURE_INTERRUPT_VECTOR,
  FEATURE_NUMBER_OF_QUEUES,
  FEATURE_POWER_MANAGEMENT,
  FEATURE_TEMPERATURE_THRESHOLD,
  FEATURE_VOLATILE_WRITE_CACHE,
  FEATURE_WRITE_ATOMICITY,
  INTERRUPT_VECTOR_COALESCING_DISABLE,
  SAVE,
  SELECT,
  SELECT_CAPABILITIES,
  SELECT_CURRENT,
  SELECT_SHIFT,
  TEMPERATURE_MASK,
  THSEL,
  THSEL_SHIFT,
  THSEL_UNDER,
  TMPSEL,
  TMPSEL_ALL,
  TMPSEL_SHIFT,
} from './spec/features.ts';

/** Power-on values by key; a feature with several values has a key for each: see keyOf(). */
const DEFAULTS: Readonly<Record<number, number>> = {
  [FEATURE_ARBITRATION]: 0,
  [FEATURE_POWER_MANAGEMENT]: 0,
  [FEATURE_VOLATILE_WRITE_CACHE]: 1,
  [FEATURE_NUMBER_OF_QUEUES]: (IO_QUEUES - 1) * 0x1_0001,
  [FEATURE_INTERRUPT_COALESCING]: 0,
  [FEATURE_WRITE_ATOMICITY]: 0,
  [FEATURE_ASYNC_EVENTS]: 0,
};

const SEVERAL: ReadonlySet<number> = new Set([
  FEATURE_TEMPERATURE_THRESHOLD,
  FEATURE_ERROR_RECOVERY,
  FEATURE_INTERRUPT_VECTOR,
]);

/** Bits of dword 11 that are kept. */
const KEPT: Readonly<Record<number, number>> = {
  [FEATURE_ARBITRATION]: 0xffff_ff07,
  [FEATURE_TEMPERATURE_THRESHOLD]: TEMPERATURE_MASK,
  [FEATURE_ERROR_RECOVERY]: 0xffff,
  [FEATURE_VOLATILE_WRITE_CACHE]: 0x1,
  [FEATURE_INTERRUPT_COALESCING]: 0xffff,
  [FEATURE_INTERRUPT_VECTOR]: 0xffff | INTERRUPT_VECTOR_COALESCING_DISABLE,
  [FEATURE_WRITE_ATOMICITY]: 0x1,
  [FEATURE_ASYNC_EVENTS]: 0x11f,
};

export class Features {
  private readonly namespaces: number;
  private readonly hasQueues: () => boolean;
  private readonly values: Map<number, number>;

  /** @param hasQueues I/O queues exist: their number is settled */
  constructor(namespaces: number, hasQueues: () => boolean) {
    this.namespaces = namespaces;
    this.hasQueues = hasQueues;
    this.values = new Map();
  }

  reset(): void {
    this.values.clear();
  }

  /** Most I/O queues of one kind that may be made. */
  get submissionQueues(): number {
    return (this.value(FEATURE_NUMBER_OF_QUEUES) & 0xffff) + 1;
  }

  get completionQueues(): number {
    return (this.value(FEATURE_NUMBER_OF_QUEUES) >>> 16) + 1;
  }

  get asyncEvents(): number {
    return this.value(FEATURE_ASYNC_EVENTS);
  }

  /** The temperature has reached a threshold. */
  get isTooWarm(): boolean {
    const over = this.value(temperatureKey(0));
    return TEMPERATURE >= over || TEMPERATURE <= this.value(temperatureKey(THSEL_UNDER));
  }

  /** Set Features. @returns a status; the command has its result */
  set(command: Command): number {
    const feature = command.dword(SQE_CDW10) & 0xff;
    const value = command.dword(SQE_CDW11);
    if (!isKnown(feature)) return INVALID_FIELD;
    if (command.dword(SQE_CDW10) & SAVE) return FEATURE_NOT_SAVEABLE;
    const nsid = command.namespaceId;
    if (feature === FEATURE_ERROR_RECOVERY) return this.setErrorRecovery(nsid, value);
    if (nsid !== 0 && nsid !== NSID_ALL) return FEATURE_NOT_NAMESPACE_SPECIFIC;
    if (feature === FEATURE_NUMBER_OF_QUEUES) return this.setQueues(command, value);
    if (!isAllowed(feature, value)) return INVALID_FIELD;
    this.values.set(keyOf(feature, value, nsid), (value & (KEPT[feature] ?? ~0)) >>> 0);
    return SUCCESS;
  }

  /** Get Features. */
  get(command: Command): number {
    const feature = command.dword(SQE_CDW10) & 0xff;
    const parameter = command.dword(SQE_CDW11);
    const select = (command.dword(SQE_CDW10) >>> SELECT_SHIFT) & SELECT;
    const nsid = command.namespaceId;
    if (!isKnown(feature) || select > SELECT_CAPABILITIES) return INVALID_FIELD;
    const perNamespace = feature === FEATURE_ERROR_RECOVERY;
    if (select === SELECT_CAPABILITIES) {
      command.result = CAPABILITY_CHANGEABLE | (perNamespace ? CAPABILITY_PER_NAMESPACE : 0);
      return SUCCESS;
    }
    if (perNamespace && !this.isNamespace(nsid)) return INVALID_NAMESPACE;
    if (!perNamespace && !isAllowed(feature, parameter, true)) return INVALID_FIELD;
    const key = keyOf(feature, parameter, nsid);
    // What is not saveable has its default as its saved value.
    command.result = select === SELECT_CURRENT ? this.value(key) : defaultOf(key);
    return SUCCESS;
  }

  private setErrorRecovery(nsid: number, value: number): number {
    if (nsid !== NSID_ALL && !this.isNamespace(nsid)) return INVALID_NAMESPACE;
    if (value & ERROR_RECOVERY_DULBE) return INVALID_FIELD;
    const [first, last] = nsid === NSID_ALL ? [1, this.namespaces] : [nsid, nsid];
    const kept = value & KEPT[FEATURE_ERROR_RECOVERY]!;
    for (let id = first; id <= last; id++) this.values.set(keyOf(FEATURE_ERROR_RECOVERY, value, id), kept);
    return SUCCESS;
  }

  /** The host asks for a number of queues of each kind, 0's based, and gets as many as there are. */
  private setQueues(command: Command, value: number): number {
    const [submissions, completions] = [value & 0xffff, value >>> 16];
    if (submissions === 0xffff || completions === 0xffff) return INVALID_FIELD;
    if (this.hasQueues()) return COMMAND_SEQUENCE_ERROR;
    const granted = Math.min(submissions, IO_QUEUES - 1) + Math.min(completions, IO_QUEUES - 1) * 0x1_0000;
    this.values.set(FEATURE_NUMBER_OF_QUEUES, granted);
    command.result = granted;
    return SUCCESS;
  }

  private value(key: number): number {
    return this.values.get(key) ?? defaultOf(key);
  }

  private isNamespace(nsid: number): boolean {
    return nsid >= 1 && nsid <= this.namespaces;
  }
}

const isKnown = (feature: number): boolean => SEVERAL.has(feature) || feature in DEFAULTS;

/** @param asked a value is asked for, not set */
function isAllowed(feature: number, value: number, asked = false): boolean {
  const sensor = (value >>> TMPSEL_SHIFT) & TMPSEL;
  switch (feature) {
    case FEATURE_POWER_MANAGEMENT:
      return asked || (value & 0x1f) === 0;
    case FEATURE_TEMPERATURE_THRESHOLD:
      return ((value >>> THSEL_SHIFT) & THSEL) <= THSEL_UNDER && (sensor === 0 || (!asked && sensor === TMPSEL_ALL));
    case FEATURE_INTERRUPT_VECTOR:
      return (value & 0xffff) < VECTORS;
    default:
      return true;
  }
}

/** Where a value is kept: thresholds by kind, error recovery by namespace, the rest of a vector by vector. */
function keyOf(feature: number, parameter: number, nsid: number): number {
  if (feature === FEATURE_TEMPERATURE_THRESHOLD) return temperatureKey((parameter >>> THSEL_SHIFT) & THSEL);
  if (feature === FEATURE_ERROR_RECOVERY) return feature + 0x100 * nsid;
  if (feature === FEATURE_INTERRUPT_VECTOR) return feature + 0x100 * (parameter & 0xffff);
  return feature;
}

const temperatureKey = (kind: number): number => FEATURE_TEMPERATURE_THRESHOLD + 0x100 * kind;

function defaultOf(key: number): number {
  if (key === temperatureKey(0)) return WARNING_TEMPERATURE;
  if ((key & 0xff) === FEATURE_INTERRUPT_VECTOR) return key >>> 8;
  return DEFAULTS[key] ?? 0;
}
