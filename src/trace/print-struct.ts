/** A struct of the uAPI in one line, from its field table: what a reader wants to see of it, and nothing else. */
import type { AnyStruct, FieldInfo, Names } from '../abi/struct.ts';

type Value = number | bigint | Uint8Array | readonly number[] | readonly bigint[];
type Decoded = Readonly<Record<string, Value>>;

/** Zero is an answer of these; of every other field it means "not given". */
const SHOWN_WHEN_ZERO = new Set(
  'id ptId hwptId iova srcIova dstIova start last length virtId vdevId type op optionId val64 fd iommufd index entryNum'.split(
    ' ',
  ),
);
const KIB = 1024n;

/**
 * `{flags=FIXED_IOVA|READABLE, ioas_id=1, iova=0x0}`, then ` => out_...` for what the call gave back or changed.
 * @param before the struct's bytes at entry; those beyond the size that begins it are none of its
 * @param failed out fields mean nothing then
 */
export function showStruct(type: AnyStruct, before: Uint8Array, after: Uint8Array, failed: boolean): string {
  const size = saidSize(type, before);
  const given = decode(type, before);
  const left = decode(type, after);
  const asked: string[] = [];
  const answered: string[] = [];
  const shared = new Set(Object.values(type.fields).flatMap((info) => (info.union ? [info.offset] : [])));
  for (const [name, info] of Object.entries(type.fields)) {
    if (isPlumbing(name, info) || info.offset + info.bytes > size) continue;
    const text = (value: Value): string => `${info.uapiName}=${showValue(value, info)}`;
    if (/^out[A-Z]/.test(name)) {
      if (!failed && !isZero(left[name]!)) answered.push(text(left[name]!));
      continue;
    }
    if (!isZero(given[name]!) || SHOWN_WHEN_ZERO.has(name)) asked.push(text(given[name]!));
    if (!shared.has(info.offset) && String(left[name]) !== String(given[name])) answered.push(text(left[name]!));
  }
  return `{${asked.join(', ')}}${answered.length ? ` => ${answered.join(', ')}` : ''}`;
}

/** How many bytes of the struct the program speaks of. */
function saidSize(type: AnyStruct, bytes: Uint8Array): number {
  const first = Object.keys(type.fields)[0];
  const said = first === 'size' || first === 'argsz' ? Number(decode(type, bytes)[first]) : bytes.length;
  return Math.min(said, bytes.length);
}

/** The size that begins a struct, what is reserved, and where in the program's memory its driver data is. */
const isPlumbing = (name: string, { offset }: FieldInfo): boolean =>
  offset === 0 ? /^(size|argsz)$/.test(name) : /^(reserved|pad)\d*$|Uptr$/.test(name);

function decode(type: AnyStruct, source: Uint8Array): Decoded {
  const whole = new Uint8Array(type.size);
  whole.set(source.subarray(0, type.size));
  return new type(whole) as unknown as Decoded;
}

const isZero = (value: Value): boolean =>
  typeof value === 'object' ? (value as readonly number[]).every((item) => Number(item) === 0) : Number(value) === 0;

function showValue(value: Value, { format }: FieldInfo): string {
  if (typeof value === 'object')
    return `[${Array.from(value as readonly number[], (item) => hex(BigInt(item))).join(' ')}]`;
  const number = BigInt(value);
  if (typeof format === 'object')
    return 'flags' in format ? showFlags(number, format.flags) : showName(number, format.names);
  switch (format) {
    case 'hex':
    case 'address':
      return hex(number);
    case 'length':
      return showLength(number);
    default:
      return `${number}`;
  }
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** `2 MiB` where it is a whole number of them, else bytes. */
export function showLength(bytes: bigint): string {
  if (bytes === 0xffff_ffff_ffff_ffffn) return 'U64_MAX';
  if (bytes === 0n || bytes % KIB) return `${bytes}`;
  if (bytes % KIB ** 2n) return `${bytes / KIB} KiB`;
  return bytes % KIB ** 3n ? `${bytes / KIB ** 2n} MiB` : `${bytes / KIB ** 3n} GiB`;
}

function showFlags(value: bigint, names: Names): string {
  if (value === 0n) return '0';
  const known = Object.entries(names).filter(([, bit]) => value & BigInt(bit));
  const rest = known.reduce((left, [, bit]) => left & ~BigInt(bit), value);
  return [...known.map(([name]) => shorten(name, names)), ...(rest ? [hex(rest)] : [])].join('|');
}

function showName(value: bigint, names: Names): string {
  const name = Object.keys(names).find((key) => BigInt(names[key]!) === value);
  return name ? shorten(name, names) : `${value}`;
}

/** Names of one table begin alike: IOMMU_IOAS_MAP_FIXED_IOVA and ..._READABLE differ only in the end. */
function shorten(name: string, names: Names): string {
  const all = Object.keys(names);
  if (all.length === 1) return name.replace(/^(IOMMU|VFIO)_/, '');
  let length = 0;
  while (all.every((other) => other[length] === name[length])) length++;
  return name.slice(name.lastIndexOf('_', length - 1) + 1).replace(/_(REGION|IRQ)_INDEX$/, '');
}
