/** What stays visible until which invalidation: IOTLB and configuration caches through commands (IHI 0070, 4.3, 4.4). */
import { describe, expect, it } from 'vitest';
import { READ, WRITE } from '../iommu.ts';
import {
  CMD_CFGI_CD,
  CMD_CFGI_CD_ALL,
  CMD_CFGI_STE,
  CMD_CFGI_STE_RANGE,
  CMD_TLBI_NH_ALL,
  CMD_TLBI_NH_ASID,
  CMD_TLBI_NH_VA,
  CMD_TLBI_NH_VAA,
  CMD_TLBI_NSNH_ALL,
  CMD_TLBI_S2_IPA,
  CMD_TLBI_S12_VMALL,
} from './spec/commands.ts';
import { at, CD_4K, Rig, S1_LEAF, S2_LEAF, STE_S1 } from './test-rig.ts';

const VA = 0x12345;

/** Stage 1 alone, VMID 1, ASID 1: VA was used with the old page, and memory now has the new one. */
function changedPage(leaf = S1_LEAF, level = 3): Rig {
  const rig = new Rig();
  const { root } = rig.stage1Stream(1);
  rig.map(root, VA, leaf | at(0x40000), level);
  expect(rig.translate(1, VA)).toBe(level === 3 ? 0x40000 : 0x40145);
  rig.map(root, VA, leaf | at(0x80000), level);
  return rig;
}

const stale = (rig: Rig): boolean => rig.translate(1, VA) < 0x80000;

describe('a changed stage 1 page', () => {
  it.each([
    ['nothing', 0, {}, true],
    ['NH_ALL', CMD_TLBI_NH_ALL, { VMID: 1 }, false],
    ['NH_ALL of another VMID', CMD_TLBI_NH_ALL, { VMID: 2 }, true],
    ['NH_ASID', CMD_TLBI_NH_ASID, { VMID: 1, ASID: 1 }, false],
    ['NH_ASID of another ASID', CMD_TLBI_NH_ASID, { VMID: 1, ASID: 2 }, true],
    ['NH_VA', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA }, false],
    ['NH_VA of another VA', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA + 1 }, true],
    ['NH_VA of another ASID', CMD_TLBI_NH_VA, { VMID: 1, ASID: 2, Address: VA }, true],
    ['NH_VAA', CMD_TLBI_NH_VAA, { VMID: 1, Address: VA }, false],
    ['S12_VMALL', CMD_TLBI_S12_VMALL, { VMID: 1 }, false],
    ['S2_IPA', CMD_TLBI_S2_IPA, { VMID: 1, Address: VA }, true],
    ['NSNH_ALL', CMD_TLBI_NSNH_ALL, {}, false],
    ['CFGI_STE', CMD_CFGI_STE, { StreamID: 1 }, true],
    ['a range that ends below', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA - 4, NUM: 3, TG: 1 }, true],
    ['a range that holds it', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA - 4, NUM: 4, TG: 1 }, false],
    ['a scaled range', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA - 8, NUM: 1, SCALE: 3, TG: 1 }, false],
    ['its level', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA, TG: 1, TTL: 3 }, false],
    ['another level', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA, TG: 1, TTL: 2 }, true],
    ['another granule', CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA, TG: 3, TTL: 3 }, true],
  ])('after %s', (_name, opcode, values, isStale) => {
    const rig = changedPage();
    if (opcode) rig.command(opcode, values);
    expect(rig.get('GERROR')).toBe(0);
    expect(stale(rig)).toBe(isStale);
  });

  it('that is global goes with NH_VA of any ASID, not with NH_ASID', () => {
    const rig = changedPage(S1_LEAF & ~0x800n);
    rig.command(CMD_TLBI_NH_ASID, { VMID: 1, ASID: 1 });
    expect(stale(rig)).toBe(true);
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 99, Address: VA });
    expect(stale(rig)).toBe(false);
  });

  it('that is a block goes with any address in it', () => {
    const rig = changedPage(S1_LEAF, 2);
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: 0x12200 });
    expect(stale(rig)).toBe(false);
  });

  it('ignores ranges and hints without RIL', () => {
    const rig = new Rig({ ril: false });
    const { root } = rig.stage1Stream(1);
    rig.map(root, VA, S1_LEAF | at(0x40000));
    rig.translate(1, VA);
    rig.map(root, VA, S1_LEAF | at(0x80000));
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA - 4, NUM: 31, TG: 1 });
    expect(stale(rig)).toBe(true);
  });
});

describe('permissions', () => {
  it('that were taken away or given are judged by the cached entry until it is invalidated', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1);
    rig.map(root, VA, S1_LEAF | 0x80n | at(0x40000));
    expect([rig.translate(1, VA, READ), rig.translate(1, VA, WRITE)]).toEqual([0x40000, -1]);
    rig.map(root, VA, S1_LEAF | at(0x40000));
    expect(rig.translate(1, VA, WRITE)).toBe(-1);
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: VA });
    expect(rig.translate(1, VA, WRITE)).toBe(0x40000);
    expect(rig.events().map((event) => event.name)).toEqual(['F_PERMISSION', 'F_PERMISSION']);
  });

  it('are not needed to be invalidated after a fault: nothing that faults is cached', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1);
    expect(rig.translate(1, VA)).toBe(-1);
    rig.map(root, VA, (S1_LEAF & ~0x400n) | at(0x40000));
    expect(rig.translate(1, VA)).toBe(-1);
    rig.map(root, VA, S1_LEAF | at(0x40000));
    expect(rig.translate(1, VA)).toBe(0x40000);
  });
});

describe('a changed stage 2 page', () => {
  /** Nested, VMID 1: VA to IPA 3 GiB + 5 to a page that changes. */
  function nested(): Rig {
    const rig = new Rig();
    const { root, second } = rig.nestedStream(1);
    rig.map(root, VA, S1_LEAF | at(0xc0005));
    rig.map(second, 0xc0005, S2_LEAF | at(0x40000));
    expect(rig.translate(1, VA)).toBe(0x40000);
    rig.map(second, 0xc0005, S2_LEAF | at(0x80000));
    return rig;
  }

  it('stays in nested translations after S2_IPA alone, and goes with NH_ALL', () => {
    const rig = nested();
    rig.command(CMD_TLBI_S2_IPA, { VMID: 1, Address: 0xc0005 });
    expect(stale(rig)).toBe(true);
    rig.command(CMD_TLBI_NH_ALL, { VMID: 1 });
    expect(stale(rig)).toBe(false);
  });

  it('goes with S12_VMALL of its VMID only', () => {
    const rig = nested();
    rig.command(CMD_TLBI_S12_VMALL, { VMID: 3 });
    expect(stale(rig)).toBe(true);
    rig.command(CMD_TLBI_S12_VMALL, { VMID: 1 });
    expect(stale(rig)).toBe(false);
  });

  it('of stage 2 alone goes with S2_IPA, and not with NH_ALL', () => {
    const rig = new Rig();
    const { root } = rig.stage2Stream(1);
    rig.map(root, VA, S2_LEAF | at(0x40000));
    rig.translate(1, VA);
    rig.map(root, VA, S2_LEAF | at(0x80000));
    rig.command(CMD_TLBI_NH_ALL, { VMID: 1 });
    expect(stale(rig)).toBe(true);
    rig.command(CMD_TLBI_S2_IPA, { VMID: 1, Address: VA });
    expect(stale(rig)).toBe(false);
  });

  it('under one block of stage 1 goes with a TLBI for the block', () => {
    const rig = new Rig();
    const { root, second } = rig.nestedStream(1);
    rig.map(root, VA, S1_LEAF | at(0xc0000), 2);
    rig.map(second, 0xc0145, S2_LEAF | at(0x40000));
    rig.translate(1, VA);
    rig.map(second, 0xc0145, S2_LEAF | at(0x80000));
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: 0x12200, TG: 1, TTL: 2 });
    expect(stale(rig)).toBe(false);
  });
});

describe('tags', () => {
  it('make two streams, and two substreams, with equal VMID and ASID share entries', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, {}, { S1CDMax: 2, S1DSS: 2 });
    const empty = rig.stage1Stream(2, {}, { S1CDMax: 2, S1DSS: 2 });
    rig.cd(empty.cd, { ...CD_4K, TTB0: empty.root }, 1);
    rig.map(root, VA, S1_LEAF | at(0x40000));
    expect(rig.translate(2, VA)).toBe(-1);
    rig.translate(1, VA);
    expect([rig.translate(2, VA), rig.translate(2, VA, READ, 1)]).toEqual([0x40000, 0x40000]);
  });

  it('keep VMIDs and ASIDs apart', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1);
    rig.stage1Stream(2, {}, { S2VMID: 2 });
    rig.stage1Stream(3, { ASID: 2 });
    rig.map(root, VA, S1_LEAF | at(0x40000));
    expect([1, 2, 3].map((stream) => rig.translate(stream, VA))).toEqual([0x40000, -1, -1]);
  });

  it('of global entries are the VMID and CD.ASET', () => {
    const rig = new Rig();
    const tables = [
      { ASET: 0, ASID: 1 },
      { ASET: 1, ASID: 1 },
      { ASET: 0, ASID: 9 },
    ].map((cd, n) => rig.stage1Stream(n + 1, cd).root);
    for (const [n, root] of tables.entries()) rig.map(root, VA, (S1_LEAF & ~0x800n) | at(0x40000 + n));
    expect([1, 2, 3].map((stream) => rig.translate(stream, VA))).toEqual([0x40000, 0x40001, 0x40000]);
  });

  it('have no top byte: a TLBI with one reaches the entry of an address without', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, { TBI0: 1 });
    rig.map(root, VA, S1_LEAF | at(0x40000));
    rig.translate(1, VA);
    rig.map(root, VA, S1_LEAF | at(0x40001));
    rig.command(CMD_TLBI_NH_VA, { VMID: 1, ASID: 1, Address: 0x42 * 2 ** 44 + VA });
    expect(rig.translate(1, VA)).toBe(0x40001);
  });

  it('without stage 2 have no VMID', () => {
    const rig = new Rig({ s2p: false });
    const { root } = rig.stage1Stream(1);
    rig.stage1Stream(2, {}, { S2VMID: 2 });
    rig.map(root, VA, S1_LEAF | at(0x40000));
    expect([1, 2].map((stream) => rig.translate(stream, VA))).toEqual([0x40000, 0x40000]);
  });
});

describe('changed configuration', () => {
  it.each([
    ['nothing', 0, {}, true],
    ['CFGI_STE', CMD_CFGI_STE, { StreamID: 1, Leaf: 1 }, false],
    ['CFGI_STE of another stream', CMD_CFGI_STE, { StreamID: 2 }, true],
    ['CFGI_STE_RANGE over it', CMD_CFGI_STE_RANGE, { StreamID: 2, Range: 1 }, false],
    ['CFGI_STE_RANGE beside it', CMD_CFGI_STE_RANGE, { StreamID: 2, Range: 0 }, true],
    ['CFGI_ALL', CMD_CFGI_STE_RANGE, { Range: 31 }, false],
    ['CFGI_CD', CMD_CFGI_CD, { StreamID: 1 }, true],
  ])('of an STE is seen after %s', (_name, opcode, values, isStale) => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1);
    rig.map(root, VA, S1_LEAF | at(0x40000));
    rig.translate(1, VA);
    rig.ste(1, { V: 1, Config: 4 });
    if (opcode) rig.command(opcode, values);
    expect(rig.translate(1, VA)).toBe(isStale ? 0x40000 : VA);
  });

  it.each([
    ['nothing', 0, {}, true],
    ['CFGI_CD', CMD_CFGI_CD, { StreamID: 1, SubstreamID: 0, Leaf: 1 }, false],
    ['CFGI_CD of another index', CMD_CFGI_CD, { StreamID: 1, SubstreamID: 1 }, true],
    ['CFGI_CD of another stream', CMD_CFGI_CD, { StreamID: 2 }, true],
    ['CFGI_CD_ALL', CMD_CFGI_CD_ALL, { StreamID: 1 }, false],
    ['CFGI_STE', CMD_CFGI_STE, { StreamID: 1 }, false],
  ])('of a CD is seen after %s', (_name, opcode, values, isStale) => {
    const rig = new Rig();
    const { root, cd } = rig.stage1Stream(1);
    rig.map(root, VA, S1_LEAF | at(0x40000));
    rig.translate(1, VA);
    const other = rig.alloc();
    rig.map(other, VA, S1_LEAF | at(0x80000));
    rig.cd(cd, { ...CD_4K, TTB0: other, ASID: 9 });
    if (opcode) rig.command(opcode, values);
    expect(stale(rig)).toBe(isStale);
  });

  it('that was not valid is not cached', () => {
    const rig = new Rig();
    expect(rig.translate(1, VA)).toBe(-1);
    const context = rig.alloc();
    rig.ste(1, { ...STE_S1, S1ContextPtr: context });
    expect(rig.translate(1, VA)).toBe(-1);
    const root = rig.alloc();
    rig.map(root, VA, S1_LEAF | at(0x40000));
    rig.cd(context, { ...CD_4K, TTB0: root });
    expect(rig.translate(1, VA)).toBe(0x40000);
    expect(rig.events().map((event) => event.name)).toEqual(['C_BAD_STE', 'C_BAD_CD']);
  });

  it('of more streams than the cache holds is fetched again', () => {
    const rig = new Rig({ steEntries: 2, cdEntries: 2, iotlbEntries: 2 });
    for (let stream = 0; stream < 16; stream++) {
      const { root } = rig.stage1Stream(stream, { ASID: stream });
      rig.map(root, VA, S1_LEAF | at(0x40000 + stream));
    }
    const all = Array.from({ length: 16 }, (_, stream) => stream);
    for (let round = 0; round < 2; round++) {
      expect(all.map((stream) => rig.translate(stream, VA))).toEqual(all.map((stream) => 0x40000 + stream));
    }
  });
});
