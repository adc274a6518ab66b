/** All structs of the uAPI by name, and their text as a strace-like printer wants it. */
import * as iommufd from './iommufd.ts';
import * as v2 from './iommufd-viommu-v2.ts';
import { type AnyStruct, type FieldInfo, isStruct, type Names } from './struct.ts';
import * as vfio from './vfio.ts';

/** Where two releases have a struct of one name, the newest layout. */
const everyStruct = (): ReadonlyMap<string, AnyStruct> => {
  const found = new Map<string, AnyStruct>();
  for (const layout of [...Object.values(v2), ...Object.values(vfio), ...Object.values(iommufd)]) {
    if (isStruct(layout) && layout !== iommufd.HwInfoWithoutPasid) found.set(layout.structName, layout);
  }
  return found;
};

/** By the name that the uAPI gives them, without `struct`: 'iommu_ioas_map'. */
export const STRUCTS: ReadonlyMap<string, AnyStruct> = everyStruct();

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const flagsText = (value: bigint, names: Names): string => {
  const parts: string[] = [];
  let rest = value;
  for (const [name, bit] of Object.entries(names)) {
    if ((rest & BigInt(bit)) === 0n) continue;
    parts.push(name);
    rest &= ~BigInt(bit);
  }
  if (rest !== 0n || parts.length === 0) parts.push(rest === 0n ? '0' : hex(rest));
  return parts.join('|');
};

const nameText = (value: number, names: Names): string =>
  Object.entries(names).find(([, named]) => named === value)?.[0] ?? hex(value);

const scalarText = (value: number | bigint, format: FieldInfo['format']): string => {
  if (typeof format === 'object') {
    return 'flags' in format ? flagsText(BigInt(value), format.flags) : nameText(Number(value), format.names);
  }
  return format === 'hex' || format === 'address' || format === 'length' ? hex(value) : value.toString();
};

/** A field's value as text, in the field's own format. */
export const fieldText = (value: unknown, field: FieldInfo): string => {
  if (typeof value === 'number' || typeof value === 'bigint') return scalarText(value, field.format);
  return `[${Array.from(value as Iterable<number | bigint>, hex).join(', ')}]`;
};

/**
 * `{size=40, flags=IOMMU_IOAS_MAP_READABLE, ioas_id=3, ...}`. Reserved fields show only when they are not zero; fields
 * beyond the end of `bytes` (an older, shorter struct) do not show.
 */
export const structText = (layout: AnyStruct, bytes: Uint8Array): string => {
  const whole = new Uint8Array(Math.max(layout.size, bytes.length));
  whole.set(bytes);
  const instance = new layout(whole) as unknown as Record<string, unknown>;
  const parts: string[] = [];
  for (const [name, field] of Object.entries(layout.fields)) {
    if (field.union || field.offset + field.bytes > bytes.length) continue;
    const place = bytes.subarray(field.offset, field.offset + field.bytes);
    if (name.startsWith('reserved') && place.every((byte) => byte === 0)) continue;
    parts.push(`${field.uapiName}=${fieldText(instance[name], field)}`);
  }
  return `{${parts.join(', ')}}`;
};
