import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM, READ } from '../iommu.ts';
import { DMA_DONE, DMA_REFUSED } from './dma-channel.ts';
import { DMA_PROBE } from './dma-probe.ts';
import { bytes, functionRig, peek, poke } from './testing.ts';

describe('the DMA of a function', () => {
  it('splits an access at the frame boundary and translates both frames', () => {
    const { dma, iommu, memory } = functionRig(DMA_PROBE);
    iommu.map(2, 40);
    iommu.map(3, 20);
    expect(dma.write(2, 0xffe, bytes(1, 2, 3, 4), NO_SUBSTREAM)).toBe(DMA_DONE);
    expect(peek(memory, 40 * 4096 + 0xffe, 2)).toEqual(bytes(1, 2));
    expect(peek(memory, 20 * 4096, 2)).toEqual(bytes(3, 4));
  });

  it('is refused without bus mastering, and the IOMMU never hears of it', () => {
    const { dma, fn, iommu } = functionRig(DMA_PROBE);
    fn.writeConfig(fn.config.offsetOf('COMMAND'), 2, 0x2);
    expect(dma.read(0, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_REFUSED);
    expect(iommu.untranslated).toBe(0);
  });

  it('is refused in D3hot', () => {
    const { dma, fn } = functionRig(DMA_PROBE);
    fn.writeConfig(fn.config.offsetOf('PMCSR'), 2, 3);
    expect(dma.read(0, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_REFUSED);
  });

  it('ends at the top of the 64-bit space instead of wrapping', () => {
    const { dma, iommu } = functionRig(DMA_PROBE);
    iommu.map(2 ** 52 - 1, 5);
    expect(dma.write(2 ** 52 - 1, 0xfff, bytes(9), NO_SUBSTREAM)).toBe(DMA_DONE);
    expect(dma.write(2 ** 52 - 1, 0xfff, bytes(9, 9), NO_SUBSTREAM)).toBe(DMA_REFUSED);
  });

  it('fails when memory aborts, though the IOMMU translated', () => {
    const { dma, iommu } = functionRig(DMA_PROBE);
    iommu.map(1, 2 ** 30);
    expect(dma.read(1, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_REFUSED);
  });
});

describe('a PASID', () => {
  const sent = (features: { pasidBits: number }, enable: boolean, pasid: number) => {
    const { fn, dma, iommu } = functionRig(DMA_PROBE, features);
    if (enable) fn.enablePasid(true);
    const seen: number[] = [];
    const translate = iommu.translate.bind(iommu);
    iommu.translate = (stream, substream, ...rest) => {
      seen.push(substream);
      return translate(stream, substream, ...rest);
    };
    return [dma.read(1, 0, new Uint8Array(4), pasid), seen];
  };

  it.each([
    ['without the capability', { pasidBits: 0 }, false, 0],
    ['while the capability is off', { pasidBits: 8 }, false, 7],
    ['wider than the capability', { pasidBits: 8 }, true, 0x100],
  ])('is not sent %s: the access is refused, and the IOMMU never hears of it', (_what, features, enable, pasid) => {
    expect(sent(features, enable, pasid)).toEqual([DMA_REFUSED, []]);
  });

  it('is sent up to the width of the capability while that is on, and none still is', () => {
    expect(sent({ pasidBits: 8 }, true, 0xff)).toEqual([DMA_DONE, [0xff]]);
    expect(sent({ pasidBits: 20 }, true, 0xfffff)).toEqual([DMA_DONE, [0xfffff]]);
    expect(sent({ pasidBits: 8 }, true, NO_SUBSTREAM)).toEqual([DMA_DONE, [NO_SUBSTREAM]]);
    expect(sent({ pasidBits: 0 }, false, NO_SUBSTREAM)).toEqual([DMA_DONE, [NO_SUBSTREAM]]);
  });

  it('is not sent any more after a reset', () => {
    const { dma, fn } = functionRig(DMA_PROBE, { pasidBits: 8 });
    fn.enablePasid(true);
    fn.reset();
    fn.writeConfig(fn.config.offsetOf('COMMAND'), 2, 0x6);
    expect(dma.read(1, 0, new Uint8Array(4), 7)).toBe(DMA_REFUSED);
    expect(dma.read(1, 0, new Uint8Array(4), NO_SUBSTREAM)).toBe(DMA_DONE);
  });
});

describe('a function with ATS', () => {
  const rig = () => {
    const made = functionRig(DMA_PROBE, { ats: true }, true);
    made.fn.enableAts(true);
    return made;
  };
  const firstByte = ({ dma }: ReturnType<typeof rig>, frame: number) => {
    const into = new Uint8Array(1);
    return dma.read(frame, 0, into, NO_SUBSTREAM) === DMA_DONE ? into[0] : 'refused';
  };

  it('asks once, then answers from its ATC however the page table changes', () => {
    const made = rig();
    poke(made.memory, 5 * 4096, bytes(55));
    poke(made.memory, 6 * 4096, bytes(66));
    made.iommu.map(1, 5);
    expect(firstByte(made, 1)).toBe(55);
    made.iommu.map(1, 6);
    expect(firstByte(made, 1)).toBe(55);
    expect([made.iommu.requests, made.iommu.untranslated]).toEqual([1, 0]);
    made.fn.atc.invalidateAtc(NO_SUBSTREAM, 1, 0, false);
    expect(firstByte(made, 1)).toBe(66);
  });

  it('forgets its ATC when ATS is switched off, and on reset', () => {
    const made = rig();
    firstByte(made, 1);
    expect(made.fn.atc.used).toBe(1);
    made.fn.enableAts(false);
    expect(made.fn.atc.used).toBe(0);
    firstByte(made, 1);
    expect(made.iommu.untranslated).toBe(1);
    made.fn.enableAts(true);
    firstByte(made, 1);
    made.fn.reset();
    expect(made.fn.atc.used).toBe(0);
    expect(made.fn.dma.atsEnabled).toBe(false);
  });

  it('sends untranslated what the request did not grant, so that the IOMMU can record it', () => {
    const made = rig();
    made.iommu.map(1, 5, READ);
    expect(made.dma.write(1, 0, bytes(1), NO_SUBSTREAM)).toBe(DMA_REFUSED);
    expect([made.iommu.requests, made.iommu.untranslated]).toEqual([1, 1]);
    expect(made.fn.atc.used).toBe(0);
  });

  it('tells the trace where each answer came from', () => {
    const made = rig();
    firstByte(made, 1);
    firstByte(made, 4000);
    const dma = made.events.filter((event) => event.type === 'dma');
    expect(dma.map((event) => [event.via, event.frame])).toEqual([
      ['atc', 1],
      ['refused', -1],
    ]);
  });
});
