import { describe, expect, it } from 'vitest';
import { MmapRegions } from './mmap-regions.ts';

const region = (pages: number) => ({ bytes: new Uint8Array(pages * 4096) });

describe('regions for mmap', () => {
  it('get the lowest free offset, but never 0', () => {
    const regions = new MmapRegions();
    const [a, b, c] = [region(2), region(1), region(1)];
    expect([regions.place(a), regions.place(b), regions.place(c)]).toEqual([0x1000n, 0x3000n, 0x4000n]);
    regions.remove(b);
    expect(regions.place(region(2))).toBe(0x5000n);
    expect(regions.place(region(1))).toBe(0x3000n);
  });

  it('are found by exactly their offset and length', () => {
    const regions = new MmapRegions();
    const a = region(2);
    regions.place(a);
    expect(regions.find(0x1000n, 0x2000n)).toBe(a);
    expect([regions.find(0x2000n, 0x1000n), regions.find(0x1000n, 0x1000n), regions.find(0n, 0x2000n)]).toEqual([
      null,
      null,
      null,
    ]);
  });
});
