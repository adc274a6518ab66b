/** Fields of a hardware record in words: `VMID=2 ASID=7 VA=0x10000 Leaf`, without those that say nothing. */
import { type Fields, getWide } from '../hardware/smmuv3/spec/field.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const choice =
  (...names: string[]) =>
  (value: bigint): string =>
    names[Number(value)] ?? hex(value);

const ADDRESSES = new Set(['Address', 'InputAddr', 'IPA', 'FetchAddr', 'MSIAddress', 'MSIData', 'StreamID']);
/** Zero is an answer too. */
const SHOWN_WHEN_ZERO = new Set(['VMID', 'ASID', 'StreamID', 'SubstreamID', 'Address', 'InputAddr', 'CLASS', 'Resp']);
const CHOICES: Readonly<Record<string, (value: bigint) => string>> = {
  CLASS: choice('CD', 'TT', 'IN'),
  CS: choice('none', 'IRQ', 'SEV'),
  Resp: choice('failure', 'invalid', 'success'),
  TG: choice('', '4K', '16K', '64K'),
};
/** A field that means something only when that flag is set. */
const GATES: Readonly<Record<string, string>> = { SubstreamID: 'SSV', IPA: 'S2', STAG: 'Stall' };

/** @param rename other names for some fields, where the specification's command has one name for it and the table another */
export function showFields(
  words: ArrayLike<number>,
  fields: Fields,
  rename: Readonly<Record<string, string>> = {},
): string {
  const shown: string[] = [];
  for (const [name, field] of Object.entries(fields)) {
    const gate = fields[GATES[name] ?? ''];
    if (name === 'SSV' || (gate && getWide(words, 0, gate) === 0n)) continue;
    const text = showField(name, getWide(words, 0, field), field.width, rename[name] ?? name);
    if (text) shown.push(text);
  }
  return shown.join(' ');
}

function showField(name: string, value: bigint, width: number, label: string): string {
  if (name === 'RnW') return value ? 'read' : 'write';
  if (width === 1) return value ? label : '';
  if (value === 0n && !SHOWN_WHEN_ZERO.has(name)) return '';
  const show = CHOICES[name] ?? (ADDRESSES.has(name) ? hex : String);
  return `${label}=${show(value)}`;
}

/** A record of which nothing is known: its words. */
export const showWords = (words: readonly number[]): string =>
  words.map((word) => `0x${(word >>> 0).toString(16).padStart(8, '0')}`).join(' ');
