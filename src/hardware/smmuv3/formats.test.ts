/** Corners of the table formats as they are reached through STE and CD (IHI 0070, 3.4; DDI 0487, D8). */
import { describe, expect, it } from 'vitest';
import { at, CD_4K, Rig, S1_LEAF, STE_S1 } from './test-rig.ts';

const CONTIGUOUS = 1n << 52n;

describe('a contiguous group', () => {
  it('ends with the input range, however large it would be', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, { T0SZ: 33 });
    // 31 bits start at level 1: two entries of 1 GiB, and a group would be sixteen.
    rig.write64(root, 0, S1_LEAF | 1n | CONTIGUOUS);
    expect([rig.translate(1, 5), rig.translate(1, 0x7ffff)]).toEqual([5, 0x7ffff]);
    expect(rig.translate(1, 0x100000)).toBe(-1);
    expect(rig.events()).toMatchObject([{ name: 'F_TRANSLATION', InputAddr: 0x100000123n }]);
  });

  it('is believed as one, though only one of its entries is there', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1);
    rig.map(root, 0x100, S1_LEAF | at(0x9000) | CONTIGUOUS);
    expect([rig.translate(1, 0x100), rig.translate(1, 0x10f), rig.translate(1, 0x110)]).toEqual([0x9000, 0x900f, -1]);
  });
});

describe('52-bit addresses', () => {
  it('of the 64 KiB granule have bits 51:48 in bits 15:12 of a descriptor', () => {
    const rig = new Rig({ oas: 52 });
    const [root, leaves, cd] = [rig.alloc(16), rig.alloc(16), rig.alloc()];
    rig.cd(cd, { ...CD_4K, TG0: 1, T0SZ: 22, IPS: 6, TTB0: root });
    rig.ste(1, { ...STE_S1, S1ContextPtr: cd });
    rig.write64(root, 0, at(leaves) | 3n);
    rig.write64(leaves, 8, S1_LEAF | 3n | (0x123n << 16n) | (0xan << 12n));
    expect(rig.translate(1, 16)).toBe(0xa * 2 ** 36 + 0x1230);
  });

  it('are no more than 48 for the 4 KiB granule: a table above is C_BAD_CD', () => {
    const rig = new Rig({ oas: 52 });
    const { root } = rig.stage1Stream(1, { IPS: 6 });
    rig.map(root, 5, S1_LEAF | at(0x9000));
    rig.stage1Stream(2, { IPS: 6, TTB0: 2 ** 37 });
    expect([rig.translate(1, 5), rig.translate(2, 5)]).toEqual([0x9000, -1]);
    expect(rig.events()).toMatchObject([{ name: 'C_BAD_CD', stream: 2 }]);
  });
});

describe('TTB1', () => {
  it('has a granule of its own, in the encoding of TG1', () => {
    const rig = new Rig();
    const [level2, level3, cd] = [rig.alloc(4), rig.alloc(4), rig.alloc()];
    // 36 bits with 16 KiB: 11 of level 2, 11 of level 3.
    rig.cd(cd, { ...CD_4K, EPD0: 1, EPD1: 0, TG1: 1, T1SZ: 28, TTB1: level2 });
    rig.ste(1, { ...STE_S1, S1ContextPtr: cd });
    rig.write64(level2 + 3, 4088, at(level3) | 3n);
    rig.write64(level3 + 3, 4088, S1_LEAF | 3n | at(0x8000));
    const last = 2 ** 52 - 1;
    expect([rig.translate(1, last), rig.translate(1, last - 3), rig.translate(1, last - 4)]).toEqual([
      0x8003, 0x8000, -1,
    ]);
  });
});
