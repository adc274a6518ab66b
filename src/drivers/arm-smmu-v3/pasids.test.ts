/** PASIDs of the host's own stage 1s: tables of contexts, ASIDs, ATCs, and what excludes what. */
import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM, READ } from '../../hardware/iommu.ts';
import type { SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import type { PagingDomain } from './paging-domain.ts';
import { Bench, guestSte, NEST_PARENT, RW, STAGE1, simple, type TestDevice } from './testing.ts';

const PASID = 8;

function setup(settings: Partial<SmmuSettings> = { ats: false }) {
  const bench = new Bench({ settings });
  const device = bench.device(0, 0x100);
  /** A stage 1 that maps IOVA frame 0x10. */
  const domain = (frame: number): PagingDomain => {
    const made = device.driven.allocPaging(PASID, null);
    made.map(0x10000n, frame * 4096, 4096, RW);
    return made;
  };
  const seen = (...substreams: number[]) => substreams.map((substream) => reach(device, substream));
  return { bench, device, driven: device.driven, domain, seen };
}

const reach = (device: TestDevice, substream: number): number | null => device.reach(0x10, READ, substream);
const inUse = ({ drivers }: Bench) => Object.fromEntries(Object.entries(drivers[0]!.resources).filter(([, n]) => n));

describe('a PASID', () => {
  it('has a translation of its own beside that of the device', () => {
    const { bench, driven, domain, seen } = setup();
    const domains = [domain(1), domain(2), domain(3)];
    driven.attach(domains[0]!, 0);
    driven.attach(domains[1]!, 1);
    driven.attach(domains[2]!, 0xfff);
    expect(seen(NO_SUBSTREAM, 1, 0xfff, 2)).toEqual([1, 2, 3, null]);
    driven.attach(null, 1);
    expect(seen(NO_SUBSTREAM, 1, 0xfff)).toEqual([1, null, 3]);
    driven.attach(null, 0);
    expect(seen(NO_SUBSTREAM, 0xfff)).toEqual([null, 3]);
    driven.attach(domains[1]!, 0);
    expect(seen(NO_SUBSTREAM, 0xfff)).toEqual([2, 3]);
    driven.attach(null, 0xfff);
    driven.attach(null, 0);
    for (const made of domains) made.free();
    expect(inUse(bench)).toEqual({});
  });

  it('whose descriptor is in a new level 2 table has what pointed nowhere forgotten (5.3)', () => {
    const { bench, driven, domain } = setup();
    driven.attach(domain(1), 1);
    bench.trace.length = 0;
    driven.attach(domain(2), 0x400);
    const dropped = bench.trace.flatMap((event) =>
      event.type === 'command' && (event.words[0]! & 0xff) === 5 ? [[event.words[0]! >>> 12, event.words[2]! & 1]] : [],
    );
    expect(dropped[0]).toEqual([0x400, 0]);
  });

  it('is attached while the device itself is not', () => {
    const { bench, driven, domain, seen } = setup();
    const made = domain(5);
    driven.attach(made, 3);
    expect(seen(NO_SUBSTREAM, 3)).toEqual([null, 5]);
    driven.attach(null, 3);
    expect(seen(NO_SUBSTREAM, 3)).toEqual([null, null]);
    made.free();
    expect(inUse(bench)).toEqual({});
  });

  it('is replaced, and detaching what is not attached does nothing', () => {
    const { driven, domain, seen } = setup();
    driven.attach(domain(5), 3);
    driven.attach(domain(6), 3);
    expect(seen(3)).toEqual([6]);
    driven.attach(null, 4);
    expect(seen(3)).toEqual([6]);
  });

  it('shares the ASID of its domain, whose unmap reaches all who use it', () => {
    const { bench, driven, domain, seen } = setup();
    const made = domain(5);
    driven.attach(made, 0);
    driven.attach(made, 1);
    driven.attach(made, 2);
    expect(bench.drivers[0]!.resources.asids).toBe(1);
    expect(seen(NO_SUBSTREAM, 1, 2)).toEqual([5, 5, 5]);
    made.unmap(0x10000n, 4096n);
    expect(seen(NO_SUBSTREAM, 1, 2)).toEqual([null, null, null]);
  });

  it.each([
    ['a two-level table', {}, 16, 16],
    ['a linear table, where the SMMU has no other', { twoLevelCdTable: false }, 10, 1],
    ['no more PASIDs than the SMMU has', { ssidSize: 4 }, 4, 1],
  ])('stands in %s', (_what, settings, bits, frames) => {
    const { bench, driven, domain, seen } = setup({ ats: false, ...settings });
    expect(driven.maxPasidLog2).toBe(bits);
    driven.attach(domain(5), 0);
    const before = bench.frames.used;
    driven.attach(domain(6), 2 ** bits - 1);
    expect(bench.frames.used - before).toBeGreaterThanOrEqual(frames);
    expect(seen(NO_SUBSTREAM, 2 ** bits - 1, 1)).toEqual([5, 6, null]);
  });

  it('is refused when it is too wide, has no stage 1, or stands beside what is none', () => {
    const { driven, domain } = setup();
    const stage2 = driven.allocPaging(NEST_PARENT, null);
    expect(() => driven.attach(domain(1), 0x10000)).toThrow('EINVAL');
    expect(() => driven.attach(stage2, 1)).toThrow('EINVAL');
    driven.attach(stage2, 0);
    expect(() => driven.attach(domain(1), 1)).toThrow('EINVAL');
    driven.attach(null, 0);
    driven.attach(domain(1), 1);
    expect(() => driven.attach(stage2, 0)).toThrow('EBUSY');
  });

  it('excludes a stage 1 of the guest, which has PASIDs of its own', () => {
    const { bench, device, viommu, nested, contexts } = simple({ settings: { ats: false } });
    const { driven } = device;
    expect(() => driven.attach(nested, 1)).toThrow('EOPNOTSUPP');
    driven.attach(null, 0);
    const own = driven.allocPaging(PASID, null);
    driven.attach(own, 1);
    const another = viommu.allocNested(0, guestSte(STAGE1, contexts, { log2Contexts: 2 }));
    expect(() => driven.attach(another, 0)).toThrow('EBUSY');
    driven.attach(null, 1);
    driven.attach(another, 0);
    expect(bench.notes()).toEqual([]);
  });

  it('that is refused for lack of memory leaves everything as it was', () => {
    const { bench, driven, domain, seen } = setup();
    driven.attach(domain(5), 0);
    const made = domain(6);
    const before = inUse(bench);
    const { allocate } = bench.frames;
    let left = 1;
    bench.frames.allocate = (log2) => {
      if (left-- === 0) throw new Error('none left');
      return allocate.call(bench.frames, log2);
    };
    expect(() => driven.attach(made, 1)).toThrow('none left');
    expect([inUse(bench), seen(NO_SUBSTREAM, 1)]).toEqual([before, [5, null]]);
  });
});

describe('a PASID of a device with ATS', () => {
  it('has the function translate with it as long as anything is attached', () => {
    const { device, driven, domain, seen } = setup({});
    driven.attach(domain(5), 3);
    expect([device.atsOn, seen(3, NO_SUBSTREAM)]).toEqual([true, [5, null]]);
    driven.attach(domain(6), 0);
    driven.attach(null, 3);
    expect([device.atsOn, seen(3, NO_SUBSTREAM)]).toEqual([true, [null, 6]]);
    driven.attach(null, 0);
    expect(device.atsOn).toBe(false);
  });

  it('loses its own translations in the ATC, and no others, on replace and unmap', () => {
    const { bench, driven, domain, seen } = setup({});
    const one = domain(5);
    driven.attach(one, 3);
    driven.attach(domain(6), 4);
    expect(seen(3, 4)).toEqual([5, 6]);
    driven.attach(domain(7), 4);
    expect(seen(3, 4)).toEqual([5, 7]);
    bench.trace.length = 0;
    one.unmap(0x10000n, 4096n);
    const atc = bench.trace.flatMap((event) =>
      event.type === 'command' && (event.words[0]! & 0xff) === 0x40 ? [event.words[0]! >>> 11] : [],
    );
    expect(atc).toEqual([(3 << 1) | 1]);
    expect(seen(3, 4)).toEqual([null, 7]);
  });
});
