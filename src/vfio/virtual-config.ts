/**
 * Configuration space as the program sees it: a copy for the bits that vfio owns, the function's own registers for the
 * rest. BARs can be sized but not moved, MSI-X is switched by SET_IRQS, and a function level reset keeps its settings.
 */
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import {
  BAR_MEMORY_64,
  BAR0,
  BARS,
  CAP_EXPRESS,
  CAP_MSI,
  CAP_PM,
  COMMAND,
  COMMAND_INTX_DISABLE,
  COMMAND_IO,
  COMMAND_MEMORY,
  CONFIG_BYTES,
  DEVCTL_FLR,
  INTERRUPT_PIN,
  MSI_CONTROL_CAPABLE_LOG2,
  MSI_CONTROL_ENABLE,
  MSI_CONTROL_ENABLED_LOG2,
  PMCSR_POWER_STATE,
  POWER_D3HOT,
  ROM_ADDRESS,
} from '../hardware/pci/spec/config-space.ts';
import { type ConfigLayout, configLayout } from './config-permissions.ts';
import { resetFunction } from './pci-core.ts';

const BARS_END = BAR0 + 4 * BARS;

/** What configuration space has to do with interrupts. */
export interface ConfigInterrupts {
  /** SET_IRQS has switched MSI on. */
  readonly usesMsi: boolean;
  /** log2 of the vectors of MSI that the program is to see. */
  readonly msiLog2: number;
  /** The program changed INTx disable in its COMMAND. */
  setPinDisabled(disabled: boolean): void;
}

/** What others have of the device's memory, while it decodes any. */
export interface ConfigExports {
  setAvailable(available: boolean): void;
}

export class VirtualConfig {
  /** The program has INTx disable set. */
  intxDisabled: boolean;
  private readonly fn: PciFunction;
  private readonly interrupts: ConfigInterrupts;
  private readonly exports: ConfigExports;
  private readonly layout: ConfigLayout;
  private readonly copy: DataView;
  /** What the BARs hold when nobody has reset the function behind our back. */
  private readonly bar0: readonly number[];
  private readonly powerControl: number;
  private readonly deviceControl: number;
  /** Of MSI; 0 without. */
  private readonly messageControl: number;

  constructor(fn: PciFunction, interrupts: ConfigInterrupts, exports: ConfigExports) {
    this.intxDisabled = false;
    this.fn = fn;
    this.interrupts = interrupts;
    this.exports = exports;
    this.layout = configLayout(fn);
    this.copy = new DataView(new ArrayBuffer(CONFIG_BYTES));
    this.bar0 = [fn.readConfig(BAR0, 4), fn.readConfig(BAR0 + 4, 4)];
    this.powerControl = this.layout.capabilities.get(CAP_PM)! + 4;
    this.deviceControl = this.layout.capabilities.get(CAP_EXPRESS)! + 8;
    const msi = this.layout.capabilities.get(CAP_MSI);
    this.messageControl = msi ? msi + 2 : 0;
    for (let at = 0; at < CONFIG_BYTES; at += 4) this.copy.setUint32(at, fn.readConfig(at, 4), true);
    for (const [at, next] of this.layout.nextPointers) {
      this.copy.setUint32(at, ((this.copy.getUint32(at, true) & 0xf_ffff) | (next << 20)) >>> 0, true);
    }
    this.clearPme();
  }

  /** BAR accesses are allowed: memory decode is on as the program sees it, and the function is not in D3hot. */
  get memoryEnabled(): boolean {
    const powered = (this.fn.readConfig(this.powerControl, 2) & PMCSR_POWER_STATE) < POWER_D3HOT;
    return powered && (this.copy.getUint16(COMMAND, true) & COMMAND_MEMORY) !== 0;
  }

  get interruptPin(): number {
    return this.copy.getUint8(INTERRUPT_PIN);
  }

  /** @param size 1, 2 or 4, naturally aligned */
  read(offset: number, size: number): number {
    if (isBar(offset)) this.sizeBars();
    if (this.touchesMessages(offset, size)) this.limitMessages();
    const virtual = load(this.layout.virtual, offset, size);
    const own = loadView(this.copy, offset, size);
    return ((this.fn.readConfig(offset, size) & ~virtual) | (own & virtual)) >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    if (offset === COMMAND) this.beforeCommand();
    this.store(offset, size, value);
    if (offset === COMMAND) this.afterCommand(value);
    if (offset >= COMMAND && offset <= COMMAND + 1) this.followIntxDisable();
    if (this.touchesMessages(offset, size)) this.setMessages();
    if (offset === this.powerControl) this.setPower(value & PMCSR_POWER_STATE);
    if (offset === COMMAND || offset === this.powerControl) this.exports.setAvailable(this.memoryEnabled);
    if (offset <= this.deviceControl + 1 && this.deviceControl < offset + size) this.resetWhenAsked();
  }

  private touchesMessages(offset: number, size: number): boolean {
    return this.messageControl !== 0 && offset <= this.messageControl && this.messageControl < offset + size;
  }

  private limitMessages(): void {
    const control = this.copy.getUint16(this.messageControl, true) & ~MSI_CONTROL_CAPABLE_LOG2;
    this.copy.setUint16(this.messageControl, control | (this.interrupts.msiLog2 << 1), true);
  }

  /** MSI goes on by SET_IRQS only; while it is on the program may pause it, and use fewer vectors. */
  private setMessages(): void {
    const { usesMsi, msiLog2 } = this.interrupts;
    let control = this.copy.getUint16(this.messageControl, true);
    if (!usesMsi) control &= ~MSI_CONTROL_ENABLE;
    const asked = (control & MSI_CONTROL_ENABLED_LOG2) >>> 4;
    control = (control & ~MSI_CONTROL_ENABLED_LOG2) | (Math.min(asked, msiLog2) << 4);
    this.copy.setUint16(this.messageControl, control, true);
    this.fn.writeConfig(this.messageControl, 2, control);
  }

  private store(offset: number, size: number, value: number): void {
    const writable = load(this.layout.writable, offset, size);
    const virtual = load(this.layout.virtual, offset, size);
    const own = loadView(this.copy, offset, size);
    const mine = writable & virtual;
    storeView(this.copy, offset, size, (own & ~mine) | (value & mine));
    const hardware = writable & ~virtual;
    if (hardware === 0) return;
    this.fn.writeConfig(offset, size, ((this.fn.readConfig(offset, size) & ~hardware) | (value & hardware)) >>> 0);
  }

  /** A function whose BARs have changed was reset behind our back. */
  private beforeCommand(): void {
    const { fn, bar0 } = this;
    if (fn.readConfig(BAR0, 4) === bar0[0] && fn.readConfig(BAR0 + 4, 4) === bar0[1]) return;
    fn.writeConfig(BAR0, 4, bar0[0]!);
    fn.writeConfig(BAR0 + 4, 4, bar0[1]!);
  }

  private afterCommand(value: number): void {
    const kept = COMMAND_MEMORY | COMMAND_IO;
    this.copy.setUint16(COMMAND, (this.copy.getUint16(COMMAND, true) & ~kept) | (value & kept), true);
  }

  private followIntxDisable(): void {
    const disabled = (this.copy.getUint16(COMMAND, true) & COMMAND_INTX_DISABLE) !== 0;
    if (disabled === this.intxDisabled) return;
    this.intxDisabled = disabled;
    this.interrupts.setPinDisabled(disabled);
  }

  private setPower(state: number): void {
    const control = this.fn.readConfig(this.powerControl, 2);
    this.fn.writeConfig(this.powerControl, 2, (control & ~PMCSR_POWER_STATE) | state);
  }

  /** The bit always reads as zero. */
  private resetWhenAsked(): void {
    const control = this.copy.getUint16(this.deviceControl, true);
    if ((control & DEVCTL_FLR) === 0) return;
    this.copy.setUint16(this.deviceControl, control & ~DEVCTL_FLR, true);
    this.exports.setAvailable(false);
    resetFunction(this.fn);
    this.exports.setAvailable(this.memoryEnabled);
  }

  /** The copies of the BARs behave as the hardware's would: low bits fixed by the size. */
  private sizeBars(): void {
    const mask = -this.fn.kind.identity.bar0Bytes;
    this.copy.setUint32(BAR0, (this.copy.getUint32(BAR0, true) & mask) | BAR_MEMORY_64, true);
    for (let at = BAR0 + 8; at < BARS_END; at += 4) this.copy.setUint32(at, 0, true);
    this.copy.setUint32(ROM_ADDRESS, 0, true);
  }

  private clearPme(): void {
    const capabilities = this.powerControl - 2;
    this.copy.setUint16(capabilities, this.copy.getUint16(capabilities, true) & 0x07ff, true);
    this.copy.setUint16(this.powerControl, this.copy.getUint16(this.powerControl, true) & 0x7eff, true);
  }
}

const isBar = (offset: number): boolean =>
  (offset >= BAR0 && offset < BARS_END) || (offset >= ROM_ADDRESS && offset < ROM_ADDRESS + 4);

function load(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = 0; i < size; i++) value |= bytes[offset + i]! << (8 * i);
  return value;
}

function loadView(view: DataView, offset: number, size: number): number {
  if (size === 4) return view.getUint32(offset, true);
  return size === 2 ? view.getUint16(offset, true) : view.getUint8(offset);
}

function storeView(view: DataView, offset: number, size: number, value: number): void {
  if (size === 4) view.setUint32(offset, value, true);
  else if (size === 2) view.setUint16(offset, value, true);
  else view.setUint8(offset, value);
}
