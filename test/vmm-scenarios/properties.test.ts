/** Whatever a guest does, with the commands that belong to it, its device finds what the guest has mapped: now, not before. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Faults } from '../../src/vmm/faults.ts';
import { startQueues } from './cmdqv-rig.ts';
import { ABIS, IOVA, startGuest } from './rig.ts';

type Start = typeof startGuest;

const PAGES = 8;

interface Step {
  readonly does: 'map' | 'unmap' | 'unmapPages' | 'replace' | 'pass' | 'switchOff';
  readonly page: number;
  readonly count: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  does: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom('map', 'unmap', 'unmapPages') },
    { weight: 1, arbitrary: fc.constantFrom('replace', 'pass', 'switchOff') },
  ) as fc.Arbitrary<Step['does']>,
  page: fc.nat(PAGES - 1),
  count: fc.integer({ min: 1, max: PAGES }),
});

const iovaOf = (n: number): bigint => IOVA + BigInt(4096 * n);

/** The first read that gives something else than what is mapped; '' when there is none. */
async function firstSurprise(
  steps: readonly Step[],
  ats: boolean,
  faults: Faults,
  launch: Start = startGuest,
): Promise<string> {
  const { guest, smmu, fn, probe, space: first } = await launch({ ats, faults });
  let space = first;
  const mapped = new Map<number, string>([[0, 'first page']]);
  let next = 0;
  const start = () => {
    space = guest.attach(smmu, fn, { ats });
    mapped.clear();
  };
  const unmap = (from: number, count: number) => {
    if (count === 1) smmu.unmap(space, iovaOf(from));
    else smmu.unmapPages(space, iovaOf(from), count);
    for (let n = from; n < from + count; n++) mapped.delete(n);
  };
  const map = (at: number) => {
    const gpa = guest.ram.allocate();
    const text = `page ${next++}`;
    guest.ram.at(gpa, 16).set(new TextEncoder().encode(text.padEnd(16)));
    unmap(at, 1);
    smmu.map(space, iovaOf(at), gpa);
    mapped.set(at, text);
  };
  for (const { does, page, count } of steps) {
    if (does === 'map') map(page);
    else if (does === 'unmap') unmap(page, 1);
    else if (does === 'unmapPages') unmap(page, count);
    else {
      if (does === 'pass') smmu.setPassing(fn.sid, true);
      if (does === 'switchOff') smmu.start();
      start();
    }
    for (let n = 0; n < PAGES; n++) {
      const [found, expected] = [probe.read(iovaOf(n)), mapped.get(n) ?? null];
      if (found !== expected) return `after ${does} of ${page} page ${n} is ${found}, expected ${expected}`;
    }
  }
  return '';
}

describe('a right VMM', () => {
  const kinds = ABIS.flatMap((abi): [string, Start][] => [
    [abi, (choice) => startGuest({ abi, ...choice })],
    [`${abi} and command queues that the hardware reads`, (choice) => startQueues({ abi, ...choice })],
  ]);

  it.each(kinds)(
    'never lets a device find anything but what is mapped, with %s',
    { timeout: 60_000 },
    async (_kind, launch) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), fc.boolean(), async (steps, ats) => {
          expect(await firstSurprise(steps, ats, {}, launch)).toBe('');
        }),
        { numRuns: 12, seed: 1 },
      );
    },
  );
});

describe('the same property finds', () => {
  it.each<[string, Faults, boolean]>([
    ['TLBI commands that are kept back', { skipTlbiForwarding: true }, false],
    ['ATC_INV that is kept back', { skipAtcInvForwarding: true }, true],
    ['ranges that are rounded', { roundRanges: true }, false],
  ])('%s', { timeout: 60_000 }, async (_what, faults, ats) => {
    const property = fc.asyncProperty(fc.array(step, { minLength: 15, maxLength: 25 }), async (steps) => {
      return (await firstSurprise(steps, ats, faults)) === '';
    });
    expect((await fc.check(property, { numRuns: 25, seed: 1, endOnFailure: true })).failed).toBe(true);
  });
});
