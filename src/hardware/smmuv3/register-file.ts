/**
 * The registers as words, driven by the table in spec/registers.ts: which bits exist, when a write is ignored, what
 * reset and save / restore cover. Side effects of writes are the Smmu's.
 */
import { type IdentityName, identityRegisters, type SmmuSettings } from './settings.ts';
import { fieldBits, get } from './spec/field.ts';
import { ABSENT_REGISTERS, type Lock, REGISTERS, type RegisterName, type RegisterSpec } from './spec/registers.ts';

const NAMES = Object.keys(REGISTERS) as RegisterName[];

const { TABLE_SH, TABLE_OC, TABLE_IC, QUEUE_SH, QUEUE_OC, QUEUE_IC } = REGISTERS.CR1.fields;
const TABLE_ATTRIBUTES = fieldBits({ TABLE_SH, TABLE_OC, TABLE_IC }, 0);
const QUEUE_ATTRIBUTES = fieldBits({ QUEUE_SH, QUEUE_OC, QUEUE_IC }, 0);

/** Register values by name: low word, high word (0 for 32-bit registers). */
export type RegisterState = Record<RegisterName, readonly [number, number]>;

/** Index of each register's low word in `RegisterFile.words`. */
export const AT = Object.fromEntries(NAMES.map((name, n) => [name, n * 2])) as Record<RegisterName, number>;

export class RegisterFile {
  /** Two words per register, at AT[name]. */
  readonly words: Uint32Array;
  private readonly writable: Uint32Array;
  private readonly indexOfOffset: Map<number, number>;
  private readonly identity: Record<IdentityName, number>;

  constructor(settings: SmmuSettings) {
    this.identity = identityRegisters(settings);
    this.words = new Uint32Array(NAMES.length * 2);
    this.writable = new Uint32Array(NAMES.length * 2);
    this.indexOfOffset = new Map();
    for (const name of NAMES) {
      const spec: RegisterSpec = REGISTERS[name];
      for (let word = 0; word < spec.words; word++) {
        this.indexOfOffset.set(spec.offset + 4 * word, AT[name] + word);
        if (spec.access === 'RW') this.writable[AT[name] + word] = presentBits(name, spec, word, settings);
      }
    }
    this.reset();
  }

  reset(): void {
    for (const name of NAMES) {
      this.words[AT[name]] = this.identity[name as IdentityName] ?? REGISTERS[name].reset;
      this.words[AT[name] + 1] = 0;
    }
  }

  /** Index into `words` of the register at `offset`, or -1. */
  indexAt(offset: number): number {
    return this.indexOfOffset.get(offset) ?? -1;
  }

  nameAt(index: number): RegisterName {
    return NAMES[index >>> 1]!;
  }

  /** What `value` becomes when written: read-only, locked and reserved bits keep what they are. */
  sanitised(index: number, value: number): number {
    const mask = index === AT.CR1 ? this.writable[index]! & ~this.lockedAttributes() : this.writable[index]!;
    return ((value & mask) | (this.words[index]! & ~mask)) >>> 0;
  }

  /** Is a write ignored because the function that the register configures is enabled? */
  locked(name: RegisterName): boolean {
    const lock: Lock | null = REGISTERS[name].lock;
    if (lock === null) return false;
    if (lock in REGISTERS.CR0.fields) {
      return get(this.words, AT.CR0, REGISTERS.CR0.fields[lock as keyof typeof REGISTERS.CR0.fields]) === 1;
    }
    return (
      get(this.words, AT.IRQ_CTRL, REGISTERS.IRQ_CTRL.fields[lock as keyof typeof REGISTERS.IRQ_CTRL.fields]) === 1
    );
  }

  /** Bits of CR1 that are read-only now: TABLE_* with the SMMU, QUEUE_* with any queue (6.3.11). */
  private lockedAttributes(): number {
    const { SMMUEN, CMDQEN, EVENTQEN, PRIQEN } = REGISTERS.CR0.fields;
    const on = (field: typeof SMMUEN): boolean => get(this.words, AT.CR0, field) === 1;
    return (on(SMMUEN) ? TABLE_ATTRIBUTES : 0) | ([CMDQEN, EVENTQEN, PRIQEN].some(on) ? QUEUE_ATTRIBUTES : 0);
  }

  save(): RegisterState {
    const state = {} as Record<RegisterName, [number, number]>;
    for (const name of NAMES) state[name] = [this.words[AT[name]]!, this.words[AT[name] + 1]!];
    return state;
  }

  /** Takes every register from `state`; ID registers stay what the settings say. */
  restore(state: RegisterState): void {
    for (const name of NAMES) {
      if (name in this.identity) continue;
      this.words[AT[name]] = state[name][0];
      this.words[AT[name] + 1] = state[name][1];
    }
  }
}

/** Name of a register that the architecture has and this model does not; '' when the offset is reserved. */
export const absentRegister = (offset: number): string =>
  ABSENT_REGISTERS[offset] ?? ABSENT_REGISTERS[offset - 4] ?? '';

/** Bits of a register that this SMMU has: the fields, less those of features that its settings leave out. */
function presentBits(name: RegisterName, spec: RegisterSpec, word: number, settings: SmmuSettings): number {
  let bits = fieldBits(spec.fields, word);
  // ADDR bits above OAS are RES0; bit 62 (RA, WA) is no address bit.
  if (word === 1) bits &= 0x40000000 | (settings.oas === 32 ? 0 : 2 ** (settings.oas - 32) - 1);
  if (!settings.msi && name.includes('IRQ_CFG')) bits = name === 'PRIQ_IRQ_CFG2' ? 0x80000000 : 0;
  if (!settings.pri && name.startsWith('PRIQ')) bits = 0;
  if (name === 'CR0') bits &= ~((settings.pri ? 0 : 2) | (settings.ats ? 0 : 0x10));
  if (name === 'IRQ_CTRL' && !settings.pri) bits &= ~2;
  if (name === 'STRTAB_BASE_CFG' && !settings.twoLevelStreamTable) bits &= 0x3f;
  return bits >>> 0;
}
