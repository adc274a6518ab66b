/** DMA that waits: stalls, and page requests (PCIe 5.0, 10.4). */
import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM, PRG_FAILURE, PRG_INVALID, PRG_SUCCESS, READ } from '../iommu.ts';
import { DMA_DONE, DMA_REFUSED, DMA_WAITING } from './dma-channel.ts';
import { DMA_PROBE } from './dma-probe.ts';
import { IOAT } from './ioat.ts';
import { bytes, functionRig, peek, poke } from './testing.ts';

/** IOVA frames from here on are not mapped. */
const MISSING = 0x400;
const PRI_STATUS = 0x1b6;
const RESPONSE_FAILURE = 1;
const UNEXPECTED = 2;
const STOPPED = 0x100;

function stallRig(kind = DMA_PROBE) {
  const rig = functionRig(kind, { canStall: true }, true);
  rig.iommu.stalls = true;
  const end = (retry: boolean): void => {
    rig.iommu.stalled.shift()!.stallEnded(retry);
    rig.clock.settle();
  };
  return { ...rig, end };
}

const dmaEvents = (events: readonly { type: string }[]) =>
  events.flatMap((event) => (event.type === 'dma' ? [(event as unknown as { via: string }).via] : []));

describe('a DMA access that stalls', () => {
  it('goes on by itself when it is retried, and each byte has moved once', () => {
    const { dma, iommu, memory, outcomes, end, events } = stallRig();
    iommu.map(MISSING - 1, 7);
    expect(dma.write(MISSING - 1, 0xffe, bytes(1, 2, 3, 4), NO_SUBSTREAM)).toBe(DMA_WAITING);
    expect(peek(memory, 7 * 4096 + 0xffe, 2)).toEqual(bytes(1, 2));
    poke(memory, 7 * 4096 + 0xffe, bytes(99, 99));
    iommu.map(MISSING, 9);
    expect([outcomes, dma.waiting]).toEqual([[], true]);
    end(true);
    expect([outcomes, dma.waiting]).toEqual([[DMA_DONE], false]);
    expect(peek(memory, 9 * 4096, 2)).toEqual(bytes(3, 4));
    expect(peek(memory, 7 * 4096 + 0xffe, 2)).toEqual(bytes(99, 99));
    expect(dmaEvents(events)).toEqual(['iommu', 'stalled', 'iommu']);
  });

  it('stalls again when nothing has changed, and is refused when it is terminated', () => {
    const { dma, outcomes, end, iommu, events } = stallRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    end(true);
    expect([outcomes, iommu.stalled.length]).toEqual([[], 1]);
    end(false);
    expect([outcomes, iommu.stalled.length]).toEqual([[DMA_REFUSED], 0]);
    expect(dmaEvents(events)).toEqual(['stalled', 'stalled', 'refused']);
  });

  it('is sent again as what it was: untranslated, though the function has an ATC', () => {
    const rig = functionRig(DMA_PROBE, { ats: true, canStall: true });
    const { iommu, fn, dma, clock, outcomes } = rig;
    iommu.stalls = true;
    fn.enableAts(true);
    expect(dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_WAITING);
    expect([iommu.requests, iommu.untranslated]).toEqual([1, 1]);
    iommu.map(MISSING, 9);
    iommu.stalled.shift()!.stallEnded(true);
    clock.settle();
    expect([outcomes, iommu.requests, iommu.untranslated]).toEqual([[DMA_DONE], 1, 2]);
  });

  it('that is let pass reads zeros, leaves memory alone, and goes on behind them', () => {
    const { dma, iommu, memory, outcomes, clock, events } = stallRig();
    iommu.map(MISSING + 1, 5);
    poke(memory, 5 * 4096, bytes(7, 8));
    const into = bytes(1, 2, 3, 4);
    dma.read(MISSING, 0xffe, into, NO_SUBSTREAM);
    iommu.stalled.shift()!.stallEnded(false, true);
    clock.settle();
    expect([outcomes, into]).toEqual([[DMA_DONE], bytes(0, 0, 7, 8)]);
    dma.write(MISSING, 0xffe, bytes(1, 2, 3, 4), NO_SUBSTREAM);
    iommu.stalled.shift()!.stallEnded(false, true);
    clock.settle();
    expect([outcomes.length, peek(memory, 5 * 4096, 2)]).toEqual([2, bytes(3, 4)]);
    expect(dmaEvents(events)).toEqual(['stalled', 'discarded', 'iommu', 'stalled', 'discarded', 'iommu']);
  });

  it('is continued on the clock, never within the command that ends the stall', () => {
    const { dma, iommu, outcomes, clock } = stallRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    iommu.map(MISSING, 1);
    iommu.stalled.shift()!.stallEnded(true);
    expect(outcomes).toEqual([]);
    clock.settle();
    expect(outcomes).toEqual([DMA_DONE]);
  });

  it('is forgotten by a function level reset', () => {
    const { fn, dma, outcomes, clock, iommu } = stallRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    fn.reset();
    clock.settle();
    expect([outcomes, dma.waiting, iommu.stalled]).toEqual([[], false, []]);
  });

  it('is forgotten by a reset even when its retry is queued on the clock', () => {
    const { fn, dma, outcomes, clock, iommu } = stallRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    iommu.map(MISSING, 1);
    iommu.stalled.shift()!.stallEnded(true);
    fn.reset();
    clock.settle();
    expect(outcomes).toEqual([]);
  });

  it('is refused when bus mastering goes', () => {
    const { fn, dma, outcomes, clock, iommu } = stallRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    fn.writeConfig(fn.config.offsetOf('COMMAND'), 2, 0x2);
    clock.settle();
    expect([outcomes, dma.waiting, iommu.stalled]).toEqual([[DMA_REFUSED], false, []]);
  });

  it('does not exist for a function whose transactions cannot stall', () => {
    const { dma, iommu } = functionRig(DMA_PROBE);
    iommu.stalls = true;
    expect(dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_REFUSED);
  });
});

describe('the DMA probe', () => {
  it('tells that it waits, takes no command meanwhile, and tells how it ended', () => {
    const { fn, iommu, end, memory } = stallRig();
    const start = (data: number): void => {
      fn.writeRegister(0x08, 4, MISSING * 4096);
      fn.writeRegister(0x14, 4, 4);
      fn.writeRegister(0x100, 4, data);
      fn.writeRegister(0x18, 4, 2);
    };
    start(0x11111111);
    expect(fn.readRegister(0x1c, 4)).toBe(4);
    start(0x22222222);
    expect(iommu.stalled).toHaveLength(1);
    iommu.map(MISSING, 5);
    end(true);
    expect(fn.readRegister(0x1c, 4)).toBe(1);
    expect(peek(memory, 5 * 4096, 4)).toEqual(bytes(0x11, 0x11, 0x11, 0x11));
  });
});

describe('the IOAT engine', () => {
  const SOURCE = 0x100;
  const DESTINATION = 0x140;

  /** Starts a copy of 16 bytes with its status written to 0x6000; all frames but those of `missing` are mapped. */
  function copy(missing: readonly number[]) {
    const rig = stallRig(IOAT);
    const { fn, memory, iommu } = rig;
    const descriptor = new DataView(new ArrayBuffer(64));
    descriptor.setUint32(0, 16, true);
    descriptor.setUint32(4, 0x8, true);
    descriptor.setUint32(8, SOURCE * 4096, true);
    descriptor.setUint32(16, DESTINATION * 4096, true);
    for (const frame of [SOURCE, DESTINATION]) iommu.map(frame, frame);
    poke(memory, 0x4000, new Uint8Array(descriptor.buffer));
    poke(memory, SOURCE * 4096, new Uint8Array(16).fill(7));
    for (const frame of missing) iommu.mapping.delete(frame);
    const count = (value: number): void => fn.writeRegister(0x86, 2, value);
    fn.writeRegister(0x90, 4, 0x4000);
    fn.writeRegister(0x94, 4, 0);
    fn.writeRegister(0x98, 4, 0x6000);
    fn.writeRegister(0x9c, 4, 0);
    count(1);
    const state = (): number => fn.readRegister(0x88, 4) & 7;
    const goOn = (frame: number): void => {
      iommu.map(frame, frame);
      rig.end(true);
    };
    return { ...rig, state, goOn, count };
  }

  it('goes on at whichever access had to wait', () => {
    const { state, goOn, memory } = copy([4, SOURCE, DESTINATION, 6]);
    for (const frame of [4, SOURCE, DESTINATION, 6]) {
      expect(state()).toBe(frame === 6 ? 1 : 0);
      goOn(frame);
    }
    expect(state()).toBe(1);
    expect(peek(memory, DESTINATION * 4096, 17)).toEqual(bytes(...new Array(16).fill(7), 0));
    expect(peek(memory, 0x6000, 8)).toEqual(bytes(0x01, 0x40, 0, 0, 0, 0, 0, 0));
  });

  it('halts with the error of the access that was terminated', () => {
    const { fn, state, end } = copy([DESTINATION]);
    end(false);
    expect([state(), fn.readRegister(0xa8, 4)]).toEqual([3, 1 << 1]);
  });

  it('is free again after a reset of the channel while an access waits', () => {
    const { fn, state, iommu, count } = copy([SOURCE]);
    fn.writeRegister(0x84, 1, 0x20);
    expect([state(), iommu.stalled]).toEqual([3, []]);
    iommu.map(SOURCE, SOURCE);
    fn.writeRegister(0x90, 4, 0x4000);
    count(1);
    expect(state()).toBe(1);
  });

  it.each([
    ['a bad command', 0x84, 1, 0x40],
    ['a new chain', 0x90, 4, 0x8000],
    ['a descriptor count', 0x86, 2, 9],
    ['suspension', 0x84, 1, 0x04],
  ])('bears %s while an access waits', (_what, offset, size, value) => {
    const { fn, iommu, clock } = copy([SOURCE]);
    fn.writeRegister(offset, size, value);
    iommu.stalled.shift()?.stallEnded(true);
    clock.settle();
    fn.reset();
    expect(iommu.stalled).toEqual([]);
  });
});

function priRig(allocation = 32) {
  const rig = functionRig(DMA_PROBE, { ats: true, pri: true, pasidBits: 8 }, true);
  const { fn, iommu } = rig;
  fn.enablePasid(true);
  fn.enableAts(true);
  fn.enablePri(true);
  fn.writeConfig(fn.config.offsetOf('PRI_ALLOCATION'), 4, allocation);
  const respond = (group: number, code: number): void => {
    fn.dma.pageResponse(NO_SUBSTREAM, group, code);
    rig.clock.settle();
  };
  const requested = () => iommu.pageRequests.map(({ frame, groupIndex, last }) => [frame, groupIndex, last]);
  return { ...rig, respond, requested, status: () => fn.readConfig(PRI_STATUS, 2) };
}

describe('a function with page requests', () => {
  it('asks for the page with its rights and PASID, and goes on with the translation after Success', () => {
    const { dma, iommu, outcomes, respond, events } = priRig();
    const into = new Uint8Array(4);
    expect(dma.read(MISSING, 0x10, into, 5)).toBe(DMA_WAITING);
    expect(iommu.pageRequests).toEqual([
      {
        stream: 0x100,
        substream: 5,
        frame: MISSING,
        groupIndex: 0,
        read: true,
        write: false,
        execute: false,
        privileged: false,
        last: true,
      },
    ]);
    expect(iommu.untranslated).toBe(0);
    iommu.map(MISSING, 3);
    respond(0, PRG_SUCCESS);
    expect([outcomes, iommu.untranslated]).toEqual([[DMA_DONE], 0]);
    expect(dmaEvents(events)).toEqual(['page-request', 'atc']);
  });

  it('asks in one group for all pages that the access misses, the last of them marked', () => {
    const { dma, iommu, requested } = priRig();
    iommu.map(MISSING + 1, 3);
    dma.write(MISSING, 0xffc, new Uint8Array(2 * 4096), NO_SUBSTREAM);
    expect(requested()).toEqual([
      [MISSING, 0, false],
      [MISSING + 2, 0, true],
    ]);
    expect(iommu.pageRequests[0]).toMatchObject({ read: false, write: true });
  });

  it('asks for a page that it may only read when it wants to write', () => {
    const { dma, iommu, requested } = priRig();
    iommu.map(MISSING, 3, READ);
    expect(dma.write(MISSING, 0, bytes(1), NO_SUBSTREAM)).toBe(DMA_WAITING);
    expect(requested()).toEqual([[MISSING, 0, true]]);
  });

  it('gives up after Invalid Request', () => {
    const { dma, outcomes, respond, iommu } = priRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    respond(0, PRG_INVALID);
    expect([outcomes, iommu.untranslated, iommu.pageRequests.length]).toEqual([[DMA_REFUSED], 0, 1]);
  });

  it('stops requesting after Response Failure until it is enabled anew', () => {
    const { fn, dma, respond, status, iommu } = priRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    respond(0, PRG_FAILURE);
    expect(status() & RESPONSE_FAILURE).toBe(RESPONSE_FAILURE);
    expect(dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_REFUSED);
    expect([iommu.untranslated, iommu.pageRequests.length]).toEqual([1, 1]);
    fn.enablePri(true);
    expect(status() & RESPONSE_FAILURE).toBe(0);
    expect(dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_WAITING);
  });

  it('ends its attempts when Success does not bring the page', () => {
    const { dma, outcomes, respond, iommu } = priRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    for (let group = 0; outcomes.length === 0 && group < 100; group++) respond(group, PRG_SUCCESS);
    expect([outcomes, iommu.pageRequests.length, iommu.untranslated]).toEqual([[DMA_REFUSED], 8, 1]);
  });

  it('notes a response to a group that it does not know', () => {
    const { respond, status, fn } = priRig();
    respond(17, PRG_SUCCESS);
    expect(status() & UNEXPECTED).toBe(UNEXPECTED);
    fn.writeConfig(PRI_STATUS, 2, UNEXPECTED);
    expect(status() & UNEXPECTED).toBe(0);
  });

  it('never exceeds its allocation: who finds none left asks when there is an answer', () => {
    const { fn, dma, requested, respond, outcomes } = priRig(2);
    const second = fn.dma.channel(() => {});
    dma.write(MISSING, 0, new Uint8Array(3 * 4096), NO_SUBSTREAM);
    second.read(MISSING + 8, 0, new Uint8Array(4), NO_SUBSTREAM);
    expect(requested()).toEqual([
      [MISSING, 0, false],
      [MISSING + 1, 0, true],
    ]);
    respond(0, PRG_INVALID);
    expect(outcomes).toEqual([DMA_REFUSED]);
    expect(requested()[2]).toEqual([MISSING + 8, 1, true]);
  });

  it('sends untranslated when its allocation is 0', () => {
    const { dma, iommu } = priRig(0);
    expect(dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_REFUSED);
    expect([iommu.untranslated, iommu.pageRequests]).toEqual([1, []]);
  });

  it('is stopped when it is switched off and nothing is outstanding any more', () => {
    const { fn, dma, respond, status } = priRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    expect(status() & STOPPED).toBe(0);
    fn.enablePri(false);
    expect(status() & STOPPED).toBe(0);
    respond(0, PRG_INVALID);
    expect(status() & STOPPED).toBe(STOPPED);
  });

  it('forgets its requests on a reset, and uses other groups then', () => {
    const { fn, dma, outcomes, respond, iommu } = priRig();
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    fn.reset();
    fn.enableAts(true);
    fn.enablePri(true);
    fn.writeConfig(fn.config.offsetOf('COMMAND'), 2, 0x6);
    dma.read(MISSING, 0, new Uint8Array(4), NO_SUBSTREAM);
    expect(iommu.pageRequests[1]!.groupIndex).toBe(1);
    respond(0, PRG_SUCCESS);
    expect([outcomes, dma.waiting]).toEqual([[], true]);
  });
});
