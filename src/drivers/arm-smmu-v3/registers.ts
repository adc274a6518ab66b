/** Register access by specification entry, over the bus's 32-bit accesses. */
import type { MmioDevice } from '../../hardware/iommu.ts';

/** Reads of an acknowledge or index register before hardware is declared hung. The models answer at once. */
export const POLLS = 1000;

interface Placed {
  readonly offset: number;
}

export class Registers {
  private readonly mmio: MmioDevice;

  constructor(mmio: MmioDevice) {
    this.mmio = mmio;
  }

  read(register: Placed): number {
    return this.mmio.readRegister(register.offset, 4) >>> 0;
  }

  write(register: Placed, value: number): void {
    this.mmio.writeRegister(register.offset, 4, value >>> 0);
  }

  /** A 64-bit register, low word first. */
  write64(register: Placed, words: Uint32Array): void {
    this.mmio.writeRegister(register.offset, 4, words[0]!);
    this.mmio.writeRegister(register.offset + 4, 4, words[1]!);
  }

  /** Writes `value`, whose bit 0 turns something of a CMDQV on or off, and waits until bit 0 of `status` says that it is. */
  switch(register: Placed, status: Placed, value: number): void {
    this.write(register, value);
    for (let polls = 0; polls < POLLS; polls++) if ((this.read(status) & 1) === (value & 1)) return;
    throw new Error(`register 0x${register.offset.toString(16)} never took 0x${value.toString(16)}`);
  }

  /** Writes `value` and waits until `acknowledge` shows it (6.3.9: CR0 and IRQ_CTRL take effect when acknowledged). */
  writeAcknowledged(register: Placed, acknowledge: Placed, value: number): void {
    this.write(register, value);
    for (let polls = 0; polls < POLLS; polls++) if (this.read(acknowledge) === value >>> 0) return;
    throw new Error(`register 0x${acknowledge.offset.toString(16)} never acknowledged 0x${value.toString(16)}`);
  }
}
