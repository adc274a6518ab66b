/** The guest's end of a queue of its SMMU (IHI 0070, 3.5): a ring in guest RAM, and two registers with wrap bits. */
import type { MmioDevice } from '../../hardware/iommu.ts';
import type { GuestRam } from './ram.ts';

const OVERFLOW = 0x8000_0000;

/** Where its registers are. */
export interface QueueRegisters {
  readonly base: number;
  readonly prod: number;
  readonly cons: number;
}

export class GuestQueue {
  /** Guest-physical address. */
  readonly base: bigint;
  private readonly mmio: MmioDevice;
  private readonly ram: GuestRam;
  private readonly registers: QueueRegisters;
  private readonly log2Entries: number;
  private readonly entryBytes: number;
  /** Of the end that is the guest's, with its wrap bit. */
  private index: number;

  constructor(mmio: MmioDevice, ram: GuestRam, registers: QueueRegisters, log2Entries: number, entryBytes: number) {
    this.mmio = mmio;
    this.ram = ram;
    this.registers = registers;
    this.log2Entries = log2Entries;
    this.entryBytes = entryBytes;
    this.base = ram.allocate(Math.ceil((2 ** log2Entries * entryBytes) / 4096));
    this.index = 0;
  }

  /** Tells the SMMU of an empty ring, at `base` unless another address is to stand in the register. */
  start(base = this.base): void {
    this.index = 0;
    this.mmio.writeRegister(this.registers.base, 4, Number(base & 0xffff_ffffn) | this.log2Entries);
    this.mmio.writeRegister(this.registers.base + 4, 4, Number(base >> 32n));
    this.mmio.writeRegister(this.registers.prod, 4, 0);
    this.mmio.writeRegister(this.registers.cons, 4, 0);
  }

  /** When the ring is full the SMMU is told, which then has it empty. */
  push(entry: Uint32Array): void {
    const consumed = this.mmio.readRegister(this.registers.cons, 4);
    if (((consumed ^ this.index) & this.mask) === 2 ** this.log2Entries) this.ring();
    this.ram.words(this.slot, entry.length).set(entry);
    this.index = this.after;
  }

  ring(): void {
    this.mmio.writeRegister(this.registers.prod, 4, this.index);
  }

  /** All that was put in has been taken out. */
  get consumed(): boolean {
    return ((this.mmio.readRegister(this.registers.cons, 4) ^ this.index) & this.mask) === 0;
  }

  /** Puts `entry` in place of the one that the SMMU has come to. */
  mend(entry: Uint32Array): void {
    const at = this.mmio.readRegister(this.registers.cons, 4) & (this.mask >>> 1);
    this.ram.words(this.base + BigInt(at * this.entryBytes), entry.length).set(entry);
  }

  /** The oldest entry, or null. */
  pop(words: number): Uint32Array | null {
    const produced = this.mmio.readRegister(this.registers.prod, 4);
    if (((produced ^ this.index) & this.mask) === 0) return null;
    const entry = this.ram.words(this.slot, words).slice();
    this.index = this.after;
    const acknowledged = this.mmio.readRegister(this.registers.cons, 4) & OVERFLOW;
    this.mmio.writeRegister(this.registers.cons, 4, (acknowledged | this.index) >>> 0);
    return entry;
  }

  /** @returns whether entries had been lost */
  acknowledgeOverflow(): boolean {
    const flag = this.mmio.readRegister(this.registers.prod, 4) & OVERFLOW;
    if (flag === (this.mmio.readRegister(this.registers.cons, 4) & OVERFLOW)) return false;
    this.mmio.writeRegister(this.registers.cons, 4, (flag | this.index) >>> 0);
    return true;
  }

  private get mask(): number {
    return 2 * 2 ** this.log2Entries - 1;
  }

  private get after(): number {
    return (this.index + 1) & this.mask;
  }

  private get slot(): bigint {
    return this.base + BigInt((this.index & (this.mask >>> 1)) * this.entryBytes);
  }
}
