/** PRI queue entries (IHI 0070, 8): 16 bytes. Layouts only. */
import { bit, bits, type Fields } from './field.ts';

export const PAGE_REQUEST_BYTES = 16;
export const PAGE_REQUEST_WORDS = 4;

export const PAGE_REQUEST = {
  StreamID: bits(31, 0),
  SubstreamID: bits(51, 32),
  Priv: bit(58),
  Execute: bit(59),
  Read: bit(60),
  Write: bit(61),
  Last: bit(62),
  SSV: bit(63),
  PRGIndex: bits(72, 64),
  Address: bits(127, 76),
} as const satisfies Fields;
