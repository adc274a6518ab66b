/** The register block: what is where, whose a queue is, and when it runs. */
import { describe, expect, it } from 'vitest';
import type { NoteEvent } from '../../trace/events.ts';
import { CMD_SYNC } from '../smmuv3/spec/commands.ts';
import {
  ALLOC_MAP,
  CmdqvRig,
  CONFIG,
  CONS,
  ENABLE,
  GERRORN,
  HYP_OWN,
  PROD,
  page0,
  page1,
  STATUS,
  vintf,
  vintfPage0,
  vintfPage1,
} from './test-rig.ts';

const notes = (rig: CmdqvRig): string[] =>
  rig.traced.filter((event): event is NoteEvent => event.type === 'note').map(({ text }) => text);

describe('the CONFIG page', () => {
  it('says after power-on what there is, and that it is enabled', () => {
    const rig = new CmdqvRig();
    expect([rig.read(CONFIG), rig.read(0x4), rig.read(0x8)]).toEqual([0x20083, 0x4671, 1]);
  });

  it('keeps the bits that exist, and nothing in read-only registers', () => {
    const rig = new CmdqvRig();
    for (const offset of [CONFIG, 0x4, 0x8, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30]) rig.poke(offset, 0xffffffff);
    expect([CONFIG, 0x4, 0x8, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].map((offset) => rig.read(offset))).toEqual([
      0xfffff, 0x4671, 1, 0, 0, 0xffffffff, 0xffffffff, 0, 0,
    ]);
    for (const offset of [0x0, 0x4, 0x40, 0x7c, 0x80, 0xbc, 0xc0, 0xcc]) rig.poke(vintf(63) + offset, 0xffffffff);
    expect([0x0, 0x4, 0x40, 0x7c, 0x80, 0xbc, 0xc0, 0xcc].map((offset) => rig.read(vintf(63) + offset))).toEqual([
      0x3ffff, 1, 0x1fffff, 0x1fffff, 0xfffff, 0xfffff, 0, 0,
    ]);
  });

  it('reads as zero where there is nothing, and says so once', () => {
    const rig = new CmdqvRig(true);
    rig.poke(0x0c, 1);
    expect([rig.read(0x0c), rig.read(0x34), rig.read(vintf(0) + 0x8), rig.read(vintf(64))]).toEqual([0, 0, 0, 0]);
    expect(rig.cmdqv.readRegister(0, 2)).toBe(0);
    expect(notes(rig).map((text) => text.match(/0x\w+ \(.*\)/)![0])).toEqual([
      '0xc (GLB_FILT_CFG)',
      '0x34 (no register)',
      '0x1008 (no register)',
      '0x5000 (no register)',
      '0x0 (no register)',
    ]);
    expect(rig.cmdqv.unknownAccesses.get(0x0c)).toBe(2);
  });

  it('has as many of everything as the settings say', () => {
    const rig = new CmdqvRig();
    rig.poke(ALLOC_MAP + 4 * 127, 0x8000);
    rig.poke(ALLOC_MAP + 4 * 128, 0x8000);
    expect([rig.read(ALLOC_MAP + 4 * 127), rig.read(ALLOC_MAP + 4 * 128)]).toEqual([0x8000, 0]);
  });
});

describe('the registers of a queue', () => {
  it('keep the bits that exist', () => {
    const rig = new CmdqvRig();
    const offsets = [
      page1(5),
      page1(5) + 4,
      page1(5) + 8,
      page1(5) + 12,
      ...[0, 4, 0xc, 0x10, 0x14, 8].map((r) => page0(5) + r),
    ];
    for (const offset of offsets) rig.poke(offset, 0xffffffff);
    expect(offsets.map((offset) => rig.read(offset))).toEqual([
      0xffffffff, 0xffff, 0xffffffff, 0xffff, 0x7f0fffff, 0xfffff, 0, 0, 7, 1,
    ]);
  });

  it('are the same ones in the global pages and in those of its VINTF', () => {
    const rig = new CmdqvRig();
    rig.openQueue(3, 0, 9);
    rig.poke(vintfPage0(3) + PROD, 5);
    rig.poke(vintfPage1(3), 0x12345007);
    expect([rig.read(page0(9) + PROD), rig.read(page1(9))]).toEqual([5, 0x12345007]);
    rig.poke(page0(9) + CONS, 2);
    rig.poke(page1(9) + 4, 1);
    expect([rig.read(vintfPage0(3) + CONS), rig.read(vintfPage1(3) + 4)]).toEqual([2, 1]);
  });

  it('are not in the pages of a VINTF that has no such queue: writes are dropped', () => {
    const rig = new CmdqvRig();
    rig.openQueue(3, 0, 9);
    for (const at of [vintfPage0(3, 1), vintfPage0(2), vintfPage0(3, 500), vintfPage1(3, 1)]) {
      rig.poke(at + PROD, 5);
      expect(rig.read(at + PROD)).toBe(0);
    }
    expect(rig.cmdqv.unknownAccesses.size).toBe(0);
  });

  it('do not let the queue be moved while it is switched on', () => {
    const rig = new CmdqvRig();
    rig.poke(page0(9) + ENABLE, 1);
    rig.poke(page1(9), 0x1000);
    rig.poke(page1(9) + 8, 0x1000);
    rig.poke(page0(9) + CONS, 3);
    expect([rig.read(page1(9)), rig.read(page1(9) + 8), rig.read(page0(9) + CONS)]).toEqual([0, 0, 0]);
    rig.poke(page0(9) + ENABLE, 0);
    rig.poke(page0(9) + CONS, 3);
    expect(rig.read(page0(9) + CONS)).toBe(3);
  });

  it('count as one when something that is not there is touched in many', () => {
    const rig = new CmdqvRig();
    for (let l = 0; l < 8; l++) rig.read(vintfPage0(1, l) + 0x18);
    expect(rig.cmdqv.unknownAccesses).toEqual(new Map([[0x50018, 8]]));
  });
});

describe('CMDQ_ALLOC_MAP', () => {
  it('gives queues in ascending order of their logical index, and takes them in descending order', () => {
    const rig = new CmdqvRig(true);
    const map = (q: number): number => rig.read(ALLOC_MAP + 4 * q);
    const given = (v: number): number => rig.read(vintf(v) + 4) >>> 16;
    rig.poke(ALLOC_MAP + 4 * 4, 0x10003);
    expect([map(4), given(2)]).toEqual([0x10002, 0]);
    rig.poke(ALLOC_MAP + 4 * 3, 0x10001);
    rig.poke(ALLOC_MAP + 4 * 4, 0x10003);
    expect([map(3), map(4), given(2)]).toEqual([0x10001, 0x10003, 2]);
    rig.poke(ALLOC_MAP + 4 * 3, 0x10000);
    expect([map(3), given(2)]).toEqual([0x10001, 2]);
    rig.poke(ALLOC_MAP + 4 * 4, 0x10002);
    rig.poke(ALLOC_MAP + 4 * 3, 0x10000);
    expect([map(3), map(4), given(2)]).toEqual([0x10000, 0x10002, 0]);
    expect(notes(rig)).toHaveLength(2);
  });

  it('does not give away a queue that somebody has', () => {
    const rig = new CmdqvRig();
    rig.poke(ALLOC_MAP, 0x8001);
    rig.poke(ALLOC_MAP, 0x10001);
    expect([rig.read(ALLOC_MAP), rig.read(vintf(1) + 4) >>> 16, rig.read(vintf(2) + 4) >>> 16]).toEqual([0x8001, 1, 0]);
  });

  it('gives nothing to a VINTF that does not exist', () => {
    const rig = new CmdqvRig(false, 19, { log2Vintfs: 1 });
    rig.poke(ALLOC_MAP, 0x10001);
    expect(rig.read(ALLOC_MAP)).toBe(0x10000);
  });
});

describe('a queue runs', () => {
  const SWITCHES: Array<[string, (rig: CmdqvRig, on: boolean) => void]> = [
    ['the CMDQV is', (rig, on) => rig.poke(CONFIG, Number(on))],
    ['its VINTF is', (rig, on) => rig.poke(vintf(1), Number(on))],
    ['it is itself', (rig, on) => rig.poke(page0(2) + ENABLE, Number(on))],
    ['it belongs to a VINTF and that is', (rig, on) => rig.poke(ALLOC_MAP + 8, 0x8000 | Number(on))],
  ];

  it.each(SWITCHES)('only when %s enabled', (_name, set) => {
    const rig = new CmdqvRig();
    // Disabling the CMDQV forgets what was set up before.
    set(rig, false);
    rig.openVintf(1, 0);
    rig.memory.store32(rig.openQueue(1, 0, 2), 0, CMD_SYNC);
    rig.poke(page0(2) + ENABLE, 1);
    set(rig, false);
    rig.poke(page0(2) + PROD, 1);
    expect([rig.read(page0(2) + CONS), rig.read(page0(2) + STATUS)]).toEqual([0, 0]);
    set(rig, true);
    expect([rig.read(page0(2) + CONS), rig.read(page0(2) + STATUS)]).toEqual([1, 1]);
    set(rig, false);
    expect(rig.read(page0(2) + STATUS)).toBe(0);
  });

  it('says of a VINTF that it is enabled', () => {
    const rig = new CmdqvRig();
    rig.openVintf(1, 7);
    expect(rig.read(vintf(1) + 4) & 1).toBe(1);
    rig.poke(vintf(1), 0);
    expect(rig.read(vintf(1) + 4) & 1).toBe(0);
  });

  it('under a VMID and an owner that stay while the VINTF is enabled', () => {
    const rig = new CmdqvRig();
    rig.openVintf(1, 7);
    rig.poke(vintf(1), HYP_OWN | (9 << 1) | 1);
    expect(rig.read(vintf(1))).toBe((7 << 1) | 1);
    rig.poke(vintf(1), HYP_OWN | (9 << 1));
    expect(rig.read(vintf(1))).toBe(7 << 1);
    rig.poke(vintf(1), HYP_OWN | (9 << 1) | 1);
    expect(rig.read(vintf(1))).toBe(HYP_OWN | (9 << 1) | 1);
  });
});

it('disabling the CMDQV takes its queues away and resets them', () => {
  const rig = new CmdqvRig();
  const queue = rig.guest(1, 7);
  rig.match(1, 0, 5, 6);
  queue.give(CMD_SYNC);
  queue.set(GERRORN, 1);
  rig.poke(CONFIG, 0);
  rig.poke(CONFIG, 1);
  const left = [ALLOC_MAP + 8, vintf(1), vintf(1) + 4, vintf(1) + 0x40, page0(2) + CONS, page0(2) + GERRORN, page1(2)];
  expect(left.map((offset) => rig.read(offset))).toEqual([0, 0, 0, 0, 0, 0, 0]);
  expect(rig.guest(1, 7).give(CMD_SYNC)).toBe(0);
});

it('a reset leaves what was there after power-on', () => {
  const rig = new CmdqvRig();
  rig.guest(1, 7);
  rig.poke(0x1c, 3);
  rig.poke(CONFIG, 0xfff01);
  rig.cmdqv.reset();
  expect([CONFIG, 0x1c, vintf(1), ALLOC_MAP + 8].map((offset) => rig.read(offset))).toEqual([0x20083, 0, 0, 0]);
});
