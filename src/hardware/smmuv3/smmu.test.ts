import { describe, expect, it } from 'vitest';
import { EXECUTE, PRIVILEGED, READ, WRITE } from '../iommu.ts';
import { at, CD_4K, HOLE_FRAME, Rig, S1_LEAF, S2_LEAF, STE_S1 } from './test-rig.ts';

const fault = (name: string, stream: number, more: object = {}): object =>
  expect.objectContaining({ name, stream, ...more });

describe('registers', () => {
  it('acknowledge CR0 and IRQ_CTRL, keep reserved bits zero and ignore writes of read-only ones', () => {
    const rig = new Rig();
    rig.set('CR0', 0xffffffff);
    expect([rig.get('CR0'), rig.get('CR0ACK')]).toEqual([0x1f, 0x1f]);
    rig.set('IRQ_CTRL', 0xffffffff);
    expect([rig.get('IRQ_CTRL'), rig.get('IRQ_CTRLACK')]).toEqual([7, 7]);
    const idr0 = rig.get('IDR0');
    rig.set('IDR0', 0);
    rig.set('CR0ACK', 0);
    expect([rig.get('IDR0'), rig.get('CR0ACK')]).toEqual([idr0, 0x1f]);
  });

  it('keep the high half of 64-bit addresses, up to OAS', () => {
    const rig = new Rig({ oas: 44 });
    rig.set('CR0', 0);
    rig.setWide('STRTAB_BASE', 2 ** 40 - 1, 0xfff);
    expect(rig.get('STRTAB_BASE')).toBe(0xffffffc0);
    expect(rig.smmu.readRegister(0x84, 4)).toBe(0x00000fff);
  });

  it('ignore writes while what they configure is enabled', () => {
    const rig = new Rig();
    const before = rig.get('STRTAB_BASE_CFG');
    rig.set('STRTAB_BASE_CFG', 3);
    rig.set('EVENTQ_PROD', 3);
    rig.set('CMDQ_CONS', 3);
    expect([rig.get('STRTAB_BASE_CFG'), rig.get('EVENTQ_PROD'), rig.get('CMDQ_CONS')]).toEqual([before, 0, 0]);
    rig.set('CR0', 0);
    rig.set('STRTAB_BASE_CFG', 3);
    expect(rig.get('STRTAB_BASE_CFG')).toBe(3);
  });

  it('keep the attributes of tables while the SMMU is on, and of queues while any queue is (6.3.11)', () => {
    const rig = new Rig();
    const after = (cr0: number): number => {
      rig.set('CR0', 0);
      rig.set('CR1', 0);
      rig.set('CR0', cr0);
      rig.set('CR1', 0xfff);
      return rig.get('CR1');
    };
    expect([0, 0b1, 0b10, 0b100, 0b1000, 0b1001, 0b10000].map(after)).toEqual([
      0xfff, 0x03f, 0xfc0, 0xfc0, 0xfc0, 0, 0xfff,
    ]);
  });

  it('change GBPA only with Update, which then reads zero', () => {
    const rig = new Rig();
    rig.set('GBPA', 0x00100000);
    expect(rig.get('GBPA')).toBe(0x1000);
    rig.set('GBPA', 0x80100000);
    expect(rig.get('GBPA')).toBe(0x00100000);
  });

  it('that do not exist read zero, are counted, and are noted once by name', () => {
    const rig = new Rig({}, true);
    rig.smmu.writeRegister(0x100, 4, 1);
    expect([rig.smmu.readRegister(0x100, 4), rig.smmu.readRegister(0xabc0, 4)]).toEqual([0, 0]);
    expect(rig.smmu.unknownAccesses.get(0x100)).toBe(2);
    const notes = rig.traced.filter((event) => event.type === 'note').map((event) => event.text);
    expect(notes).toEqual([expect.stringContaining('GATOS_CTRL'), expect.stringContaining('0xabc0')]);
  });

  it('come back by save and restore, and by reset', () => {
    const rig = new Rig();
    const state = rig.smmu.save();
    rig.smmu.reset();
    expect([rig.get('CR0'), rig.get('GBPA'), rig.get('STRTAB_BASE')]).toEqual([0, 0x1000, 0]);
    rig.smmu.restore(state);
    expect(rig.smmu.save()).toEqual(state);
    expect(rig.get('CR0')).toBe(0x1f);
  });
});

describe('an SMMU that is off', () => {
  it('passes addresses within OAS, or aborts all, without events', () => {
    const rig = new Rig({ oas: 44 });
    rig.set('CR0', 0b1100);
    expect(rig.translate(9, 0x12345, WRITE, 3)).toBe(0x12345);
    expect(rig.translate(9, 2 ** 32)).toBe(-1);
    rig.set('GBPA', 0x80100000);
    expect(rig.translate(9, 0x12345)).toBe(-1);
    expect(rig.events()).toEqual([]);
  });
});

describe('stream configuration', () => {
  it.each([
    ['abort', { V: 1, Config: 0 }, -1, []],
    ['reserved, as abort', { V: 1, Config: 3 }, -1, []],
    ['bypass', { V: 1, Config: 4 }, 0x777, []],
    ['not valid', { V: 0 }, -1, ['C_BAD_STE']],
    ['S1CDMax too large', { V: 1, Config: 5, S1CDMax: 21 }, -1, ['C_BAD_STE']],
    ['split-stage ATS', { V: 1, Config: 5, EATS: 2 }, -1, ['C_BAD_STE']],
  ])('%s', (_name, ste, frame, names) => {
    const rig = new Rig();
    rig.ste(7, ste);
    expect(rig.translate(7, 0x777)).toBe(frame);
    expect(rig.events().map((event) => event.name)).toEqual(names);
  });

  it('refuses a StreamID out of range, and records it only with RECINVSID', () => {
    const rig = new Rig();
    rig.translate(256, 1);
    expect(rig.events()).toEqual([fault('C_BAD_STREAMID', 256)]);
    rig.set('CR0', 0);
    rig.set('CR2', 0);
    rig.set('CR0', 0b1101);
    rig.translate(256, 1);
    expect(rig.events()).toEqual([]);
  });

  it('records where an STE or CD could not be fetched', () => {
    const rig = new Rig();
    rig.ste(1, { ...STE_S1, S1ContextPtr: HOLE_FRAME });
    rig.translate(1, 0);
    rig.set('CR0', 0);
    rig.setWide('STRTAB_BASE', HOLE_FRAME, 0);
    rig.set('CR0', 0b1101);
    rig.translate(2, 0);
    expect(rig.events()).toEqual([
      fault('F_CD_FETCH', 1, { FetchAddr: BigInt(HOLE_FRAME) << 12n }),
      fault('F_STE_FETCH', 2, { FetchAddr: (BigInt(HOLE_FRAME) << 12n) + 128n }),
    ]);
  });

  it('walks a two-level stream table, and refuses StreamIDs beyond the span', () => {
    const rig = new Rig();
    const [l1, l2] = [rig.alloc(), rig.alloc()];
    rig.set('CR0', 0);
    rig.setWide('STRTAB_BASE', l1, 0);
    rig.set('STRTAB_BASE_CFG', (1 << 16) | (8 << 6) | 16);
    rig.set('CR0', 0b1101);
    rig.write64(l1, 5 * 8, at(l2) | 3n);
    rig.write(
      l2,
      64 * 3,
      16,
      { Low: { word: 0, shift: 0, width: 32, mask: 0xffffffff, highMask: 0 } },
      { Low: 0b1001 },
    );
    expect(rig.translate(0x503, 0x42)).toBe(0x42);
    expect(rig.translate(0x504, 0x42)).toBe(-1);
    expect(rig.translate(0x603, 0x42)).toBe(-1);
    expect(rig.events().map((event) => event.name)).toEqual(['C_BAD_STREAMID', 'C_BAD_STREAMID']);
  });
});

describe('substreams', () => {
  it.each([
    [0, 'linear'],
    [1, 'two levels, 4 KiB'],
    [2, 'two levels, 64 KiB'],
  ])('S1Fmt %i (%s) leads to the CD of the SubstreamID', (S1Fmt) => {
    const rig = new Rig();
    const tables = rig.alloc(16);
    const root = rig.alloc();
    rig.map(root, 5, S1_LEAF | at(0x9999));
    const split = [0, 6, 10][S1Fmt]!;
    const index = 0x4ab;
    const l1 = rig.alloc(32);
    if (S1Fmt > 0) rig.write64(l1, (index >> split) * 8, at(tables) | 1n);
    rig.cd(S1Fmt > 0 ? tables : l1, { ...CD_4K, TTB0: root }, S1Fmt > 0 ? index % 2 ** split : index);
    rig.ste(3, { ...STE_S1, S1Fmt, S1ContextPtr: l1, S1CDMax: 11 });
    expect(rig.translate(3, 5, READ, index)).toBe(0x9999);
    expect(rig.translate(3, 5, READ, 0x800)).toBe(-1);
    const [event] = rig.events();
    expect(event).toEqual(fault('C_BAD_SUBSTREAMID', 3, { SubstreamID: 0x800 }));
    // 7.3.9: no SSV in this record.
    expect(event).not.toHaveProperty('SSV');
  });

  it('whose level 1 descriptor is not valid are bad, whatever it points to', () => {
    const rig = new Rig();
    const [l1, l2, root] = [rig.alloc(), rig.alloc(16), rig.alloc()];
    rig.cd(l2, { ...CD_4K, TTB0: root }, 3);
    rig.write64(l1, 0, at(l2));
    rig.ste(1, { ...STE_S1, S1ContextPtr: l1, S1CDMax: 12, S1Fmt: 1, S1DSS: 0 });
    expect([rig.translate(1, 5, READ, 3), rig.translate(1, 5)]).toEqual([-1, -1]);
    const [bad, disabled] = rig.events();
    expect(bad).toEqual(fault('C_BAD_SUBSTREAMID', 1, { SubstreamID: 3 }));
    expect(disabled).toMatchObject({ name: 'F_STREAM_DISABLED' });
  });

  it.each([
    [0, -1, ['F_STREAM_DISABLED'], 0x1111, []],
    [1, 5, [], 0x1111, []],
    [2, 0x1111, [], -1, ['F_STREAM_DISABLED']],
    [3, -1, ['F_STREAM_DISABLED'], 0x1111, []],
  ])('S1DSS %i decides for transactions without one, and about SubstreamID 0', (S1DSS, plain, e1, zero, e2) => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(3, {}, { S1CDMax: 1, S1DSS });
    rig.map(root, 5, S1_LEAF | at(0x1111));
    expect(rig.translate(3, 5)).toBe(plain);
    expect(rig.events().map((event) => event.name)).toEqual(e1);
    expect(rig.translate(3, 5, READ, 0)).toBe(zero);
    expect(rig.events().map((event) => event.name)).toEqual(e2);
  });

  it('are refused where stage 1 does not translate', () => {
    const rig = new Rig();
    rig.ste(1, { V: 1, Config: 4 });
    rig.stage1Stream(2);
    expect([rig.translate(1, 5, READ, 0), rig.translate(2, 5, READ, 1)]).toEqual([-1, -1]);
    expect(rig.events()).toEqual([fault('C_BAD_SUBSTREAMID', 1), fault('C_BAD_SUBSTREAMID', 2, { SubstreamID: 1 })]);
  });
});

describe('fault records', () => {
  it('have every field of a stage 1 fault, substream and attributes included', () => {
    const rig = new Rig();
    rig.stage1Stream(3, { EPD0: 0 }, { S1CDMax: 1, S1DSS: 1 });
    rig.smmu.translate(3, 0, 0xfffff, 0xabc, READ | EXECUTE | PRIVILEGED);
    expect(rig.events()).toEqual([
      {
        name: 'F_TRANSLATION',
        stream: 3,
        SSV: 1,
        SubstreamID: 0,
        STAG: 0,
        Stall: 0,
        PnU: 1,
        InD: 1,
        RnW: 1,
        NSIPA: 0,
        S2: 0,
        CLASS: 2,
        InputAddr: 0xfffffabcn,
        IPA: 0n,
      },
    ]);
  });

  it('of a write are never of an instruction', () => {
    const rig = new Rig();
    rig.stage1Stream(3);
    rig.translate(3, 1, WRITE | EXECUTE);
    expect(rig.events()).toEqual([fault('F_TRANSLATION', 3, { RnW: 0, InD: 0 })]);
  });

  it('are suppressed by CD.R = 0 and S2R = 0, for translation-related faults only', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, { R: 0 });
    rig.stage2Stream(2, { S2R: 0 });
    expect([rig.translate(1, 1), rig.translate(2, 1)]).toEqual([-1, -1]);
    expect(rig.events()).toEqual([]);
    rig.write64(root, 0, at(HOLE_FRAME) | 3n);
    expect(rig.translate(1, 1)).toBe(-1);
    expect(rig.events()).toEqual([fault('F_WALK_EABT', 1, { S2: 0, CLASS: 1, FetchAddr: BigInt(HOLE_FRAME) << 12n })]);
  });

  it('tell which access of a nested walk stage 2 refused: CD, table, or the data', () => {
    const rig = new Rig();
    const GIB = 2 ** 18;
    rig.nestedStream(1, {}, { S1ContextPtr: 7 * GIB });
    rig.nestedStream(2, { TTB0: 5 * GIB });
    const data = rig.nestedStream(3);
    rig.map(data.root, 1, S1_LEAF | at(3 * GIB + 8));
    rig.map(data.second, 3 * GIB + 9, (S2_LEAF & ~0x80n) | at(0x1ff0));
    rig.map(data.root, 2, S1_LEAF | at(3 * GIB + 9));
    expect([1, 2, 3].map((stream) => rig.translate(stream, 1))).toEqual([-1, -1, -1]);
    expect([rig.translate(3, 2), rig.translate(3, 2, WRITE)]).toEqual([0x1ff0, -1]);
    expect(rig.events()).toEqual([
      fault('F_TRANSLATION', 1, { S2: 1, CLASS: 0, IPA: BigInt(7 * GIB) << 12n, InputAddr: 0x1123n }),
      fault('F_TRANSLATION', 2, { S2: 1, CLASS: 1, IPA: BigInt(5 * GIB) << 12n }),
      fault('F_TRANSLATION', 3, { S2: 1, CLASS: 2, IPA: BigInt(3 * GIB + 8) << 12n }),
      fault('F_PERMISSION', 3, { S2: 1, CLASS: 2, RnW: 0, IPA: BigInt(3 * GIB + 9) << 12n, TTRnW: 0 }),
    ]);
  });

  it('say that reading a table was what stage 2 did not permit', () => {
    const rig = new Rig();
    const GIB = 2 ** 18;
    const { second } = rig.nestedStream(2, { TTB0: 5 * GIB });
    rig.map(second, 5 * GIB, (S2_LEAF & ~0x40n) | at(5 * GIB), 1);
    expect(rig.translate(2, 1, WRITE)).toBe(-1);
    expect(rig.events()).toEqual([fault('F_PERMISSION', 2, { S2: 1, CLASS: 1, RnW: 0, TTRnW: 1 })]);
  });
});

describe('permissions', () => {
  it('follow privilege, direction and execution, and the overrides of the STE', () => {
    const rig = new Rig();
    const privilegedOnly = 0xc00n | (1n << 54n) | (1n << 53n);
    const { root } = rig.stage1Stream(1);
    rig.map(root, 1, privilegedOnly | at(0x2222));
    const ask = (access: number): boolean => rig.translate(1, 1, access) >= 0;
    expect([READ, READ | PRIVILEGED, WRITE | PRIVILEGED, READ | EXECUTE | PRIVILEGED].map(ask)).toEqual([
      false,
      true,
      true,
      false,
    ]);
    rig.stage1Stream(1, { TTB0: root }, { PRIVCFG: 3, INSTCFG: 2 });
    rig.command(3, { StreamID: 1 });
    expect([READ, READ | EXECUTE].map(ask)).toEqual([true, true]);
  });

  it('of the privileged end with PAN where the unprivileged have some', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, { PAN: 1 });
    rig.map(root, 5, S1_LEAF | at(0x9000));
    const ask = (access: number): boolean => rig.translate(1, 5, access) >= 0;
    expect([READ, WRITE, READ | PRIVILEGED, WRITE | PRIVILEGED].map(ask)).toEqual([true, true, false, false]);
  });

  it.each([
    [0, true],
    [1, false],
  ])('to execute what may be written go with WXN = %i', (WXN, executes) => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, { WXN });
    // AP = 00: writable for the privileged alone, who may execute it otherwise.
    rig.map(root, 5, 0xc00n | at(0x9000));
    expect(rig.translate(1, 5, READ | EXECUTE | PRIVILEGED) >= 0).toBe(executes);
    expect(rig.events().map(({ name, InD }) => [name, InD])).toEqual(executes ? [] : [['F_PERMISSION', 1]]);
  });

  it.each([
    [0n, true, true],
    [1n, true, false],
    [2n, false, false],
    [3n, false, true],
  ])('to execute follow XN[1:0] = %i of stage 2: unprivileged %s, privileged %s', (xn, user, privileged) => {
    const rig = new Rig();
    const { root } = rig.stage2Stream(1);
    rig.map(root, 5, S2_LEAF | at(0x9000) | (xn << 53n));
    const ask = (access: number): boolean => rig.translate(1, 5, access) >= 0;
    expect([READ | EXECUTE, READ | EXECUTE | PRIVILEGED].map(ask)).toEqual([user, privileged]);
  });

  it('that stage 2 withholds are its fault, with the IPA', () => {
    const rig = new Rig();
    const { root, second } = rig.nestedStream(1);
    rig.map(root, 5, S1_LEAF | at(0x40009));
    rig.map(second, 0x40009, (S2_LEAF & ~0x80n) | at(0x9000));
    expect([rig.translate(1, 5, READ), rig.translate(1, 5, WRITE)]).toEqual([0x9000, -1]);
    const place = { S2: 1, CLASS: 2, RnW: 0, IPA: 0x40009000n, InputAddr: 0x5123n };
    expect(rig.events()).toMatchObject([{ name: 'F_PERMISSION', ...place }]);
  });

  it('let top byte ignored addresses share one translation, per half', () => {
    const rig = new Rig();
    const upper = rig.alloc();
    const { root } = rig.stage1Stream(1, { TBI0: 1, EPD1: 0, T1SZ: 16, TG1: 2, TTB1: upper });
    rig.map(root, 0x55, S1_LEAF | at(0x3333));
    rig.map(upper, 2 ** 36 - 1, S1_LEAF | at(0x4444));
    const top = 0x5a * 2 ** 44;
    expect([rig.translate(1, 0x55), rig.translate(1, top + 0x55)]).toEqual([0x3333, 0x3333]);
    const last = 2 ** 52 - 1;
    expect([rig.translate(1, last), rig.translate(1, last - top)]).toEqual([0x4444, -1]);
    expect(rig.events()).toEqual([fault('F_TRANSLATION', 1, { InputAddr: 0xa5fffffffffff123n })]);
  });
});
