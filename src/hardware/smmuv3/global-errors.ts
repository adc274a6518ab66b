/** GERROR / GERRORN (IHI 0070, 7.5): an error is active while its bit differs between the two. */
import type { Interrupts } from './interrupts.ts';
import { AT, type RegisterFile } from './register-file.ts';
import { MSI_GERROR_ABT_ERR } from './spec/registers.ts';

export class GlobalErrors {
  private readonly registers: RegisterFile;
  private readonly interrupts: Interrupts;

  constructor(registers: RegisterFile, interrupts: Interrupts) {
    this.registers = registers;
    this.interrupts = interrupts;
  }

  active(error: number): boolean {
    const words = this.registers.words;
    return ((words[AT.GERROR]! ^ words[AT.GERRORN]!) & error) !== 0;
  }

  /** Activates `error` (a mask of one bit), unless it is active already. */
  activate(error: number): void {
    if (this.active(error)) return;
    this.registers.words[AT.GERROR]! ^= error;
    // An aborted GERROR MSI is not announced by another one (7.5.1).
    if (error === MSI_GERROR_ABT_ERR) return;
    const abort = this.interrupts.raise('GERROR');
    if (abort !== 0) this.activate(abort);
  }
}
