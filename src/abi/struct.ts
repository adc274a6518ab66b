/**
 * Structs of the uAPI as classes with accessors over the caller's bytes.
 *
 * Names: a field is the camelCase of its uAPI name (out_fault_fd, outFaultFd), without leading underscores. On the way
 * back a name that begins with `reserved` gets `__`, as iommufd.h writes it; where vfio.h writes a plain `reserved`, its
 * field says so with plain().
 */

/** Uapi names with their values, in the header's order. */
export type Names = Readonly<Record<string, number>>;

/** How a printer shows a field. `flags`: names of bits. `names`: one name for the whole value. */
export type Format = 'decimal' | 'hex' | 'id' | 'fd' | 'address' | 'length' | { flags: Names } | { names: Names };

export type Kind = 'u8' | 'u16' | 'u32' | 's32' | 'u64' | 'bytes' | 'u32s' | 'u64s';

/** What struct() is told of a field. `Value` is what its accessor gives and takes. */
export interface Field<Value> {
  readonly kind: Kind;
  readonly offset: number;
  readonly bytes: number;
  readonly format: Format;
  /** Shares its place with the field before it (a C union). */
  readonly union: boolean;
  /** A reserved field whose uAPI name has no underscores. */
  readonly plain?: boolean;
  /** Never present: carries the accessor's type. */
  readonly value?: Value;
}

/** What the struct tells of a field. */
export interface FieldInfo {
  readonly kind: Kind;
  readonly offset: number;
  readonly bytes: number;
  readonly format: Format;
  readonly union: boolean;
  readonly uapiName: string;
}

// biome-ignore lint/suspicious/noExplicitAny: the constraint of an inferred type; Field<unknown> would not accept setters
type Fields = Readonly<Record<string, Field<any>>>;

/** An instance: its fields, and the bytes that they are a view of. */
export type Struct<F extends Fields> = { -readonly [K in keyof F]: F[K] extends Field<infer V> ? V : never } & {
  readonly bytes: Uint8Array;
};

export interface StructType<F extends Fields = Fields> {
  /** @param bytes at least `size` bytes, viewed and not copied; new zeros when absent */
  new (bytes?: Uint8Array): Struct<F>;
  readonly structName: string;
  /** sizeof. */
  readonly size: number;
  readonly fields: Readonly<Record<keyof F & string, FieldInfo>>;
  /** Offset of the end of a field: the smallest size that holds it. */
  end(field: keyof F & string): number;
}

/** Any struct, for code that only lists or prints. */
export interface AnyStruct {
  new (bytes?: Uint8Array): { readonly bytes: Uint8Array };
  readonly structName: string;
  readonly size: number;
  readonly fields: Readonly<Record<string, FieldInfo>>;
}

const scalar =
  <Value>(kind: Kind, bytes: number) =>
  (offset: number, format: Format = 'decimal'): Field<Value> => ({ kind, offset, bytes, format, union: false });

export const u8 = scalar<number>('u8', 1);
export const u16 = scalar<number>('u16', 2);
export const u32 = scalar<number>('u32', 4);
export const s32 = scalar<number>('s32', 4);
export const u64 = scalar<bigint>('u64', 8);

const array =
  <Value>(kind: Kind, itemBytes: number) =>
  (offset: number, count: number): Field<Value> => ({
    kind,
    offset,
    bytes: itemBytes * count,
    format: 'hex',
    union: false,
  });

/** A view of `count` bytes; assigning copies in exactly that many. */
export const bytes = array<Uint8Array>('bytes', 1);
/** A fresh array of `count` numbers; assigning takes exactly that many. */
export const u32s = array<readonly number[]>('u32s', 4);
/** A fresh array of `count` bigints; assigning takes exactly that many. */
export const u64s = array<readonly bigint[]>('u64s', 8);

/** A further name for the place of the field before it. */
export const union = <Value>(field: Field<Value>): Field<Value> => ({ ...field, union: true });

/** A reserved field that the uAPI writes without underscores. */
export const plain = <Value>(field: Field<Value>): Field<Value> => ({ ...field, plain: true });

/** The uAPI's spelling of a field's name; see the rule above. */
export const uapiName = (field: string, isPlain = false): string => {
  const snake = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return snake.startsWith('reserved') && !isPlain ? `__${snake}` : snake;
};

/** The inverse of uapiName. */
export const fieldName = (name: string): string =>
  name.replace(/^_+/, '').replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

interface View {
  readonly bytes: Uint8Array;
}

// Words are put together from bytes: making a DataView for each instance costs 250 ns in Node 20, this 4 ns a word.
const word = (from: Uint8Array, at: number): number =>
  (from[at]! | (from[at + 1]! << 8) | (from[at + 2]! << 16) | (from[at + 3]! << 24)) >>> 0;

const putWord = (to: Uint8Array, at: number, value: number): void => {
  to[at] = value;
  to[at + 1] = value >>> 8;
  to[at + 2] = value >>> 16;
  to[at + 3] = value >>> 24;
};

const wide = new DataView(new ArrayBuffer(8));

const doubleword = (from: Uint8Array, at: number): bigint => {
  wide.setUint32(0, word(from, at), true);
  wide.setUint32(4, word(from, at + 4), true);
  return wide.getBigUint64(0, true);
};

const putDoubleword = (to: Uint8Array, at: number, value: bigint): void => {
  wide.setBigUint64(0, value, true);
  putWord(to, at, wide.getUint32(0, true));
  putWord(to, at + 4, wide.getUint32(4, true));
};

const reject = (name: string, kind: string, value: unknown): never => {
  throw new RangeError(`${name} takes a ${kind}, not ${String(value)}`);
};

const checkWord = (name: string, value: number): void => {
  if (value >>> 0 !== value) reject(name, 'u32', value);
};

const checkDoubleword = (name: string, value: bigint): void => {
  if (BigInt.asUintN(64, value) !== value) reject(name, 'u64', value);
};

const checkCount = (name: string, count: number, given: number): void => {
  if (given !== count) reject(name, `value of ${count} items`, given);
};

type Accessors = { get(this: View): unknown; set(this: View, value: never): void };

const accessors = (name: string, { kind, offset, bytes: length }: Field<unknown>): Accessors => {
  switch (kind) {
    case 'u8':
      return {
        get() {
          return this.bytes[offset];
        },
        set(value: number) {
          if ((value & 0xff) !== value) reject(name, kind, value);
          this.bytes[offset] = value;
        },
      };
    case 'u16':
      return {
        get() {
          return this.bytes[offset]! | (this.bytes[offset + 1]! << 8);
        },
        set(value: number) {
          if ((value & 0xffff) !== value) reject(name, kind, value);
          this.bytes[offset] = value;
          this.bytes[offset + 1] = value >>> 8;
        },
      };
    case 'u32':
      return {
        get() {
          return word(this.bytes, offset);
        },
        set(value: number) {
          checkWord(name, value);
          putWord(this.bytes, offset, value);
        },
      };
    case 's32':
      return {
        get() {
          return word(this.bytes, offset) | 0;
        },
        set(value: number) {
          if ((value | 0) !== value) reject(name, kind, value);
          putWord(this.bytes, offset, value);
        },
      };
    case 'u64':
      return {
        get() {
          return doubleword(this.bytes, offset);
        },
        set(value: bigint) {
          checkDoubleword(name, value);
          putDoubleword(this.bytes, offset, value);
        },
      };
    case 'bytes':
      return {
        get() {
          return this.bytes.subarray(offset, offset + length);
        },
        set(value: Uint8Array) {
          checkCount(name, length, value.length);
          this.bytes.set(value, offset);
        },
      };
    case 'u32s':
      return {
        get() {
          return Array.from({ length: length / 4 }, (_, i) => word(this.bytes, offset + 4 * i));
        },
        set(value: readonly number[]) {
          checkCount(name, length / 4, value.length);
          for (const item of value) checkWord(name, item);
          for (const [i, item] of value.entries()) putWord(this.bytes, offset + 4 * i, item);
        },
      };
    case 'u64s':
      return {
        get() {
          return Array.from({ length: length / 8 }, (_, i) => doubleword(this.bytes, offset + 8 * i));
        },
        set(value: readonly bigint[]) {
          checkCount(name, length / 8, value.length);
          for (const item of value) checkDoubleword(name, item);
          for (const [i, item] of value.entries()) putDoubleword(this.bytes, offset + 8 * i, item);
        },
      };
  }
};

const checkLayout = (structName: string, size: number, fields: Fields): void => {
  let end = 0;
  let start = 0;
  for (const [name, field] of Object.entries(fields)) {
    const at = `${structName}.${name}`;
    if (name === 'bytes') throw new Error(`${at}: the name is taken by the struct itself`);
    const expected = field.union ? start : end;
    if (field.offset !== expected) throw new Error(`${at} begins at ${field.offset}, expected ${expected}`);
    if (field.union && field.offset + field.bytes !== end) {
      throw new Error(
        `${at} ends at ${field.offset + field.bytes}, and the field that it shares its place with at ${end}`,
      );
    }
    start = field.offset;
    end = field.offset + field.bytes;
  }
  if (end !== size) throw new Error(`${structName} has fields up to ${end} and a size of ${size}`);
};

/**
 * Declares a struct. Fields stand in order and fill it: a hole, an overlap or a wrong end throws at import, so padding is
 * declared as a reserved field.
 * @param structName as in the uAPI, without `struct`
 * @param size sizeof, in bytes; a flexible array at the end does not count
 */
export const struct = <const F extends Fields>(structName: string, size: number, fields: F): StructType<F> => {
  checkLayout(structName, size, fields);
  // A class of its own for each struct and no class fields: sharing a base with fields costs 370 ns an instance.
  class Layout {
    declare readonly bytes: Uint8Array;

    constructor(source: Uint8Array = new Uint8Array(size)) {
      if (source.length < size) throw new RangeError(`${structName} needs ${size} bytes, not ${source.length}`);
      this.bytes = source;
    }
  }
  const infos: Record<string, FieldInfo> = {};
  for (const [name, field] of Object.entries(fields)) {
    const { kind, offset, bytes: length, format, union: shared } = field;
    infos[name] = { kind, offset, bytes: length, format, union: shared, uapiName: uapiName(name, field.plain) };
    Object.defineProperty(Layout.prototype, name, {
      ...accessors(`${structName}.${name}`, field),
      enumerable: true,
      configurable: false,
    });
  }
  const statics = { structName, size, fields: Object.freeze(infos), end: (name: string) => fieldEnd(infos, name) };
  return Object.assign(Layout, statics) as unknown as StructType<F>;
};

const fieldEnd = (infos: Record<string, FieldInfo>, name: string): number => infos[name]!.offset + infos[name]!.bytes;

/** Tells the structs among a module's exports. */
export const isStruct = (value: unknown): value is AnyStruct => typeof value === 'function' && 'structName' in value;
