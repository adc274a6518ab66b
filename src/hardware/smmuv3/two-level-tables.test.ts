/** Stream tables and tables of context descriptors of two levels, up to their largest (IHI 0070, 3.3.1, 3.3.2, 5.1, 5.3). */
import { describe, expect, it } from 'vitest';
import { READ } from '../iommu.ts';
import { CMD_CFGI_CD, CMD_CFGI_STE } from './spec/commands.ts';
import { FMT_2LEVEL } from './spec/registers.ts';
import { STE, STE_WORDS } from './spec/ste.ts';
import { at, CD_4K, HOLE_FRAME, Rig, S1_LEAF, S2_LEAF, STE_NESTED, STE_S1 } from './test-rig.ts';

const BYPASS = { V: 1, Config: 4 };

describe('a two-level stream table', () => {
  /** Level 1 stands at 2 MiB and may take what is there up to 256 MiB. */
  const L1 = 0x10000;

  const rigWith = (sidSize: number, split: number) => {
    const rig = new Rig({ sidSize });
    rig.set('CR0', 0);
    rig.setWide('STRTAB_BASE', L1, 0);
    rig.set('STRTAB_BASE_CFG', (FMT_2LEVEL << 16) | (split << 6) | sidSize);
    rig.set('CR0', 0b1101);
    return rig;
  };
  const point = (rig: Rig, index: number, table: number, span: number) => {
    const byte = index * 8;
    rig.write64(L1 + Math.floor(byte / 4096), byte % 4096, at(table) | BigInt(span));
  };
  const ste = (rig: Rig, table: number, index: number) =>
    rig.write(table + (index >>> 6), (index & 63) * 64, STE_WORDS, STE, BYPASS);

  it.each([
    [16, 6],
    [16, 8],
    [16, 10],
    [24, 8],
    [31, 10],
    [32, 10],
  ])('of 2^%i StreamIDs, split at %i, leads the last of them to its STE', (sidSize, split) => {
    const rig = rigWith(sidSize, split);
    const last = 2 ** sidSize - 1;
    const table = rig.alloc(2 ** Math.max(0, split - 6));
    point(rig, Math.floor(last / 2 ** split), table, split + 1);
    ste(rig, table, 2 ** split - 1);
    expect(rig.translate(last, 0x42)).toBe(0x42);
    expect([rig.translate(last - 1, 0x42), rig.translate(0, 0x42), rig.translate(last + 1, 0x42)]).toEqual([
      -1, -1, -1,
    ]);
    expect(rig.events().map(({ name, stream }) => [name, stream])).toEqual([
      ['C_BAD_STE', last - 1],
      ['C_BAD_STREAMID', 0],
      // A StreamID has 32 bits: there is none above the last.
      ['C_BAD_STREAMID', (last + 1) >>> 0],
    ]);
  });

  it('covers of each part what Span says, from one STE to all of it', () => {
    const rig = rigWith(16, 8);
    const table = rig.alloc(4);
    for (let index = 0; index < 256; index++) ste(rig, table, index);
    for (const [part, span] of [0, 1, 4, 9, 10].entries()) point(rig, part, table, span);
    const reached = (part: number) => [0, 1, 7, 8, 255].map((place) => rig.translate(part * 256 + place, 5) === 5);
    expect([0, 1, 2, 3, 4].map(reached)).toEqual([
      [false, false, false, false, false],
      [true, false, false, false, false],
      [true, true, true, false, false],
      [true, true, true, true, true],
      // 5.1: a span that is larger than the split is reserved.
      [false, false, false, false, false],
    ]);
  });

  it('may change where a level 1 descriptor points once CFGI_STE has dropped the STE', () => {
    const rig = rigWith(16, 8);
    const [one, two] = [rig.alloc(4), rig.alloc(4)];
    ste(rig, one, 3);
    point(rig, 7, one, 9);
    expect(rig.translate(0x703, 5)).toBe(5);
    point(rig, 7, two, 9);
    expect(rig.translate(0x703, 5)).toBe(5);
    rig.command(CMD_CFGI_STE, { StreamID: 0x703, Leaf: 0 });
    expect(rig.translate(0x703, 5)).toBe(-1);
  });
});

describe('a table of 2^20 context descriptors', () => {
  const LAST = 0xfffff;

  /** Page 5 of SubstreamID n leads to frame 0x9000 + n's number here. */
  function substreams(rig: Rig, ids: readonly number[], l2Of: (index: number) => number, split: number): void {
    for (const [number, ssid] of ids.entries()) {
      const root = rig.alloc();
      rig.map(root, 5, S1_LEAF | at(0x9000 + number));
      rig.cd(l2Of(Math.floor(ssid / 2 ** split)), { ...CD_4K, TTB0: root, ASID: number + 1 }, ssid % 2 ** split);
    }
  }

  it.each([
    ['4 KiB', 1, 6],
    ['64 KiB', 2, 10],
  ])(
    'with level 2 tables of %s has a context for the first and the last PASID, and none without a table',
    (_, S1Fmt, split) => {
      const rig = new Rig();
      const l1 = rig.alloc(2 ** (20 - split - 9));
      const tables = new Map<number, number>();
      const l2Of = (index: number): number => {
        const table = tables.get(index) ?? rig.alloc(2 ** (split - 6));
        tables.set(index, table);
        rig.write64(l1 + (index >>> 9), (index & 511) * 8, at(table) | 1n);
        return table;
      };
      const ids = [0, 1, 2 ** split - 1, 2 ** split, 0x8000, LAST];
      substreams(rig, ids, l2Of, split);
      rig.ste(1, { ...STE_S1, S1ContextPtr: l1, S1CDMax: 20, S1Fmt, S1DSS: 2 });
      expect(ids.slice(1).map((ssid) => rig.translate(1, 5, READ, ssid))).toEqual([
        0x9001, 0x9002, 0x9003, 0x9004, 0x9005,
      ]);
      expect(rig.translate(1, 5)).toBe(0x9000);
      // Another table, none, and a CD that is not valid.
      expect([2, 3 * 2 ** split, LAST - 1].map((ssid) => rig.translate(1, 5, READ, ssid))).toEqual([-1, -1, -1]);
      expect(rig.events().map(({ name }) => name)).toEqual(['C_BAD_CD', 'C_BAD_SUBSTREAMID', 'C_BAD_CD']);
    },
  );

  it('of a guest has its level 1 and level 2 tables translated, each at its own IPA', () => {
    const rig = new Rig();
    const second = rig.alloc();
    const [l1, l2, root] = [rig.alloc(2), rig.alloc(16), rig.alloc()];
    // Page tables and the page itself in a block of 1 GiB, as they are; the tables of CDs above it.
    rig.map(second, 0, S2_LEAF, 1);
    rig.map(root, 5, S1_LEAF | at(root));
    const [l1Ipa, l2Ipa] = [0x123454, 0x7654320];
    const [entry, cd] = [Math.floor(LAST / 1024), LAST % 1024];
    // Only the page of each that is needed is mapped.
    rig.map(second, l1Ipa + (entry >>> 9), S2_LEAF | at(l1 + (entry >>> 9)));
    rig.write64(l1 + (entry >>> 9), (entry & 511) * 8, at(l2Ipa) | 1n);
    rig.cd(l2, { ...CD_4K, TTB0: root }, cd);
    rig.ste(1, { ...STE_NESTED, S1ContextPtr: l1Ipa, S1CDMax: 20, S1Fmt: 2, S2TTB: second });
    expect(rig.translate(1, 5, READ, LAST)).toBe(-1);
    rig.map(second, l2Ipa + (cd >>> 6), S2_LEAF | at(l2 + (cd >>> 6)));
    expect(rig.translate(1, 5, READ, LAST)).toBe(root);
    expect(rig.translate(1, 5, READ, 5)).toBe(-1);
    expect(rig.events()).toMatchObject([
      { name: 'F_TRANSLATION', S2: 1, CLASS: 0, IPA: BigInt(l2Ipa + (cd >>> 6)) << 12n, SubstreamID: LAST },
      { name: 'F_TRANSLATION', S2: 1, CLASS: 0, IPA: BigInt(l1Ipa) << 12n, SubstreamID: 5 },
    ]);
  });

  it('keeps a context until CFGI_CD names its PASID, even when its level 2 table went', () => {
    const rig = new Rig();
    const [l1, l2] = [rig.alloc(2), rig.alloc(16)];
    rig.write64(l1 + 1, 511 * 8, at(l2) | 1n);
    substreams(rig, [LAST, LAST - 1], () => l2, 10);
    rig.ste(1, { ...STE_S1, S1ContextPtr: l1, S1CDMax: 20, S1Fmt: 2 });
    const seen = () => [LAST, LAST - 1].map((ssid) => rig.translate(1, 5, READ, ssid));
    expect(seen()).toEqual([0x9000, 0x9001]);
    rig.write64(l1 + 1, 511 * 8, 0n);
    expect(seen()).toEqual([0x9000, 0x9001]);
    rig.command(CMD_CFGI_CD, { StreamID: 1, SubstreamID: LAST });
    // Not its translation: that goes by ASID. The configuration is asked first.
    expect(seen()).toEqual([-1, 0x9001]);
  });

  it('whose level 2 table is nowhere says where it looked', () => {
    const rig = new Rig();
    const l1 = rig.alloc(2);
    rig.write64(l1, 8, at(HOLE_FRAME) | 1n);
    rig.ste(1, { ...STE_S1, S1ContextPtr: l1, S1CDMax: 20, S1Fmt: 2 });
    expect(rig.translate(1, 5, READ, 1024 + 3)).toBe(-1);
    expect(rig.events()).toMatchObject([{ name: 'F_CD_FETCH', FetchAddr: (BigInt(HOLE_FRAME) << 12n) + 192n }]);
  });
});
