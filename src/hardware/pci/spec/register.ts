/** How a table of registers describes one of them. Bits are those of the register, bit 0 first. */
export interface Register {
  readonly name: string;
  readonly offset: number;
  readonly bytes: 1 | 2 | 4 | 8;
  readonly reset?: bigint;
  /** Bits that a write sets; all others keep their value. */
  readonly writable?: bigint;
  /** Bits that a 1 clears. */
  readonly writeOneToClear?: bigint;
  /** Bits that a reset leaves as they are. */
  readonly sticky?: bigint;
}
