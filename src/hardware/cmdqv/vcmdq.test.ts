/** A queue: where its commands are, how it goes on and how it stops, and who is told. */
import { describe, expect, it } from 'vitest';
import type { CommandEvent } from '../../trace/events.ts';
import { CMD_CFGI_STE, CMD_SYNC, CMD_TLBI_NH_ASID, CMD_TLBI_NH_VA } from '../smmuv3/spec/commands.ts';
import { at, HOLE_FRAME, S1_LEAF } from '../smmuv3/test-rig.ts';
import {
  CmdqvRig,
  CONS,
  ENABLE,
  GERROR,
  GERRORN,
  PROD,
  page0,
  page1,
  QUEUE_LOG2,
  vintf,
  vintfPage0,
} from './test-rig.ts';

const ERR_MAP = 0x14;
const INT_MASK = 0x1c;
const CMDQ_ERR_MAP = 0x24;
const LVCMDQ_ERR_MAP = 0xc0;

describe('the ring of a VCMDQ', () => {
  it('is consumed on PROD, and wraps', () => {
    const queue = new CmdqvRig().guest(1, 7);
    for (let n = 0; n < 21; n++) queue.give(CMD_SYNC);
    expect([queue.get(CONS), queue.get(GERROR)]).toEqual([21 % 16, 0]);
  });

  it('has at most as many entries as IDR1.CMDQS says', () => {
    const rig = new CmdqvRig(false, 2);
    const queue = rig.guest(1, 7);
    expect(rig.read(page1(2)) & 31).toBe(QUEUE_LOG2);
    for (let n = 0; n < 4; n++) rig.memory.store32(queue.frame, n * 16, CMD_SYNC);
    queue.set(PROD, 5);
    // Entry 4 of 4 is entry 0 again.
    expect([queue.get(CONS), queue.get(GERROR)]).toEqual([5, 0]);
  });

  it('is aligned to its size', () => {
    const rig = new CmdqvRig();
    rig.openVintf(1, 7);
    const frame = rig.openQueue(1, 0, 2);
    rig.poke(page1(2), frame * 4096 + 0x60 + QUEUE_LOG2);
    rig.memory.store32(frame, 0, CMD_SYNC);
    rig.poke(page0(2) + ENABLE, 1);
    rig.poke(page0(2) + PROD, 1);
    expect([rig.read(page0(2) + CONS), rig.read(page0(2) + GERROR)]).toEqual([1, 0]);
  });

  it('is contiguous in physical memory: behind its first page comes whatever lies there', () => {
    const rig = new CmdqvRig();
    rig.openVintf(1, 7);
    const frame = rig.openQueue(1, 0, 2, rig.alloc(2), 9);
    for (let n = 0; n < 256; n++) rig.memory.store32(frame, n * 16, CMD_SYNC);
    rig.poke(page0(2) + ENABLE, 1);
    rig.poke(page0(2) + PROD, 257);
    expect(rig.read(page0(2) + CONS)).toBe(0x04000100);
    rig.memory.store32(frame + 1, 0, CMD_SYNC);
    rig.poke(page0(2) + GERRORN, 1);
    expect(rig.read(page0(2) + CONS) & 0xfffff).toBe(257);
  });
});

describe('a VCMDQ with many commands', () => {
  const ENTRIES_LOG2 = 12;

  /** A guest's queue of 4096 CMD_SYNCs that has been rung for all of them, and another guest's. */
  function rung() {
    const rig = new CmdqvRig();
    rig.openVintf(1, 7);
    const frame = rig.openQueue(1, 0, 2, rig.alloc(2 ** (ENTRIES_LOG2 - 8)), ENTRIES_LOG2);
    for (let n = 0; n < 2 ** ENTRIES_LOG2; n++) rig.memory.store32(frame + (n >> 8), 16 * (n & 255), CMD_SYNC);
    rig.poke(page0(2) + ENABLE, 1);
    const other = rig.guest(2, 8);
    rig.poke(page0(2) + PROD, 2 ** ENTRIES_LOG2);
    return { rig, other, cons: () => rig.read(page0(2) + CONS) };
  }

  it('consumes as many as a host gives at once within the write, and the others on the clock, by turns with what else is there', () => {
    const { rig, other, cons } = rung();
    const atOnce = cons();
    expect(atOnce).toBeGreaterThanOrEqual(256);
    expect(atOnce).toBeLessThan(1024);
    let turns = 0;
    rig.clock.defer(() => turns++);
    expect([rig.clock.settle(2), turns, cons()]).toEqual([false, 1, 2 * atOnce]);
    expect([other.give(CMD_SYNC), other.get(CONS)]).toEqual([0, 1]);
    expect([rig.clock.settle(), cons()]).toEqual([true, 2 ** ENTRIES_LOG2]);
  });

  it('stands still when it, its VINTF or the CMDQV goes off between two turns, and then goes on or begins anew', () => {
    const { rig, cons } = rung();
    const before = cons();
    rig.poke(page0(2) + ENABLE, 0);
    expect([rig.clock.settle(), cons()]).toEqual([true, before]);
    rig.poke(page0(2) + ENABLE, 1);
    rig.poke(vintf(1), 7 << 1);
    const after = cons();
    expect([rig.clock.settle(), cons()]).toEqual([true, after]);
    rig.poke(vintf(1), (7 << 1) | 1);
    rig.poke(0, 0);
    expect([rig.clock.settle(), cons()]).toEqual([true, 0]);
  });
});

describe('an error in a VCMDQ', () => {
  it('stops the queue until it is acknowledged, and the mended command is carried out', () => {
    const rig = new CmdqvRig();
    const queue = rig.guest(1, 7);
    expect(queue.give(CMD_CFGI_STE)).toBe(4);
    queue.give(CMD_SYNC);
    expect([queue.get(CONS), queue.get(GERROR)]).toEqual([0x04000000, 1]);
    rig.memory.store32(queue.frame, 0, CMD_SYNC);
    queue.set(GERRORN, 1);
    expect([queue.get(CONS) & 0xfffff, queue.get(GERROR)]).toEqual([2, 1]);
    expect(queue.give(CMD_CFGI_STE)).toBe(4);
    expect([queue.get(GERROR), queue.get(GERRORN)]).toEqual([0, 1]);
  });

  it('is CERROR_ABT when the fetch aborts, CERROR_ILL when a parameter is wrong', () => {
    const rig = new CmdqvRig();
    rig.openVintf(1, 7);
    rig.openQueue(1, 0, 2, HOLE_FRAME);
    rig.poke(page0(2) + ENABLE, 1);
    rig.poke(page0(2) + PROD, 1);
    expect(rig.read(page0(2) + CONS)).toBe(0x02000000);
    expect(rig.guest(2, 7).give(CMD_TLBI_NH_VA, { TG: 1 })).toBe(1);
  });

  it('leaves the other queues alone', () => {
    const rig = new CmdqvRig();
    const [one, other] = [rig.guest(1, 7), rig.guest(2, 8)];
    expect([one.give(CMD_CFGI_STE), other.give(CMD_SYNC), other.get(CONS)]).toEqual([4, 0, 1]);
  });

  it('shows in the maps and in the status of its VINTF for as long as it is active', () => {
    const rig = new CmdqvRig();
    rig.openVintf(40, 7);
    rig.openQueue(40, 0, 80);
    rig.openQueue(40, 1, 81);
    const maps = (): number[] =>
      [ERR_MAP, ERR_MAP + 4, CMDQ_ERR_MAP + 4, CMDQ_ERR_MAP + 8, vintf(40) + LVCMDQ_ERR_MAP, vintf(40) + 4].map(
        (offset) => rig.read(offset),
      );
    rig.poke(page0(81) + ENABLE, 1);
    expect(maps()).toEqual([0, 0, 0, 0, 0, 0x20001]);
    rig.poke(page0(81) + PROD, 1);
    expect(maps()).toEqual([0, 1 << 8, 0, 1 << 17, 2, 0x20003]);
    rig.poke(vintfPage0(40, 1) + ENABLE, 0);
    rig.poke(vintfPage0(40, 1) + GERRORN, 1);
    expect(maps()).toEqual([0, 0, 0, 0, 0, 0x20001]);
  });

  it('interrupts on the clock, each time', () => {
    const rig = new CmdqvRig();
    const queue = rig.guest(1, 7);
    queue.give(CMD_CFGI_STE);
    expect(rig.interrupts).toEqual([]);
    rig.clock.settle();
    queue.set(GERRORN, 1);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['cmdqv', 'cmdqv']);
  });

  it('does not interrupt while its VINTF is masked, but as soon as it is not', () => {
    const rig = new CmdqvRig();
    rig.poke(INT_MASK + 4, 1 << 8);
    rig.guest(40, 7).give(CMD_CFGI_STE);
    rig.poke(INT_MASK, 0xffffffff);
    rig.poke(INT_MASK, 0);
    rig.clock.settle();
    expect(rig.interrupts).toEqual([]);
    rig.poke(INT_MASK + 4, 0);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['cmdqv']);
  });
});

it('what a command sets off may write to registers: commands are carried out one after the other', () => {
  const rig = new CmdqvRig(true);
  const [first, second] = [rig.guest(1, 7), rig.guest(2, 8)];
  rig.match(1, 0, 5, 6);
  rig.memory.store32(second.frame, 0, CMD_SYNC);
  rig.smmu.attachAtc(6, { invalidateAtc: () => second.set(PROD, 1), pageResponse: () => {} });
  expect(first.give(0x40, { StreamID: 5, Size: 52 })).toBe(0);
  expect(second.get(CONS)).toBe(1);
  const commands = rig.traced.filter((event): event is CommandEvent => event.type === 'command');
  expect(commands.map(({ queue, words }) => [queue, words[0]! & 0xff])).toEqual([
    ['VINTF1/LVCMDQ0', 0x40],
    ['VINTF2/LVCMDQ0', 0x46],
  ]);
});

it('each command is traced as the SMMU carried it out, with its queue and why it was refused', () => {
  const rig = new CmdqvRig(true);
  const queue = rig.guest(3, 7);
  queue.give(CMD_TLBI_NH_ASID, { VMID: 99, ASID: 5 });
  queue.give(CMD_CFGI_STE, { StreamID: 4 });
  const commands = rig.traced.filter((event): event is CommandEvent => event.type === 'command');
  expect(commands.map(({ iommu, queue, words, error }) => [iommu, queue, words[0], words[1], error])).toEqual([
    ['smmu0', 'VINTF3/LVCMDQ0', 0x11, 0x50007, ''],
    ['smmu0', 'VINTF3/LVCMDQ0', 0x03, 4, 'CERROR_ILL_ACCESS'],
  ]);
});

it('a TLBI of a VCMDQ is that of the SMMU: the next transaction walks again', () => {
  const rig = new CmdqvRig();
  const { root } = rig.stage1Stream(1, { ASID: 5 }, { S2VMID: 7 });
  const leaf = rig.map(root, 0x80, S1_LEAF | at(0x90));
  expect(rig.translate(1, 0x80)).toBe(0x90);
  rig.write64(leaf.frame, leaf.offset, S1_LEAF | at(0x91) | 3n);
  expect(rig.translate(1, 0x80)).toBe(0x90);
  expect(rig.guest(1, 7).give(CMD_TLBI_NH_VA, { ASID: 5, Address: 0x80 })).toBe(0);
  expect(rig.translate(1, 0x80)).toBe(0x91);
});
