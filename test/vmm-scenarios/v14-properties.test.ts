/**
 * V14: whatever a guest maps and unmaps, the mirror of an emulated IOMMU says page by page what the guest does, and a device
 * finds it. What is expected comes from the steps alone, not from anybody's tables.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ShadowFaults } from '../../src/vmm/shadow/faults.ts';
import type { ShadowSpace } from '../../src/vmm/shadow/shadow-space.ts';
import {
  DEVICE,
  GSCID,
  MIB_2,
  PAGE,
  PSCID,
  startIntelGuest,
  startRiscvGuest,
  startVirtioGuest,
  textPage,
} from './v14-rig.ts';

interface Step {
  readonly does: 'map' | 'unmap' | 'unmapMany' | 'big';
  readonly region: number;
  readonly page: number;
  readonly count: number;
  readonly target: number;
}

/** A subject carries out a step in the guest, and writes down what is mapped then: guest-physical pages by IOVA. */
interface Subject {
  readonly space: ShadowSpace;
  readonly expected: Map<bigint, bigint>;
  step(step: Step): void;
  read(iova: bigint): string | null;
  /** Text of a page that a device can find. */
  text(gpa: bigint): string;
}

type Start = (faults: ShadowFaults) => Subject;

const REGIONS = 3;
const PAGES = 6;
const TARGETS = 5;

const steps = fc.array(
  fc.record<Step>({
    does: fc.constantFrom('map', 'map', 'unmap', 'unmapMany', 'big'),
    region: fc.nat(REGIONS - 1),
    page: fc.nat(PAGES - 1),
    count: fc.integer({ min: 1, max: PAGES }),
    target: fc.nat(TARGETS - 1),
  }),
  { minLength: 5, maxLength: 20 },
);

const iovaOf = (region: number, page: number): bigint => BigInt(region + 1) * MIB_2 + BigInt(page) * PAGE;

/** IOVAs of `count` pages. */
const pagesFrom = (iova: bigint, count: number): bigint[] =>
  Array.from({ length: count }, (_, n) => iova + BigInt(n) * PAGE);

const targetsIn = (ram: Parameters<typeof textPage>[0]): bigint[] =>
  Array.from({ length: TARGETS }, (_, n) => textPage(ram, `target ${n}`));

const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes).trimEnd();

/** Leaves of 4 KiB and 2 MiB; what is unmapped may be a whole table. */
const intel: Start = (faults) => {
  const { vm, probe, space, iommu, domain } = startIntelGuest({ faults, ramBytes: 2 ** 23 });
  const big = textPage(vm.ram, 'big', 512);
  const targets = targetsIn(vm.ram);
  const expected = new Map<bigint, bigint>();
  const forget = (iova: bigint, count: number) => {
    for (const page of pagesFrom(iova, count)) expected.delete(page);
  };
  const isBig = (region: number) => expected.has(iovaOf(region, 511));
  const step = ({ does, region, page, count, target }: Step) => {
    const iova = iovaOf(region, page);
    if (does === 'map') {
      // A table takes the place of a leaf of 2 MiB, with one page in it.
      if (isBig(region)) forget(iovaOf(region, 0), 512);
      iommu.map(domain, iova, targets[target]!);
      expected.set(iova, targets[target]!);
    } else if (does === 'big') {
      iommu.map(domain, iovaOf(region, 0), big, { level: 2 });
      for (const [n, at] of pagesFrom(iovaOf(region, 0), 512).entries()) expected.set(at, big + BigInt(n) * PAGE);
    } else {
      const whole = does === 'unmapMany' || isBig(region);
      const from = whole ? iovaOf(region, 0) : iova;
      const pages = whole ? 512 : count;
      iommu.unmap(domain, from, BigInt(pages) * PAGE);
      forget(from, pages);
    }
  };
  return { space, expected, step, read: (iova) => probe.read(iova), text: (gpa) => decode(vm.ram.at(gpa, 16)) };
};

/** Mappings of some pages; what is unmapped holds whole ones. */
const virtio: Start = (faults) => {
  const { vm, probe, space, iommu } = startVirtioGuest({ faults });
  const targets = targetsIn(vm.ram);
  const expected = new Map<bigint, bigint>();
  const step = ({ does, region, page, count, target }: Step) => {
    const iova = iovaOf(region, page);
    const pages = does === 'unmapMany' ? pagesFrom(iova, count) : [iova];
    if (does === 'map' || does === 'big') {
      const answer = expected.has(iova) ? 'INVAL' : 'OK';
      expect(iommu.map(1, iova, targets[target]!, PAGE)).toBe(answer);
      if (answer === 'OK') expected.set(iova, targets[target]!);
    } else {
      expect(iommu.unmap(1, iova, BigInt(pages.length) * PAGE)).toBe('OK');
      for (const at of pages) expected.delete(at);
    }
  };
  return { space, expected, step, read: (iova) => probe.read(iova), text: (gpa) => decode(vm.ram.at(gpa, 16)) };
};

/** Either stage changes, a page at a time. */
const riscv: Start = (faults) => {
  const { vm, probe, space, iommu, first, second, give } = startRiscvGuest({ faults });
  const targets = targetsIn(vm.ram);
  const inner = new Map<bigint, bigint>();
  const outer = new Map<bigint, bigint>();
  const expected = new Map<bigint, bigint>();
  iommu.attach(DEVICE, second, GSCID, first, PSCID);
  const step = ({ does, region, page, target }: Step) => {
    const iova = iovaOf(region, page);
    const gpa = 0x4000_0000n + BigInt(target) * PAGE;
    if (does === 'map' || does === 'unmap') {
      if (does === 'map') first.set(iova, gpa);
      else first.clear(iova);
      iommu.invalidateProcess(GSCID, PSCID, iova);
      inner.set(iova, does === 'map' ? gpa : 0n);
    } else {
      give(gpa, targets[page % TARGETS]!);
      iommu.invalidateGuest(GSCID, gpa);
      outer.set(gpa, targets[page % TARGETS]!);
    }
    expected.clear();
    for (const [from, to] of inner) if (outer.has(to)) expected.set(from, outer.get(to)!);
  };
  return { space, expected, step, read: (iova) => probe.read(iova), text: (gpa) => decode(vm.ram.at(gpa, 16)) };
};

/** The mirror, page by page. */
const pagesOf = ({ mirrored }: ShadowSpace): [bigint, bigint][] =>
  mirrored.flatMap(({ iova, gpa, length }) =>
    pagesFrom(iova, Number(length / PAGE)).map((at, n): [bigint, bigint] => [at, gpa + BigInt(n) * PAGE]),
  );

/** The first difference between what is mirrored or found and what is expected; '' when there is none. */
function firstSurprise(start: Start, list: readonly Step[], faults: ShadowFaults): string {
  const subject = start(faults);
  const { space, expected } = subject;
  for (const step of list) {
    subject.step(step);
    const mirror = new Map(pagesOf(space));
    for (const [iova, gpa] of mirror) if (expected.get(iova) !== gpa) return `${step.does}: stale ${iova.toString(16)}`;
    for (const iova of expected.keys()) if (!mirror.has(iova)) return `${step.does}: missing ${iova.toString(16)}`;
    for (let region = 0; region < REGIONS; region++) {
      const iova = iovaOf(region, step.page);
      const gpa = expected.get(iova);
      const [found, wanted] = [subject.read(iova), gpa === undefined ? null : subject.text(gpa)];
      if (found !== wanted) return `${step.does}: ${iova.toString(16)} is ${found}, expected ${wanted}`;
    }
  }
  return '';
}

const EMULATIONS: readonly (readonly [string, Start, ShadowFaults])[] = [
  ['intel-iommu', intel, { skipAbsentTables: true }],
  ['virtio-iommu', virtio, { roundUnmaps: true }],
  ['riscv-iommu', riscv, { gvmaSingleStage: true }],
];

describe('a right VMM mirrors what the guest maps, and nothing else', () => {
  it.each(EMULATIONS)('%s', { timeout: 60_000 }, (_name, start) => {
    const property = fc.property(steps, (list) => {
      expect(firstSurprise(start, list, {})).toBe('');
    });
    fc.assert(property, { numRuns: 15, seed: 1 });
  });
});

describe('the same property finds the mistake of', () => {
  it.each(EMULATIONS)('%s', { timeout: 60_000 }, (_name, start, faults) => {
    const property = fc.property(steps, (list) => firstSurprise(start, list, faults) === '');
    const { counterexample } = fc.check(property, { numRuns: 40, seed: 1, endOnFailure: true });
    expect(firstSurprise(start, counterexample![0], faults)).toContain('stale');
  });
});
