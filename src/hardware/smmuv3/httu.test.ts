/** Hardware updates of access flag and dirty state (IHI 0070, 3.13). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Backing } from '../../memory/physical-memory.ts';
import { ATS_SUCCESS, NO_SUBSTREAM, READ, WRITE } from '../iommu.ts';
import { CMD_TLBI_NH_VA, CMD_TLBI_NSNH_ALL } from './spec/commands.ts';
import { at, HOLE_FRAME, Rig, S1_LEAF, S2_LEAF } from './test-rig.ts';

const DBM = 1n << 51n;
const AF = 0x400n;
/** AP[2] and S2AP[1]. */
const BIT7 = 0x80n;
const S1_CLEAN = S1_LEAF | BIT7 | DBM;
const S1_READ_ONLY = S1_LEAF | BIT7;
const S2_CLEAN = (S2_LEAF & ~BIT7) | DBM;
const S2_READ_ONLY = S2_LEAF & ~BIT7;

const S1_UPDATES = { HA: 1, HD: 1 };
const S2_UPDATES = { S2HA: 1, S2HD: 1 };
const VA = 0x12345;
const OUT = 0x4000;

const htturig = (httu: 0 | 1 | 2 = 2): Rig => new Rig({ httu });

/** What a descriptor has become, without its address and type. */
const flags = (rig: Rig, { frame, offset }: { frame: number; offset: number }): bigint =>
  rig.read64(frame, offset) & (DBM | 0xffcn);

/** One page of stage 1, not nested. */
function single(leaf: bigint, cd: Record<string, number> = S1_UPDATES, level = 3) {
  const rig = htturig();
  const { root } = rig.stage1Stream(1, cd);
  return { rig, root, place: rig.map(root, VA, leaf | at(OUT), level) };
}

/** Stage 2 is 4 KiB pages: of the tables and CD with `tables`, of the output with `output`. */
function nested(stage1: bigint, output: bigint, tables = S2_LEAF, ste: Record<string, number> = S2_UPDATES) {
  const rig = htturig();
  const { root, cd, second } = rig.nestedStream(1, S1_UPDATES, ste);
  const first = rig.map(root, VA, stage1 | at(0x12000));
  const places = new Map<number, { frame: number; offset: number }>();
  rig.write64(second, 0, 0n);
  for (let frame = root; frame <= first.frame; frame++) places.set(frame, rig.map(second, frame, tables | at(frame)));
  const out = rig.map(second, 0x12000, output | at(OUT));
  return { rig, root, cd, second, first, out, of: (frame: number) => places.get(frame)! };
}

describe('the access flag', () => {
  it('is set by an access instead of a fault, and AFFD does not matter', () => {
    for (const AFFD of [0, 1]) {
      const { rig, place } = single(S1_LEAF & ~AF, { HA: 1, AFFD });
      expect(rig.translate(1, VA)).toBe(OUT);
      expect(flags(rig, place)).toBe(S1_LEAF);
      expect(rig.events()).toEqual([]);
    }
  });

  it('faults without HA, whatever HD says', () => {
    const { rig, place } = single(S1_LEAF & ~AF, { HD: 1 });
    expect(rig.translate(1, VA)).toBe(-1);
    expect(rig.events()).toMatchObject([{ name: 'F_ACCESS', S2: 0 }]);
    expect(flags(rig, place)).toBe(S1_LEAF & ~AF);
  });

  it('is not looked at with AFFD alone, and not set', () => {
    const { rig, place } = single(S1_LEAF & ~AF, { AFFD: 1 });
    expect(rig.translate(1, VA)).toBe(OUT);
    expect(flags(rig, place)).toBe(S1_LEAF & ~AF);
  });

  it('is set in every stage 2 leaf on the way: of the CD, of the tables, of the output', () => {
    const { rig, cd, root, first, out, of } = nested(S1_LEAF, S2_LEAF & ~AF, S2_LEAF & ~AF, { S2HA: 1 });
    expect(rig.translate(1, VA)).toBe(OUT);
    for (const place of [of(cd), of(root), of(first.frame), out]) expect(flags(rig, place)).toBe(S2_LEAF);
  });
});

describe('a writable-clean page', () => {
  it('becomes dirty by a write and stays clean by a read', () => {
    const { rig, place } = single(S1_CLEAN & ~AF);
    expect(rig.translate(1, VA, READ)).toBe(OUT);
    expect(flags(rig, place)).toBe(S1_CLEAN);
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
    expect(flags(rig, place)).toBe(S1_LEAF | DBM);
    expect(rig.events()).toEqual([]);
  });

  it('is one of stage 2 alone, too', () => {
    const rig = htturig();
    const { root } = rig.stage2Stream(1, S2_UPDATES);
    const place = rig.map(root, VA, S2_CLEAN | at(OUT));
    expect(rig.translate(1, VA, READ)).toBe(OUT);
    expect(flags(rig, place)).toBe(S2_CLEAN);
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
    expect(flags(rig, place)).toBe(S2_LEAF | DBM);
  });

  it.each([1, 2])('is a block of level %i', (level) => {
    const { rig, place } = single(S1_CLEAN, S1_UPDATES, level);
    expect(rig.translate(1, VA, WRITE)).toBeGreaterThan(0);
    expect(flags(rig, place)).toBe(S1_LEAF | DBM);
  });

  it.each([
    ['DBM is 0', S1_READ_ONLY, S1_UPDATES],
    ['HD is 0', S1_CLEAN, { HA: 1 }],
    ['HA is 0', S1_CLEAN, { HD: 1 }],
  ])('is read-only when %s', (_why, leaf, cd) => {
    const { rig, place } = single(leaf, cd);
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    expect(rig.events()).toMatchObject([{ name: 'F_PERMISSION', RnW: 0, S2: 0 }]);
    expect(flags(rig, place)).toBe(leaf);
  });

  it('is read-only below a table that takes writes away', () => {
    const { rig, root, place } = single(S1_CLEAN);
    rig.write64(root, 0, rig.read64(root, 0) | (1n << 62n));
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    expect(flags(rig, place)).toBe(S1_CLEAN);
  });

  it('that the IOTLB has as dirty is not marked again until it is invalidated', () => {
    const { rig, place } = single(S1_CLEAN);
    rig.translate(1, VA, WRITE);
    const dirty = rig.read64(place.frame, place.offset);
    rig.write64(place.frame, place.offset, dirty | BIT7);
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
    expect(flags(rig, place)).toBe(S1_CLEAN);
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA });
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
    expect(flags(rig, place)).toBe(S1_LEAF | DBM);
  });

  it('does not make an entry forget a page that is read-only: that needs an invalidation', () => {
    const { rig, place } = single(S1_READ_ONLY);
    rig.translate(1, VA, READ);
    rig.write64(place.frame, place.offset, rig.read64(place.frame, place.offset) | DBM);
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    rig.command(CMD_TLBI_NSNH_ALL);
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
  });
});

describe('an update with two stages', () => {
  it('makes the output dirty in both, and the page of the stage 1 table in stage 2', () => {
    const { rig, cd, root, first, out, of } = nested(S1_CLEAN, S2_CLEAN, S2_CLEAN);
    expect(rig.translate(1, VA, READ)).toBe(OUT);
    for (const place of [of(cd), of(root), of(first.frame), out]) expect(flags(rig, place)).toBe(S2_CLEAN);
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
    expect(flags(rig, first)).toBe(S1_LEAF | DBM);
    expect(flags(rig, of(first.frame))).toBe(S2_LEAF | DBM);
    expect(flags(rig, out)).toBe(S2_LEAF | DBM);
    for (const place of [of(cd), of(root)]) expect(flags(rig, place)).toBe(S2_CLEAN);
  });

  it('that stage 2 refuses is a write in the record, and marks nothing', () => {
    const { rig, first, out, of } = nested(S1_CLEAN, S2_CLEAN, S2_READ_ONLY);
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    expect(rig.events()).toMatchObject([
      { name: 'F_PERMISSION', S2: 1, CLASS: 1, RnW: 0, TTRnW: 0, IPA: BigInt(first.frame) << 12n },
    ]);
    expect(flags(rig, first)).toBe(S1_CLEAN);
    expect(flags(rig, out)).toBe(S2_CLEAN);
    expect(flags(rig, of(first.frame))).toBe(S2_READ_ONLY);
  });

  it('is refused to a read that has to set the access flag', () => {
    const { rig } = nested(S1_LEAF & ~AF, S2_LEAF, S2_READ_ONLY);
    expect(rig.translate(1, VA, READ)).toBe(-1);
    expect(rig.events()).toMatchObject([{ name: 'F_PERMISSION', S2: 1, CLASS: 1, RnW: 1, TTRnW: 0 }]);
  });

  it('is not made for a write that stage 2 refuses', () => {
    const { rig, first } = nested(S1_CLEAN, S2_READ_ONLY);
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    expect(rig.events()).toMatchObject([{ name: 'F_PERMISSION', S2: 1, CLASS: 2, RnW: 0 }]);
    expect(flags(rig, first)).toBe(S1_CLEAN);
  });
});

describe('a translation request', () => {
  const ats = { ...S2_UPDATES, EATS: 1 };
  const request = (rig: Rig, access: number): number =>
    rig.smmu.atsRequest(1, NO_SUBSTREAM, VA, access) === ATS_SUCCESS ? rig.smmu.outPermissions : -1;

  it('for writing marks the page before it grants the write; one for reading does not, and grants none', () => {
    const { rig, first, out } = nested(S1_CLEAN, S2_CLEAN, S2_CLEAN, ats);
    expect(request(rig, READ)).toBe(READ);
    expect([flags(rig, first), flags(rig, out)]).toEqual([S1_CLEAN, S2_CLEAN]);
    expect(request(rig, READ | WRITE)).toBe(READ | WRITE);
    expect([flags(rig, first), flags(rig, out)]).toEqual([S1_LEAF | DBM, S2_LEAF | DBM]);
  });

  it('for writing what stage 1 has read-only marks nothing in either stage', () => {
    const { rig, out } = nested(S1_READ_ONLY, S2_CLEAN, S2_CLEAN, ats);
    expect(request(rig, READ | WRITE)).toBe(READ);
    expect(flags(rig, out)).toBe(S2_CLEAN);
  });
});

describe('a table in other memory', () => {
  /** 1 GiB of words at HOLE_FRAME. */
  class Words implements Backing {
    readonly name = 'words';
    readonly bytes = new Uint8Array(4096);
    writable = true;

    read(_frame: number, offset: number, into: Uint8Array): boolean {
      into.set(this.bytes.subarray(offset, offset + into.length));
      return true;
    }

    write(_frame: number, offset: number, from: Uint8Array): boolean {
      if (this.writable) this.bytes.set(from, offset);
      return this.writable;
    }
  }

  it('is updated there, or the update is an external abort', () => {
    const rig = htturig();
    const words = new Words();
    rig.memory.placeBacking(HOLE_FRAME / 2 ** 18, 1, words);
    const { root } = rig.stage1Stream(1, S1_UPDATES);
    const { frame, offset } = rig.map(root, VA, 0n, 2);
    rig.write64(frame, offset, at(HOLE_FRAME) | 3n);
    const leaf = (VA % 512) * 8;
    rig.write64(HOLE_FRAME, leaf, S1_CLEAN | at(OUT) | 3n);
    words.writable = false;
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    const FetchAddr = (BigInt(HOLE_FRAME) << 12n) | BigInt(leaf);
    expect(rig.events()).toMatchObject([{ name: 'F_WALK_EABT', S2: 0, CLASS: 1, FetchAddr }]);
    words.writable = true;
    expect(rig.translate(1, VA, WRITE)).toBe(OUT);
    expect(rig.read64(HOLE_FRAME, leaf)).toBe(S1_LEAF | DBM | at(OUT) | 3n);
  });
});

describe('a setting that IDR0.HTTU does not have', () => {
  it.each([
    [0, { HA: 1 }, {}, 'C_BAD_CD'],
    [1, { HD: 1, HA: 1 }, {}, 'C_BAD_CD'],
    [0, {}, { S2HA: 1 }, 'C_BAD_STE'],
    [1, {}, { S2HA: 1, S2HD: 1 }, 'C_BAD_STE'],
    [1, { HA: 1 }, { S2HA: 1 }, ''],
    [2, S1_UPDATES, S2_UPDATES, ''],
  ] as const)('HTTU %i, CD %o, STE %o: %s', (httu, cd, ste, event) => {
    const rig = htturig(httu);
    const { root } = rig.nestedStream(1, cd, ste);
    rig.map(root, VA, S1_LEAF | at(OUT));
    expect(rig.translate(1, VA)).toBe(event ? -1 : OUT);
    expect(rig.events().map(({ name }) => name)).toEqual(event ? [event] : []);
    expect((rig.get('IDR0') >>> 6) & 3).toBe(httu);
  });
});

describe('whatever a device does', () => {
  const PAGES = 4;
  const states = fc.constantFrom<'dirty' | 'clean' | 'read-only'>('dirty', 'clean', 'read-only');
  const action = fc.record({
    page: fc.nat(PAGES - 1),
    kind: fc.constantFrom<'read' | 'write' | 'request' | 'read request' | 'forget'>(
      'read',
      'write',
      'request',
      'read request',
      'forget',
    ),
  });

  it('the dirty leaves are those of pages that it could write and did, or asked to', () => {
    const pages = fc.array(fc.record({ first: states, second: states }), { minLength: PAGES, maxLength: PAGES });
    const leaves = {
      first: { dirty: S1_LEAF | DBM, clean: S1_CLEAN, 'read-only': S1_READ_ONLY },
      second: { dirty: S2_LEAF | DBM, clean: S2_CLEAN, 'read-only': S2_READ_ONLY },
    };
    fc.assert(
      fc.property(pages, fc.array(action, { maxLength: 24 }), (layout, actions) => {
        const rig = htturig();
        const { root, second } = rig.nestedStream(1, S1_UPDATES, { ...S2_UPDATES, EATS: 1 });
        const expected = layout.map((page) => ({ ...page }));
        const places = layout.map((page, n) => ({
          first: rig.map(root, VA + n, leaves.first[page.first] | at(0x80000 + n)),
          second: rig.map(second, 0x80000 + n, leaves.second[page.second] | at(OUT + n)),
        }));
        for (const { page, kind } of actions) {
          const now = expected[page]!;
          const writable = now.first !== 'read-only' && now.second !== 'read-only';
          if (kind === 'forget') rig.command(CMD_TLBI_NSNH_ALL);
          else if (kind === 'read') expect(rig.translate(1, VA + page, READ)).toBe(OUT + page);
          else if (kind === 'write') expect(rig.translate(1, VA + page, WRITE)).toBe(writable ? OUT + page : -1);
          else {
            const asked = kind === 'request' ? READ | WRITE : READ;
            expect(rig.smmu.atsRequest(1, NO_SUBSTREAM, VA + page, asked)).toBe(ATS_SUCCESS);
            expect(rig.smmu.outPermissions).toBe(writable ? asked : READ);
          }
          rig.events();
          if (writable && (kind === 'write' || kind === 'request'))
            expected[page] = { first: 'dirty', second: 'dirty' };
        }
        for (const [n, { first, second: s2 }] of places.entries()) {
          expect(flags(rig, first)).toBe(leaves.first[expected[n]!.first]);
          expect(flags(rig, s2)).toBe(leaves.second[expected[n]!.second]);
        }
      }),
      { numRuns: 60 },
    );
  });
});
