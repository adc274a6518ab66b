/** Command and event queues, global errors and interrupts (IHI 0070, chapters 4 and 7). */
import { describe, expect, it } from 'vitest';
import type { CommandEvent } from '../../trace/events.ts';
import {
  CMD_ATC_INV,
  CMD_CFGI_STE,
  CMD_PREFETCH_CONFIG,
  CMD_PRI_RESP,
  CMD_RESUME,
  CMD_STALL_TERM,
  CMD_SYNC,
  CMD_TLBI_EL2_ALL,
  CMD_TLBI_NH_ALL,
  CMD_TLBI_NH_VA,
  CMD_TLBI_S2_IPA,
} from './spec/commands.ts';
import { HOLE_FRAME, QUEUE_LOG2, Rig } from './test-rig.ts';

const CMDQ_ERR = 1;
const EVENTQ_ABT_ERR = 4;
const MSI_CMDQ_ABT_ERR = 0x10;
const MSI_EVENTQ_ABT_ERR = 0x20;
const MSI_GERROR_ABT_ERR = 0x80;
const errorCode = (rig: Rig): number => rig.get('CMDQ_CONS') >>> 24;
const position = (rig: Rig): number => rig.get('CMDQ_CONS') & 0xfffff;

describe('command queue', () => {
  it('consumes on PROD, wraps, and is quiet about it', () => {
    const rig = new Rig();
    for (let n = 0; n < 40; n++) rig.command(CMD_PREFETCH_CONFIG, { StreamID: n });
    expect(rig.get('CMDQ_CONS')).toBe(40 % 32);
    expect(rig.get('GERROR')).toBe(0);
  });

  it('waits for CMDQEN', () => {
    const rig = new Rig();
    rig.set('CR0', 0);
    rig.command(CMD_SYNC);
    expect(rig.get('CMDQ_CONS')).toBe(0);
    rig.set('CR0', 0b1000);
    expect(rig.get('CMDQ_CONS')).toBe(1);
  });

  it.each([
    ['a reserved opcode', 0x7f, {}],
    ['opcode 0', 0, {}],
    ['a Secure stream', CMD_CFGI_STE, { SSec: 1 }],
    ['the reserved signal of CMD_SYNC', CMD_SYNC, { CS: 3 }],
    ['an EL2 invalidation', CMD_TLBI_EL2_ALL, {}],
    ['CMD_RESUME without stalls', CMD_RESUME, {}],
    ['CMD_STALL_TERM without stalls', CMD_STALL_TERM, {}],
    ['the reserved page response', CMD_PRI_RESP, { Resp: 3 }],
    ['an ATC size above 52', CMD_ATC_INV, { Size: 53 }],
    ['TG without range or level', CMD_TLBI_NH_VA, { TG: 1 }],
    ['level 1 of 16 KiB without range', CMD_TLBI_NH_VA, { TG: 2, TTL: 1 }],
  ])('stops at %s with CERROR_ILL', (_name, opcode, values) => {
    const rig = new Rig();
    rig.command(CMD_SYNC);
    rig.command(opcode, values);
    rig.command(CMD_SYNC);
    expect([rig.get('GERROR'), errorCode(rig), position(rig)]).toEqual([CMDQ_ERR, 1, 1]);
  });

  it.each([
    ['ATC_INV without ATS', { ats: false, pri: false }, CMD_ATC_INV],
    ['PRI_RESP without PRI', { pri: false }, CMD_PRI_RESP],
    ['S2_IPA without stage 2', { s2p: false }, CMD_TLBI_S2_IPA],
    ['NH_ALL without stage 1', { s1p: false }, CMD_TLBI_NH_ALL],
  ])('stops at %s with CERROR_ILL', (_name, settings, opcode) => {
    const rig = new Rig(settings);
    rig.command(opcode);
    expect([rig.get('GERROR'), errorCode(rig), position(rig)]).toEqual([CMDQ_ERR, 1, 0]);
  });

  it('goes on with the mended command once the error is acknowledged, and not before', () => {
    const rig = new Rig();
    rig.command(0x7f);
    rig.command(CMD_SYNC);
    rig.memory.store32(0x300, 0, CMD_SYNC);
    rig.set('CMDQ_PROD', rig.get('CMDQ_PROD'));
    expect(position(rig)).toBe(0);
    rig.set('GERRORN', CMDQ_ERR);
    expect(position(rig)).toBe(2);
    rig.command(0x7f);
    expect([rig.get('GERROR'), rig.get('GERRORN')]).toEqual([0, CMDQ_ERR]);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['gerror', 'gerror']);
  });

  it('reports an abort of the fetch as CERROR_ABT', () => {
    const rig = new Rig();
    rig.set('CR0', 0);
    rig.setWide('CMDQ_BASE', HOLE_FRAME, QUEUE_LOG2);
    rig.set('CR0', 0b1000);
    rig.set('CMDQ_PROD', 1);
    expect([rig.get('GERROR'), errorCode(rig), position(rig)]).toEqual([CMDQ_ERR, 2, 0]);
  });

  it('traces each command with the reason of its refusal', () => {
    const rig = new Rig({}, true);
    rig.command(CMD_TLBI_NH_ALL, { VMID: 5 });
    rig.command(0x7f);
    const commands = rig.traced.filter((event): event is CommandEvent => event.type === 'command');
    expect(commands.map(({ words, error }) => [words[0], words[1], error])).toEqual([
      [0x10, 5, ''],
      [0x7f, 0, 'CERROR_ILL'],
    ]);
  });
});

describe('global errors', () => {
  it('are active side by side', () => {
    const rig = new Rig();
    rig.command(0x7f);
    rig.set('CR0', 0b11011);
    rig.setWide('EVENTQ_BASE', HOLE_FRAME, QUEUE_LOG2);
    rig.set('CR0', 0b11111);
    rig.translate(0xff, 1);
    expect(rig.get('GERROR') ^ rig.get('GERRORN')).toBe(CMDQ_ERR | EVENTQ_ABT_ERR);
  });

  it('of the command queue interrupt once, and are over when software takes the command back', () => {
    const rig = new Rig();
    rig.command(0x7f);
    rig.command(CMD_SYNC, { CS: 1 });
    expect(position(rig)).toBe(0);
    rig.set('CMDQ_PROD', 0);
    rig.set('GERRORN', CMDQ_ERR);
    rig.clock.settle();
    expect([rig.get('GERROR') ^ rig.get('GERRORN'), rig.interrupts]).toEqual([0, ['gerror']]);
  });

  it('tell of messages that could not be written, that of GERROR itself without another', () => {
    const rig = new Rig();
    rig.set('IRQ_CTRL', 0);
    rig.setWide('EVENTQ_IRQ_CFG0', HOLE_FRAME, 0x40);
    rig.setWide('GERROR_IRQ_CFG0', HOLE_FRAME, 0x44);
    rig.set('IRQ_CTRL', 7);
    rig.translate(0xff, 1);
    expect(rig.get('GERROR')).toBe(MSI_EVENTQ_ABT_ERR | MSI_GERROR_ABT_ERR);
  });
});

describe('CMD_SYNC', () => {
  it('raises the line, and writes a message where one is asked for', () => {
    const rig = new Rig();
    const frame = rig.alloc();
    rig.command(CMD_SYNC, { CS: 1, MSIAddress: frame, MSIData: 0xdeadbeef });
    expect(rig.read64(frame, 0)).toBe(0xdeadbeefn);
    expect(rig.interrupts).toEqual([]);
    rig.clock.settle();
    rig.command(CMD_SYNC, { CS: 0, MSIAddress: frame, MSIData: 1 });
    rig.command(CMD_SYNC, { CS: 2, MSIAddress: frame, MSIData: 1 });
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['cmdqSync']);
    expect(rig.read64(frame, 0)).toBe(0xdeadbeefn);
  });

  it('reports an aborted message and goes on', () => {
    const rig = new Rig();
    rig.command(CMD_SYNC, { CS: 1, MSIAddress: HOLE_FRAME, MSIData: 1 });
    expect([rig.get('GERROR'), position(rig)]).toEqual([MSI_CMDQ_ABT_ERR, 1]);
  });

  it('has no messages without IDR0.MSI', () => {
    const rig = new Rig({ msi: false });
    const frame = rig.alloc();
    rig.command(CMD_SYNC, { CS: 1, MSIAddress: frame, MSIData: 1 });
    expect(rig.read64(frame, 0)).toBe(0n);
  });
});

describe('event queue', () => {
  const size = 2 ** QUEUE_LOG2;
  const refuse = (rig: Rig, times = 1): void => {
    for (let n = 0; n < times; n++) rig.translate(n, 0);
  };

  it('interrupts when it is no longer empty, on the clock', () => {
    const rig = new Rig();
    refuse(rig, 3);
    expect(rig.interrupts).toEqual([]);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['eventq']);
    rig.events();
    refuse(rig);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['eventq', 'eventq']);
  });

  it('stays silent without EVENTQ_IRQEN, and sends a message where one is configured', () => {
    const rig = new Rig();
    const frame = rig.alloc();
    rig.set('IRQ_CTRL', 0);
    rig.setWide('EVENTQ_IRQ_CFG0', frame, 0x10);
    rig.set('EVENTQ_IRQ_CFG1', 77);
    refuse(rig);
    rig.events();
    expect(rig.read64(frame, 0x10)).toBe(0n);
    rig.set('IRQ_CTRL', 4);
    refuse(rig);
    expect(rig.read64(frame, 0x10)).toBe(77n);
  });

  it('overflows once until it is acknowledged, and takes records again as soon as there is room', () => {
    const rig = new Rig();
    refuse(rig, size);
    expect(rig.get('EVENTQ_PROD') >>> 31).toBe(0);
    refuse(rig, 2);
    expect([rig.get('EVENTQ_PROD') >>> 31, rig.pending('EVENTQ')]).toEqual([1, size]);
    expect(rig.events().length).toBe(size);
    refuse(rig);
    expect(rig.events().length).toBe(1);
    refuse(rig, size + 1);
    expect(rig.get('EVENTQ_PROD') >>> 31).toBe(1);
    rig.set('EVENTQ_CONS', (rig.get('EVENTQ_CONS') | 0x80000000) >>> 0);
    refuse(rig);
    expect(rig.get('EVENTQ_PROD') >>> 31).toBe(0);
  });

  it('of one entry wraps with each record', () => {
    const rig = new Rig();
    rig.set('CR0', 0b11011);
    rig.setWide('EVENTQ_BASE', 0x310, 0);
    rig.set('CR0', 0b11111);
    refuse(rig, 3);
    expect(rig.get('EVENTQ_PROD') >>> 0).toBe(0x80000001);
    rig.set('EVENTQ_CONS', 1);
    refuse(rig);
    expect(rig.get('EVENTQ_PROD') >>> 0).toBe(0x80000000);
  });

  it('loses records without overflow while it is disabled', () => {
    const rig = new Rig({}, true);
    rig.set('CR0', 0b1001);
    refuse(rig, size + 4);
    expect(rig.get('EVENTQ_PROD')).toBe(0);
    expect(rig.traced.every((event) => event.type !== 'fault' || event.lost)).toBe(true);
  });

  it('that cannot be written activates EVENTQ_ABT_ERR and takes nothing until that is acknowledged', () => {
    const rig = new Rig();
    rig.set('CR0', 0);
    rig.setWide('EVENTQ_BASE', HOLE_FRAME, QUEUE_LOG2);
    rig.set('CR0', 0b101);
    refuse(rig);
    expect([rig.get('GERROR'), rig.get('EVENTQ_PROD')]).toEqual([EVENTQ_ABT_ERR, 0]);
    rig.set('CR0', 1);
    rig.setWide('EVENTQ_BASE', 0x310, QUEUE_LOG2);
    rig.set('CR0', 0b101);
    refuse(rig);
    expect(rig.get('EVENTQ_PROD')).toBe(0);
    rig.set('GERRORN', EVENTQ_ABT_ERR);
    refuse(rig);
    expect(rig.get('EVENTQ_PROD')).toBe(1);
  });
});
