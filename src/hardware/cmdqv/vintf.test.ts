/** What a VINTF lets its owner say. */
import { describe, expect, it } from 'vitest';
import {
  CMD_ATC_INV,
  CMD_CFGI_CD,
  CMD_CFGI_STE,
  CMD_CFGI_STE_RANGE,
  CMD_PREFETCH_CONFIG,
  CMD_PRI_RESP,
  CMD_RESUME,
  CMD_STALL_TERM,
  CMD_SYNC,
  CMD_TLBI_NH_ALL,
  CMD_TLBI_NH_ASID,
  CMD_TLBI_NH_VA,
  CMD_TLBI_NH_VAA,
  CMD_TLBI_NSNH_ALL,
  CMD_TLBI_S2_IPA,
  CMD_TLBI_S12_VMALL,
} from '../smmuv3/spec/commands.ts';
import { at, S1_LEAF } from '../smmuv3/test-rig.ts';
import { CmdqvRig, vintf } from './test-rig.ts';

const ILL = 1;
const ILL_ACCESS = 4;

/** Streams 1 and 2 under VMID 7 and 8, both with ASID 5, whose translation of frame 0x80 is cached and has become stale. */
function twoGuests(): CmdqvRig {
  const rig = new CmdqvRig();
  for (const [stream, vmid] of [
    [1, 7],
    [2, 8],
  ] as const) {
    const { root } = rig.stage1Stream(stream, { ASID: 5 }, { S2VMID: vmid });
    const leaf = rig.map(root, 0x80, S1_LEAF | at(0x90));
    rig.translate(stream, 0x80);
    rig.write64(leaf.frame, leaf.offset, S1_LEAF | at(0x91) | 3n);
  }
  return rig;
}

describe('a VINTF of a guest', () => {
  it.each([
    CMD_PREFETCH_CONFIG,
    CMD_CFGI_STE,
    CMD_CFGI_STE_RANGE,
    CMD_CFGI_CD,
    CMD_TLBI_NH_ALL,
    CMD_TLBI_NH_VAA,
    CMD_TLBI_S2_IPA,
    CMD_TLBI_S12_VMALL,
    CMD_TLBI_NSNH_ALL,
    CMD_PRI_RESP,
    CMD_RESUME,
    CMD_STALL_TERM,
    0x00,
    0x7f,
    0xff,
  ])('refuses command 0x%i as an illegal access', (opcode) => {
    const rig = twoGuests();
    expect(rig.guest(1, 7).give(opcode)).toBe(ILL_ACCESS);
    expect([rig.translate(1, 0x80), rig.translate(2, 0x80)]).toEqual([0x90, 0x90]);
  });

  it.each([
    ['NH_ASID', CMD_TLBI_NH_ASID],
    ['NH_VA', CMD_TLBI_NH_VA],
  ])('carries TLBI_%s out under its own VMID, whatever the command says', (_name, opcode) => {
    const rig = twoGuests();
    expect(rig.guest(1, 7).give(opcode, { VMID: 8, ASID: 5, Address: 0x80 })).toBe(0);
    expect([rig.translate(1, 0x80), rig.translate(2, 0x80)]).toEqual([0x91, 0x90]);
  });

  it('sends ATC_INV to the StreamID that the virtual one stands for, the lowest slot first', () => {
    const rig = new CmdqvRig();
    const seen: unknown[] = [];
    for (const stream of [5, 6, 9]) {
      rig.smmu.attachAtc(stream, {
        invalidateAtc: (...what) => void seen.push([stream, ...what]),
        pageResponse: () => {},
      });
    }
    const queue = rig.guest(1, 7);
    rig.match(1, 15, 5, 6);
    queue.give(CMD_ATC_INV, { StreamID: 5, SSV: 1, SubstreamID: 3, Address: 0x10, Size: 2 });
    rig.match(1, 2, 5, 9);
    queue.give(CMD_ATC_INV, { StreamID: 5, Size: 52 });
    expect(seen).toEqual([
      [6, 3, 0x10, 2, false],
      [9, -1, 0, 52, false],
    ]);
  });

  it.each([
    ['no slot is enabled', 6],
    ['it is the physical one of a slot', 9],
    ['it is that of another VINTF', 7],
    ['it has more bits than a slot', 0x100005],
  ])('refuses ATC_INV of a StreamID as an illegal access when %s', (_name, stream) => {
    const rig = new CmdqvRig();
    const seen: number[] = [];
    for (const n of [5, 6, 7, 9]) {
      rig.smmu.attachAtc(n, { invalidateAtc: () => void seen.push(n), pageResponse: () => {} });
    }
    const queue = rig.guest(1, 7);
    rig.match(1, 0, 5, 9);
    rig.poke(vintf(1) + 0x44, 6 << 1);
    rig.match(2, 0, 7, 6);
    expect(queue.give(CMD_ATC_INV, { StreamID: stream, Size: 52 })).toBe(ILL_ACCESS);
    expect(seen).toEqual([]);
  });
});

describe('a VINTF of the hypervisor', () => {
  it('takes every command of the SMMU as it is', () => {
    const rig = twoGuests();
    const queue = rig.hypervisor();
    expect(queue.give(CMD_TLBI_S12_VMALL, { VMID: 8 })).toBe(0);
    expect([rig.translate(1, 0x80), rig.translate(2, 0x80)]).toEqual([0x90, 0x91]);
    expect(queue.give(CMD_CFGI_STE_RANGE, { Range: 31 })).toBe(0);
    expect(queue.give(0x7f)).toBe(ILL);
  });

  it('sends ATC_INV to the StreamID of the command', () => {
    const rig = new CmdqvRig();
    const seen: number[] = [];
    rig.smmu.attachAtc(6, { invalidateAtc: () => void seen.push(6), pageResponse: () => {} });
    expect(rig.hypervisor().give(CMD_ATC_INV, { StreamID: 6, Size: 52 })).toBe(0);
    expect(seen).toEqual([6]);
  });
});

it.each(['guest', 'hypervisor'] as const)('CMD_SYNC of a %s completes by CONS alone', (owner) => {
  for (const [signal, error] of [
    [0, 0],
    [1, ILL],
    [2, ILL],
    [3, ILL],
  ]) {
    const rig = new CmdqvRig();
    const message = rig.alloc();
    const queue = owner === 'guest' ? rig.guest(1, 7) : rig.hypervisor();
    expect(queue.give(CMD_SYNC, { CS: signal!, MSIAddress: message, MSIData: 0x1234 })).toBe(error);
    expect(rig.read64(message, 0)).toBe(0n);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(error === 0 ? [] : ['cmdqv']);
  }
});
