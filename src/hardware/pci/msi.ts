/**
 * MSI (PCI 3.0, 6.8.1): one address for all vectors, whose number is in the low bits of the data. With 64-bit addresses
 * and a mask and a pending bit per vector, all of them in configuration space.
 */
import type { MessageTable } from './messages.ts';
import type { RegisterFile } from './register-file.ts';
import { MSI_CONTROL_ENABLE, MSI_CONTROL_ENABLED_LOG2 } from './spec/config-space.ts';

export class Msi implements MessageTable {
  /** As many as the function has. */
  readonly capable: number;
  private readonly config: RegisterFile;

  constructor(config: RegisterFile, capable: number) {
    this.config = config;
    this.capable = capable;
  }

  get enabled(): boolean {
    return (this.config.get('MSI_CONTROL') & MSI_CONTROL_ENABLE) !== 0;
  }

  /** As many as the driver has allotted: a power of two. More than the function has count as all. */
  get vectors(): number {
    const log2 = (this.config.get('MSI_CONTROL') & MSI_CONTROL_ENABLED_LOG2) >>> 4;
    return Math.min(2 ** log2, this.capable);
  }

  frameOf(): number {
    return this.config.get('MSI_ADDRESS_HIGH') * 2 ** 20 + (this.config.get('MSI_ADDRESS') >>> 12);
  }

  offsetOf(): number {
    return this.config.get('MSI_ADDRESS') & 0xfff;
  }

  dataOf(vector: number): number {
    return (this.config.get('MSI_DATA') & ~(this.vectors - 1)) | vector;
  }

  isMasked(vector: number): boolean {
    return ((this.config.get('MSI_MASK') >>> vector) & 1) !== 0;
  }

  mask(vector: number, masked: boolean): void {
    this.setBit('MSI_MASK', vector, masked);
  }

  setPending(vector: number): void {
    this.setBit('MSI_PENDING', vector, true);
  }

  takePending(vector: number): boolean {
    const was = ((this.config.get('MSI_PENDING') >>> vector) & 1) !== 0;
    if (was) this.setBit('MSI_PENDING', vector, false);
    return was;
  }

  private setBit(register: 'MSI_MASK' | 'MSI_PENDING', vector: number, on: boolean): void {
    const bits = this.config.get(register);
    this.config.set(register, (on ? bits | (1 << vector) : bits & ~(1 << vector)) >>> 0);
  }
}
