/** ATS and PRI (IHI 0070, 3.9 and chapter 8). */
import { describe, expect, it } from 'vitest';
import {
  ABORTED,
  ATS_COMPLETER_ABORT,
  ATS_SUCCESS,
  ATS_UNSUPPORTED_REQUEST,
  type AtcHolder,
  EXECUTE,
  NO_SUBSTREAM,
  type PageRequest,
  PRIVILEGED,
  READ,
  TRANSLATED,
  WRITE,
} from '../iommu.ts';
import { CMD_ATC_INV, CMD_PRI_RESP } from './spec/commands.ts';
import { at, QUEUE_LOG2, Rig, S1_LEAF, S2_LEAF } from './test-rig.ts';

const EATS = { EATS: 1 };
/** PASIDs are in use, 0 among them. */
const WITH_PASID = { EATS: 1, S1CDMax: 1, S1DSS: 0 };

/** Status, then frame, log2 frames and permissions of a translation request. */
function request(rig: Rig, stream: number, frame: number, access = READ | WRITE, substream = NO_SUBSTREAM): number[] {
  const status = rig.smmu.atsRequest(stream, substream, frame, access);
  return status === ATS_SUCCESS
    ? [status, rig.smmu.outFrame, rig.smmu.outLog2Frames, rig.smmu.outPermissions]
    : [status];
}

class Device implements AtcHolder {
  readonly calls: unknown[][] = [];

  invalidateAtc(...call: unknown[]): void {
    this.calls.push(['invalidate', ...call]);
  }

  pageResponse(...call: unknown[]): void {
    this.calls.push(['response', ...call]);
  }
}

describe('translation requests', () => {
  it('get the address, size and permissions of both stages together', () => {
    const rig = new Rig();
    const { root, second } = rig.nestedStream(1, {}, WITH_PASID);
    rig.map(root, 0x12200, S1_LEAF | at(0xc0000), 2);
    rig.map(second, 0xc0000, (S2_LEAF & ~0x80n) | at(0x40000), 2);
    expect(request(rig, 1, 0x12345, READ | WRITE, 0)).toEqual([ATS_SUCCESS, 0x40145, 9, READ]);
    expect(request(rig, 1, 0x12345, READ | EXECUTE, 0)).toEqual([ATS_SUCCESS, 0x40145, 9, READ | EXECUTE]);
    expect(rig.events()).toEqual([]);
  });

  it('get nothing, and record nothing, where an ordinary access would fault', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, {}, WITH_PASID);
    rig.map(root, 1, 0xc00n | at(0x5555));
    expect(request(rig, 1, 2, READ, 0)).toEqual([ATS_SUCCESS, 0, 0, 0]);
    expect(request(rig, 1, 1, READ, 0)).toEqual([ATS_SUCCESS, 0, 0, 0]);
    expect(request(rig, 1, 1, READ | WRITE | PRIVILEGED, 0)).toEqual([ATS_SUCCESS, 0x5555, 0, READ | WRITE]);
    expect(rig.events()).toEqual([]);
  });

  it('without a PASID ask for neither execution nor privilege', () => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, {}, EATS);
    rig.map(root, 1, S1_LEAF | at(0x5555));
    rig.map(root, 2, 0xc00n | at(0x6666));
    expect(request(rig, 1, 1, READ | EXECUTE)).toEqual([ATS_SUCCESS, 0x5555, 0, READ]);
    expect(request(rig, 1, 2, READ | PRIVILEGED)).toEqual([ATS_SUCCESS, 0, 0, 0]);
  });

  /** Pages of EL0: read and write; read, write and execute; execute only; nothing. Requests for all three permissions. */
  it.each([
    ['as they come', 0, [READ | WRITE, READ | WRITE | EXECUTE, 0, 0]],
    ['data: what can be read can be executed', 2, [READ | WRITE | EXECUTE, READ | WRITE | EXECUTE, 0, 0]],
    ['instruction: a read needs execute permission', 3, [WRITE, READ | WRITE | EXECUTE, READ | EXECUTE, 0]],
  ])('grant by INSTCFG, %s (13.7.1)', (_what, INSTCFG, granted) => {
    const rig = new Rig();
    const { root } = rig.stage1Stream(1, {}, { ...WITH_PASID, INSTCFG });
    const never = 1n << 54n;
    for (const [page, leaf] of [S1_LEAF | never, S1_LEAF, 0xc00n, 0xc00n | never].entries()) {
      rig.map(root, page, leaf | at(0x5000 + page));
    }
    const answers = [0, 1, 2, 3].map((page) => request(rig, 1, page, READ | WRITE | EXECUTE, 0)[3]);
    expect(answers).toEqual(granted);
  });

  it('end at stage 1 when that grants nothing, whatever stage 2 would say', () => {
    const rig = new Rig();
    const { root } = rig.nestedStream(1, {}, EATS);
    rig.map(root, 5, 0xc00n | (1n << 54n) | at(0x40009));
    expect(request(rig, 1, 5)).toEqual([ATS_SUCCESS, 0, 0, 0]);
    expect(rig.events()).toEqual([]);
  });

  it('without a PASID are identity where S1DSS skips the only stage', () => {
    const rig = new Rig();
    rig.stage1Stream(1, {}, { ...EATS, S1CDMax: 1, S1DSS: 1 });
    for (const access of [READ, READ | WRITE]) {
      expect(request(rig, 1, 0x777, access)).toEqual([ATS_SUCCESS, 0x777, 36, READ | WRITE]);
    }
  });

  it.each([
    ['EATS = 0', { V: 1, Config: 5 }, ATS_UNSUPPORTED_REQUEST, true],
    ['bypass', { V: 1, Config: 4, EATS: 1 }, ATS_UNSUPPORTED_REQUEST, true],
    ['abort', { V: 1, Config: 0, EATS: 1 }, ATS_UNSUPPORTED_REQUEST, false],
    ['an STE that is not valid', { V: 0 }, ATS_COMPLETER_ABORT, false],
    ['a CD that is not valid', { V: 1, Config: 5, EATS: 1, S1ContextPtr: 0x900 }, ATS_COMPLETER_ABORT, false],
  ])('on %s are refused', (_name, ste, status, recorded) => {
    const rig = new Rig();
    rig.ste(1, ste);
    expect(request(rig, 1, 0x5)).toEqual([status]);
    const names = rig.events().map((event) => event.name);
    expect(names).toEqual(recorded ? ['F_BAD_ATS_TREQ'] : []);
  });

  it('are refused by an SMMU that is off, and by one without ATS', () => {
    const rig = new Rig();
    rig.set('CR0', 0b1100);
    expect(request(rig, 1, 5)).toEqual([ATS_UNSUPPORTED_REQUEST]);
    expect(rig.events().map((event) => event.name)).toEqual(['F_BAD_ATS_TREQ']);
    expect(request(new Rig({ ats: false, pri: false }), 1, 5)).toEqual([ATS_UNSUPPORTED_REQUEST]);
  });
});

describe('F_BAD_ATS_TREQ', () => {
  it('says what was asked for: to read always, the rest as it was', () => {
    const rig = new Rig();
    rig.stage1Stream(1, {}, { S1CDMax: 1 });
    request(rig, 1, 5, WRITE);
    request(rig, 1, 5, READ | EXECUTE | PRIVILEGED, 1);
    request(rig, 1, 5, READ | EXECUTE | PRIVILEGED);
    const asked = rig
      .events()
      .map(({ name, SSV, Read, Write, Execute, Priv }) => [name, SSV, Read, Write, Execute, Priv]);
    expect(asked).toEqual([
      ['F_BAD_ATS_TREQ', 0, 1, 1, 0, 0],
      ['F_BAD_ATS_TREQ', 1, 1, 0, 1, 1],
      ['F_BAD_ATS_TREQ', 0, 1, 0, 0, 0],
    ]);
  });
});

describe('translated transactions', () => {
  const translated = (rig: Rig, stream: number, frame = 0x777): number =>
    rig.smmu.translated(stream, NO_SUBSTREAM, frame, 0x10, WRITE);

  it('pass with EATS, and are refused without it', () => {
    const rig = new Rig();
    rig.stage1Stream(1, {}, EATS);
    rig.stage1Stream(2);
    rig.ste(3, { V: 1, Config: 0 });
    expect([translated(rig, 1), rig.smmu.outFrame]).toEqual([TRANSLATED, 0x777]);
    expect([2, 3, 4].map((stream) => translated(rig, stream))).toEqual([ABORTED, ABORTED, ABORTED]);
    expect(rig.events()).toEqual([{ name: 'F_TRANSL_FORBIDDEN', stream: 2, RnW: 0, InputAddr: 0x777010n }]);
  });

  it('are not checked with ATSCHK = 0, but stay within OAS', () => {
    const rig = new Rig({ oas: 44 });
    rig.set('CR0', 0b01111);
    expect([translated(rig, 9), translated(rig, 9, 2 ** 32)]).toEqual([TRANSLATED, ABORTED]);
    rig.set('CR0', 0b01110);
    expect(translated(rig, 9)).toBe(ABORTED);
    expect(rig.events().map((event) => event.name)).toEqual(['F_TRANSL_FORBIDDEN']);
  });
});

describe('CMD_ATC_INV', () => {
  it('reaches the holder of its stream, aligned, with PASID and global as given', () => {
    const rig = new Rig();
    const device = new Device();
    rig.smmu.attachAtc(5, device);
    rig.command(CMD_ATC_INV, { StreamID: 5, Address: 0x12345, Size: 4 });
    rig.command(CMD_ATC_INV, { StreamID: 5, SSV: 1, SubstreamID: 9, Global: 1, Size: 52, Address: 2 ** 52 - 1 });
    rig.command(CMD_ATC_INV, { StreamID: 6, Size: 52 });
    expect(device.calls).toEqual([
      ['invalidate', NO_SUBSTREAM, 0x12340, 4, false],
      ['invalidate', 9, 0, 52, true],
    ]);
  });

  it('is ignored while the SMMU is off', () => {
    const rig = new Rig();
    const device = new Device();
    rig.smmu.attachAtc(5, device);
    rig.set('CR0', 0b1000);
    rig.command(CMD_ATC_INV, { StreamID: 5 });
    expect([device.calls, rig.get('GERROR')]).toEqual([[], 0]);
  });
});

describe('page requests', () => {
  const ask: PageRequest = {
    stream: 5,
    substream: 0x12345,
    frame: 0xabcdef0123456,
    groupIndex: 0x1a5,
    read: true,
    write: true,
    execute: false,
    privileged: true,
    last: true,
  };

  it('interrupt at the last of a group with PRIQ_IRQ_CFG2.LO, and not at the first of a queue', () => {
    const rig = new Rig();
    rig.set('IRQ_CTRL', 0);
    rig.set('PRIQ_IRQ_CFG2', 0x80000000);
    rig.set('IRQ_CTRL', 7);
    rig.smmu.pageRequest({ ...ask, last: false });
    rig.clock.settle();
    expect(rig.interrupts).toEqual([]);
    rig.smmu.pageRequest(ask);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['priq']);
  });

  it('are queued with every field, interrupt, and are answered by CMD_PRI_RESP', () => {
    const rig = new Rig();
    const device = new Device();
    rig.smmu.attachAtc(5, device);
    rig.smmu.pageRequest(ask);
    rig.clock.settle();
    expect(rig.interrupts).toEqual(['priq']);
    expect([...rig.priEntry(0)]).toEqual([5, 0x12345 | 0xf4000000, 0x234561a5, 0xabcdef01].map((word) => word >>> 0));
    for (const Resp of [0, 1, 2]) {
      rig.command(CMD_PRI_RESP, { StreamID: 5, SSV: 1, SubstreamID: 0x12345, PRGIndex: 0x1a5, Resp });
    }
    expect(device.calls).toEqual([0b1111, 0b0001, 0b0000].map((code) => ['response', 0x12345, 0x1a5, code]));
  });

  it('that overflow the queue are answered with success if they end their group', () => {
    const rig = new Rig();
    const device = new Device();
    rig.smmu.attachAtc(5, device);
    for (let n = 0; n < 2 ** QUEUE_LOG2; n++) rig.smmu.pageRequest({ ...ask, last: false });
    rig.smmu.pageRequest({ ...ask, last: false });
    rig.smmu.pageRequest(ask);
    rig.clock.settle();
    expect(rig.get('PRIQ_PROD') >>> 31).toBe(1);
    expect(device.calls).toEqual([['response', 0x12345, 0x1a5, 0]]);
    // A Stop PASID marker: never answered.
    rig.smmu.pageRequest({ ...ask, read: false, write: false });
    rig.clock.settle();
    expect(device.calls.length).toBe(1);
    // Unlike the event queue, an overflow that is not acknowledged keeps new entries out.
    rig.set('PRIQ_CONS', 1);
    rig.smmu.pageRequest(ask);
    rig.clock.settle();
    expect(device.calls.length).toBe(2);
    rig.set('PRIQ_CONS', 0x80000001);
    rig.smmu.pageRequest(ask);
    rig.clock.settle();
    expect(device.calls.length).toBe(2);
  });

  it('are answered with failure, without PASID, while the queue is off', () => {
    const rig = new Rig();
    const device = new Device();
    rig.smmu.attachAtc(5, device);
    rig.set('CR0', 0b1101);
    rig.smmu.pageRequest(ask);
    rig.clock.settle();
    expect(device.calls).toEqual([['response', NO_SUBSTREAM, 0x1a5, 0b1111]]);
  });
});
