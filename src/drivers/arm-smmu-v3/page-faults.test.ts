/** Page requests on their way to whoever is attached, without the machine's clock in between. */
import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM, READ, STALLED } from '../../hardware/iommu.ts';
import { STALL_MODEL_BOTH } from '../../hardware/smmuv3/spec/registers.ts';
import type { PageRequest, PagingDomain, Respond } from '../iommu-driver.ts';
import { Bench } from './testing.ts';

function setup() {
  const bench = new Bench({ settings: { ats: true, pri: true, stallModel: STALL_MODEL_BOTH } });
  const device = bench.device(0, 0x100);
  const { driven } = device;
  const heard: [request: PageRequest, respond: Respond][] = [];
  driven.pageRequests = { report: (request, respond) => heard.push([request, respond]), discardPartial: () => {} };
  const domain: PagingDomain = driven.allocPaging(0, null);
  domain.handlesFaults = true;
  driven.attach(domain, 0);
  const ends: boolean[] = [];
  const requester = { stallEnded: (retry: boolean) => void ends.push(retry) };
  return { bench, device, driven, smmu: bench.smmus[0]!, domain, heard, requester, ends };
}

describe('page requests of a function', () => {
  it('are on while something is attached that has them answered, and only then', () => {
    const { driven, device, domain } = setup();
    const other: PagingDomain = driven.allocPaging(0, null);
    const seen = [device.priOn];
    for (const next of [other, domain, null]) {
      driven.attach(next, 0);
      seen.push(device.priOn);
    }
    expect(seen).toEqual([true, false, true, false]);
  });
});

describe('a page request that the SMMU has recorded', () => {
  it('of a stall is heard of before something else is attached', () => {
    const { driven, smmu, heard, requester, ends, bench } = setup();
    expect(smmu.translate(0x100, NO_SUBSTREAM, 0x10, 0, READ, requester)).toBe(STALLED);
    expect(heard).toEqual([]);
    driven.attach(null, 0);
    expect(heard.map(([{ address }]) => address)).toEqual([0x10000n]);
    heard[0]![1](1);
    expect(ends).toEqual([false]);
    bench.clock.settle();
    expect(heard.length).toBe(1);
  });

  it('of PRI is heard of before something else is attached', () => {
    const { driven, device, smmu, heard, bench } = setup();
    const rights = { read: true, write: false, execute: false, privileged: false };
    smmu.pageRequest({ stream: 0x100, substream: NO_SUBSTREAM, frame: 0x10, groupIndex: 5, last: true, ...rights });
    driven.attach(null, 0);
    expect(heard.map(([{ group }]) => group)).toEqual([5]);
    heard[0]![1](1);
    bench.clock.settle();
    expect([heard.length, device.responses]).toEqual([1, [[NO_SUBSTREAM, 5, 1]]]);
  });

  it("to stop a PASID is nobody's: no group, no answer (8)", () => {
    const { device, smmu, heard, bench } = setup();
    const marker = { read: false, write: false, execute: false, privileged: false, groupIndex: 0, last: true };
    smmu.pageRequest({ stream: 0x100, substream: 3, frame: 0, ...marker });
    bench.clock.settle();
    expect([heard, device.responses]).toEqual([[], []]);
  });

  it('is refused for good while nobody is bound who could answer', () => {
    const { driven, device, smmu, requester, ends, bench } = setup();
    driven.pageRequests = null;
    smmu.translate(0x100, NO_SUBSTREAM, 0x10, 0, READ, requester);
    const rights = { read: true, write: false, execute: false, privileged: false };
    smmu.pageRequest({ stream: 0x100, substream: NO_SUBSTREAM, frame: 0x10, groupIndex: 6, last: true, ...rights });
    bench.clock.settle();
    expect([ends, device.responses]).toEqual([[false], [[NO_SUBSTREAM, 6, 0b1111]]]);
  });
});
