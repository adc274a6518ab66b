import { describe, expect, it } from 'vitest';
import { RegisterFile } from './register-file.ts';

const TABLE = [
  { name: 'A', offset: 0, bytes: 1, reset: 0x5an, writable: 0x0fn },
  { name: 'B', offset: 1, bytes: 1, reset: 0xffn, writeOneToClear: 0x81n },
  { name: 'C', offset: 2, bytes: 2, writable: 0xffffn },
  { name: 'D', offset: 8, bytes: 8, writable: 0xffff_ffff_ffff_f000n },
] as const;

describe('a register file', () => {
  it('starts with the reset values and returns to them', () => {
    const file = new RegisterFile(16, TABLE);
    expect(file.read(0, 4)).toBe(0x0000ff5a);
    file.write(0, 4, 0xffffffff, () => {});
    file.reset();
    expect(file.read(0, 4)).toBe(0x0000ff5a);
  });

  it('changes only writable bits and clears only the bits that a 1 clears', () => {
    const file = new RegisterFile(16, TABLE);
    file.write(0, 4, 0x1234_01f3, () => {});
    expect(file.get('A')).toBe(0x53);
    expect(file.get('B')).toBe(0xfe);
    expect(file.get('C')).toBe(0x1234);
  });

  it('tells every register that an access touches, once, after all bytes are stored', () => {
    const file = new RegisterFile(16, TABLE);
    const seen: string[] = [];
    file.write(0, 4, 0xabcd_0000, (name) => seen.push(`${name}:${file.get('C').toString(16)}`));
    expect(seen).toEqual(['A:abcd', 'B:abcd', 'C:abcd']);
  });

  it('splits a 64-bit address into frame and offset without losing high bits', () => {
    const file = new RegisterFile(16, TABLE);
    file.write(8, 4, 0x7654_3fff, () => {});
    file.write(12, 4, 0xfedc_ba98, () => {});
    expect(file.frameOf('D')).toBe(Number(0xfedcba9876543000n >> 12n));
    expect(file.frameOffsetOf('D')).toBe(0);
  });

  it('answers zero where there is no register, also beyond its end', () => {
    const file = new RegisterFile(16, TABLE);
    file.write(4, 4, 0xffffffff, () => {});
    expect(file.read(4, 4)).toBe(0);
    expect(file.read(16, 4)).toBe(0);
    expect(() => file.write(16, 4, 1, () => {})).not.toThrow();
  });

  it('refuses a table with two registers in one place', () => {
    const twice = [TABLE[2], { name: 'X', offset: 3, bytes: 1 }] as const;
    expect(() => new RegisterFile(16, twice)).toThrow('X');
  });
});
