/** Tables of registers, by word: which register is at an offset. */
import type { RegisterSpec } from './spec/registers.ts';

/** Name of the register that each word belongs to; undefined where there is none. */
export function namedWords<N extends string>(registers: Readonly<Record<N, RegisterSpec>>): Array<N | undefined> {
  const names: Array<N | undefined> = [];
  for (const [name, { offset, words }] of Object.entries(registers) as Array<[N, RegisterSpec]>) {
    for (let n = 0; n < words; n++) names[offset / 4 + n] = name;
  }
  return names;
}
