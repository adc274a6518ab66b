/** A PCI function as the guest finds it: configuration space and BAR0, in words. */
export interface GuestFunction {
  /** StreamID on the guest's SMMU. */
  readonly sid: number;
  readBar(offset: number): number;
  writeBar(offset: number, value: number): void;
  readConfig(offset: number): number;
  /** COMMAND: memory decode, bus mastering. */
  setCommand(value: number): void;
  /** PMCSR: 0 for D0, 3 for D3hot. */
  setPowerState(state: number): void;
}

export function readBytes(fn: GuestFunction, offset: number, length: number): Uint8Array {
  const words = Uint32Array.from({ length: length / 4 }, (_, word) => fn.readBar(offset + 4 * word));
  return new Uint8Array(words.buffer);
}

export function writeBytes(fn: GuestFunction, offset: number, bytes: Uint8Array): void {
  const words = new Uint32Array(bytes.slice().buffer);
  for (const [word, value] of words.entries()) fn.writeBar(offset + 4 * word, value);
}
