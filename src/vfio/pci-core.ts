/** What a host kernel's PCI core does to a function: save and restore its state, reset it, switch parts of it. */
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import {
  COMMAND,
  COMMAND_INTX_DISABLE,
  COMMAND_MASTER,
  COMMAND_MEMORY,
  DEVCTL_FLR,
  MSI_CONTROL_ENABLE,
  MSI_CONTROL_ENABLED_LOG2,
  MSIX_CONTROL_ENABLE,
  STATUS,
  STATUS_INTERRUPT,
} from '../hardware/pci/spec/config-space.ts';

const BAR0_WORDS = [0x10, 0x14];

/** Registers that a saved state holds beside BAR0; COMMAND comes last, when the addresses are right again. */
const SAVED = [
  'CACHE_LINE_SIZE',
  'INTERRUPT_LINE',
  'DEVCTL',
  'LNKCTL',
  'DEVCTL2',
  'LNKCTL2',
  'PMCSR',
  'PRI_ALLOCATION',
  'PRI_CONTROL',
  'PASID_CONTROL',
  'ATS_CONTROL',
  'MSI_ADDRESS',
  'MSI_ADDRESS_HIGH',
  'MSI_DATA',
  'MSI_MASK',
  'MSI_CONTROL',
  'MSIX_CONTROL',
  'ACS_CONTROL',
  'AER_UNCORRECTABLE_MASK',
  'AER_SEVERITY',
  'AER_CORRECTABLE_MASK',
  'COMMAND',
] as const;

/** What the IOMMU's driver switches. A function that is given back keeps it: others of its group may be attached still. */
const OF_THE_IOMMU: ReadonlySet<string> = new Set(['PRI_ALLOCATION', 'PRI_CONTROL', 'PASID_CONTROL', 'ATS_CONTROL']);

export interface SavedState {
  readonly bar0: readonly number[];
  readonly registers: ReadonlyMap<string, number>;
  /** The MSI-X table. */
  readonly messages: Uint32Array | null;
}

export function saveState(fn: PciFunction): SavedState {
  const present = SAVED.filter((name) => fn.config.has(name));
  return {
    bar0: BAR0_WORDS.map((offset) => fn.readConfig(offset, 4)),
    registers: new Map(present.map((name) => [name, fn.config.get(name)])),
    messages: fn.msix?.save() ?? null,
  };
}

/** The state of the past, but for what the IOMMU's driver has set since. */
export function restoreState(fn: PciFunction, state: SavedState): void {
  restore(fn, state, (name) => !OF_THE_IOMMU.has(name));
}

function restore(fn: PciFunction, state: SavedState, wanted: (name: string) => boolean): void {
  for (const [i, offset] of BAR0_WORDS.entries()) fn.writeConfig(offset, 4, state.bar0[i]!);
  if (state.messages) fn.msix!.restore(state.messages);
  for (const [name, value] of state.registers) if (wanted(name)) writeRegister(fn, name, value);
}

/** Function level reset. The function comes back as it was configured; only the device behind BAR0 has forgotten. */
export function resetFunction(fn: PciFunction): void {
  const state = saveState(fn);
  fn.writeConfig(COMMAND, 2, COMMAND_INTX_DISABLE);
  writeRegister(fn, 'DEVCTL', fn.config.get('DEVCTL') | DEVCTL_FLR);
  restore(fn, state, () => true);
}

export function setMaster(fn: PciFunction, on: boolean): void {
  changeCommand(fn, COMMAND_MASTER, on);
}

export function setMemoryDecode(fn: PciFunction, on: boolean): void {
  changeCommand(fn, COMMAND_MEMORY, on);
}

/** Whether the function may assert its interrupt pin. */
export function setIntx(fn: PciFunction, on: boolean): void {
  changeCommand(fn, COMMAND_INTX_DISABLE, !on);
}

/** The interrupt pin would be asserted, were it not disabled. */
export function intxPending(fn: PciFunction): boolean {
  return (fn.readConfig(STATUS, 2) & STATUS_INTERRUPT) !== 0;
}

/** Switching MSI-X on takes the pin away; all vectors start masked. */
export function setMsix(fn: PciFunction, on: boolean): void {
  const control = fn.config.get('MSIX_CONTROL');
  if (on) setIntx(fn, false);
  else for (let vector = 0; vector < fn.msix!.vectors; vector++) fn.maskVector(vector, true);
  writeRegister(fn, 'MSIX_CONTROL', on ? control | MSIX_CONTROL_ENABLE : control & ~MSIX_CONTROL_ENABLE);
  if (!on) setIntx(fn, true);
}

/** The vector's message: its number, at `address`. */
export function setMessage(fn: PciFunction, vector: number, address: bigint): void {
  fn.msix!.setMessage(vector, address, vector);
}

/** Switches MSI on, with all vectors masked: a vector's message is its number, at `address`. */
export function enableMsi(fn: PciFunction, vectors: number, address: bigint): void {
  setIntx(fn, false);
  writeRegister(fn, 'MSI_ADDRESS', Number(address & 0xffff_ffffn));
  writeRegister(fn, 'MSI_ADDRESS_HIGH', Number(address >> 32n));
  writeRegister(fn, 'MSI_DATA', 0);
  writeRegister(fn, 'MSI_MASK', 0xffff_ffff);
  const control = fn.config.get('MSI_CONTROL') & ~MSI_CONTROL_ENABLED_LOG2;
  writeRegister(fn, 'MSI_CONTROL', control | (log2Ceil(vectors) << 4) | MSI_CONTROL_ENABLE);
}

export function disableMsi(fn: PciFunction): void {
  writeRegister(fn, 'MSI_CONTROL', fn.config.get('MSI_CONTROL') & ~MSI_CONTROL_ENABLE);
  setIntx(fn, true);
}

/** log2 of the least power of two that holds `count`. */
export const log2Ceil = (count: number): number => Math.ceil(Math.log2(count));

function changeCommand(fn: PciFunction, bit: number, on: boolean): void {
  const command = fn.readConfig(COMMAND, 2);
  fn.writeConfig(COMMAND, 2, on ? command | bit : command & ~bit);
}

function writeRegister(fn: PciFunction, name: string, value: number): void {
  fn.writeConfig(fn.config.offsetOf(name), fn.config.bytesOf(name), value);
}
