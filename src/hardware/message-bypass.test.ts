import { describe, expect, it } from 'vitest';
import { ABORTED, NO_SUBSTREAM, READ, TRANSLATED, WRITE } from './iommu.ts';
import { MessageBypass } from './message-bypass.ts';
import { IommuDouble } from './pci/testing.ts';

function bypass() {
  const iommu = new IommuDouble();
  iommu.map(0xfee00, 0x77);
  iommu.map(0x10, 0x20);
  const bus = new MessageBypass(iommu, { firstFrame: 0xfee00, lastFrame: 0xfeeff, doorbellFrame: 0x8090 });
  return { iommu, bus };
}

describe('a bus that takes messages past the IOMMU', () => {
  it('answers untranslated writes to the range itself', () => {
    const { iommu, bus } = bypass();
    for (const frame of [0xfee00, 0xfeeff]) {
      expect([bus.translate(1, NO_SUBSTREAM, frame, 0x40, WRITE), bus.outFrame]).toEqual([TRANSLATED, 0x8090]);
    }
    expect(iommu.untranslated).toBe(0);
  });

  it.each<[string, number, number, number]>([
    ['reads', NO_SUBSTREAM, 0xfee00, READ],
    ['requests with a PASID', 3, 0xfee00, WRITE],
  ])('leaves %s to the IOMMU', (_what, substream, frame, access) => {
    const { bus } = bypass();
    expect([bus.translate(1, substream, frame, 0, access), bus.outFrame]).toEqual([TRANSLATED, 0x77]);
  });

  it('leaves everything else to the IOMMU, before and after a message', () => {
    const { bus } = bypass();
    bus.translate(1, NO_SUBSTREAM, 0xfee00, 0x40, WRITE);
    expect([bus.translate(1, NO_SUBSTREAM, 0x10, 0, WRITE), bus.outFrame]).toEqual([TRANSLATED, 0x20]);
    expect(bus.translate(1, NO_SUBSTREAM, 0xfef00, 0, WRITE)).toBe(ABORTED);
    expect([bus.atsRequest(1, NO_SUBSTREAM, 0x10, READ), bus.outFrame, bus.outPermissions]).toEqual([0, 0x20, 3]);
  });
});
