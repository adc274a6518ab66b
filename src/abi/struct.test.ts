import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bytes,
  fieldName,
  isStruct,
  plain,
  s32,
  struct,
  u8,
  u16,
  u32,
  u32s,
  u64,
  u64s,
  uapiName,
  union,
} from './struct.ts';

const Sample = struct('sample', 56, {
  size: u32(0),
  outFd: s32(4, 'fd'),
  op: u16(8),
  reserved: u8(10),
  level: u8(11),
  inType: u32(12),
  outType: union(u32(12)),
  address: u64(16),
  tail: bytes(24, 8),
  words: u32s(32, 2),
  pair: u64s(40, 2),
});

describe('struct', () => {
  it('reads little-endian fields where they are declared', () => {
    const raw = Uint8Array.from({ length: 56 }, (_, i) => i + 1);
    const sample = new Sample(raw);
    expect(sample.size).toBe(0x04030201);
    expect(sample.op).toBe(0x0a09);
    expect(sample.level).toBe(12);
    expect(sample.address).toBe(0x1817161514131211n);
    expect([...sample.tail]).toEqual([25, 26, 27, 28, 29, 30, 31, 32]);
    expect(sample.words).toEqual([0x24232221, 0x28272625]);
    expect(sample.pair).toEqual([0x302f2e2d2c2b2a29n, 0x3837363534333231n]);
  });

  it('writes a field and nothing beside it', () => {
    const sample = new Sample();
    sample.op = 0x1234;
    expect([...sample.bytes].map((byte, i) => (byte ? i : -1)).filter((i) => i >= 0)).toEqual([8, 9]);
    expect([sample.bytes[8], sample.bytes[9]]).toEqual([0x34, 0x12]);
  });

  it('is a view of bytes that begin anywhere', () => {
    const raw = new Uint8Array(64);
    const sample = new Sample(raw.subarray(3));
    sample.outFd = -1;
    sample.pair = [1n, 2n];
    expect([...raw.subarray(7, 11)]).toEqual([255, 255, 255, 255]);
    expect(sample.outFd).toBe(-1);
    expect(raw[3 + 48]).toBe(2);
  });

  it('gives a union two names for one place', () => {
    const sample = new Sample();
    sample.inType = 7;
    expect(sample.outType).toBe(7);
  });

  it('gives back every value that fits', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.integer(),
        (wide, word, signed) => {
          const sample = new Sample();
          sample.address = wide;
          sample.size = word;
          sample.outFd = signed;
          expect([sample.address, sample.size, sample.outFd]).toEqual([wide, word, signed]);
        },
      ),
    );
  });

  it('refuses a value that does not fit, and keeps the old one', () => {
    const sample = new Sample();
    for (const wrong of [-1, 2 ** 32, 1.5, Number.NaN]) expect(() => (sample.size = wrong)).toThrow(RangeError);
    for (const wrong of [-1, 0x100]) expect(() => (sample.level = wrong)).toThrow(RangeError);
    for (const wrong of [-1, 0x10000]) expect(() => (sample.op = wrong)).toThrow(RangeError);
    for (const wrong of [2 ** 31, -(2 ** 31) - 1]) expect(() => (sample.outFd = wrong)).toThrow(RangeError);
    for (const wrong of [-1n, 1n << 64n]) expect(() => (sample.address = wrong)).toThrow(RangeError);
    expect(() => (sample.tail = new Uint8Array(7))).toThrow(RangeError);
    expect(() => (sample.words = [1])).toThrow(RangeError);
    expect(() => (sample.words = [1, -1])).toThrow(RangeError);
    expect(() => (sample.pair = [1n, 1n << 64n])).toThrow(RangeError);
    expect(sample.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('refuses bytes that are too few', () => {
    expect(() => new Sample(new Uint8Array(55))).toThrow('sample needs 56 bytes, not 55');
  });

  it('knows where a field ends, for minimum sizes', () => {
    expect(Sample.end('size')).toBe(4);
    expect(Sample.end('level')).toBe(12);
    expect(Sample.end('pair')).toBe(56);
  });

  it('fails at declaration when fields leave a hole, overlap, or do not fill the size', () => {
    expect(() => struct('holed', 16, { a: u32(0), b: u64(8) })).toThrow('holed.b begins at 8, expected 4');
    expect(() => struct('overlapping', 8, { a: u64(0), b: u32(4) })).toThrow('overlapping.b begins at 4, expected 8');
    expect(() => struct('short', 12, { a: u64(0) })).toThrow('short has fields up to 8 and a size of 12');
    expect(() => struct('torn', 8, { a: u64(0), b: union(u32(0)) })).toThrow('torn.b ends at 4');
    expect(() => struct('clash', 4, { bytes: u32(0) })).toThrow('the name is taken');
  });

  it('is told apart from other exports', () => {
    expect(isStruct(Sample)).toBe(true);
    expect([isStruct(3), isStruct({ structName: 'x' }), isStruct(u32)]).toEqual([false, false, false]);
  });
});

describe('names of fields', () => {
  it('follow from the names of the uAPI and lead back to them', () => {
    for (const name of [
      'out_fault_fd',
      '__reserved',
      '__reserved2',
      'val64',
      'log2vcmdqs',
      'out_max_pasid_log2',
      'efr2',
    ]) {
      expect(uapiName(fieldName(name))).toBe(name);
    }
    expect(fieldName('out_fault_fd')).toBe('outFaultFd');
    expect(fieldName('__reserved')).toBe('reserved');
  });

  it('of vfio.h keep a reserved field plain', () => {
    const Plain = struct('vfio_sample', 4, { reserved: plain(u32(0)) });
    expect(Plain.fields.reserved.uapiName).toBe('reserved');
    expect(Sample.fields.reserved.uapiName).toBe('__reserved');
  });
});
