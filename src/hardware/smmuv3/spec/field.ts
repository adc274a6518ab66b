/**
 * One form for every layout fact: where a field lies in little-endian 32-bit words. Fields of up to 32 bits lie within
 * one word and are read with `get`; addresses reach into the next word and are read with `frameAt` / `offsetAt`
 * (data plane) or `getWide` (control plane).
 */
export interface Field {
  /** Word that holds the lowest bit. */
  readonly word: number;
  /** Lowest bit within that word. */
  readonly shift: number;
  /** Bits: 1 to 64. */
  readonly width: number;
  /** Bits of the value that lie in `word`, at bit 0. */
  readonly mask: number;
  /** Bits of the field that lie in `word + 1`, in place. */
  readonly highMask: number;
}

export type Fields = Readonly<Record<string, Field>>;

const ones = (bits: number): number => (bits >= 32 ? 0xffffffff : 2 ** bits - 1);

/** A field by its bit numbers in the whole structure, as the specification prints them: bits [msb:lsb]. */
export function bits(msb: number, lsb: number): Field {
  const shift = lsb % 32;
  const width = msb - lsb + 1;
  const low = Math.min(width, 32 - shift);
  return Object.freeze({ word: (lsb - shift) / 32, shift, width, mask: ones(low), highMask: ones(width - low) });
}

export const bit = (position: number): Field => bits(position, position);

/** Value of a field of one word, unsigned. `base` is the word index of the structure. */
export const get = (words: Uint32Array, base: number, f: Field): number =>
  ((words[base + f.word]! >>> f.shift) & f.mask) >>> 0;

/** Stores the low bits of `value`; the rest of the word stays. */
export function put(words: Uint32Array, base: number, f: Field, value: number): void {
  const at = base + f.word;
  words[at] = (words[at]! & ~(f.mask << f.shift)) | ((value & f.mask) << f.shift);
}

/** Frame number of an address field whose bits stand in place (bit n of the pair of words is address bit n). */
export const frameAt = (words: Uint32Array, base: number, f: Field): number =>
  ((words[base + f.word + 1]! & f.highMask) >>> 0) * 2 ** 20 + (words[base + f.word]! >>> 12);

/** Byte offset within the frame of an address field: 0 where the field has no such bits. */
export const offsetAt = (words: Uint32Array, base: number, f: Field): number =>
  f.shift >= 12 ? 0 : (words[base + f.word]! & 0xfff & ~((1 << f.shift) - 1)) >>> 0;

/** Stores an address; bits that the field does not have are left as they are. */
export function putFrame(words: Uint32Array, base: number, f: Field, frame: number, offset = 0): void {
  const at = base + f.word;
  const keepLow = (1 << f.shift) - 1;
  const high = Math.floor(frame / 2 ** 20);
  words[at] = (words[at]! & keepLow) | (((((frame - high * 2 ** 20) << 12) | offset) >>> 0) & ~keepLow);
  words[at + 1] = (words[at + 1]! & ~f.highMask) | (high & f.highMask);
}

/** Value of any field, for printers and the control plane: addresses keep their place, other fields start at bit 0. */
export function getWide(words: ArrayLike<number>, base: number, f: Field): bigint {
  const low = BigInt(words[base + f.word]! >>> 0);
  if (f.shift + f.width <= 32) return (low >> BigInt(f.shift)) & ((1n << BigInt(f.width)) - 1n);
  const pair = low | (BigInt(words[base + f.word + 1]! >>> 0) << 32n);
  return pair & (((1n << BigInt(f.width)) - 1n) << BigInt(f.shift));
}

/** Union of the fields' bits in `word`: everything else in it is RES0. */
export function fieldBits(fields: Fields, word: number): number {
  let all = 0;
  for (const f of Object.values(fields)) {
    if (f.word === word) all |= f.mask << f.shift;
    if (f.word + 1 === word) all |= f.highMask;
  }
  return all >>> 0;
}
