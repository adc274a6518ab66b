/** The guest's driver on an SMMU that is no VMM's: the silicon itself, with guest RAM for its memory. */
import { describe, expect, it } from 'vitest';
import { Clock } from '../../hardware/clock.ts';
import { ABORTED, READ, TRANSLATED } from '../../hardware/iommu.ts';
import { DEFAULT_SETTINGS, type SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import { Smmu } from '../../hardware/smmuv3/smmu.ts';
import { SILENT } from '../../trace/events.ts';
import { AddressSpace } from './address-space.ts';
import { frameOf, GuestRam } from './ram.ts';
import { GuestSmmuDriver } from './smmu-driver.ts';

const IOVA = 0x1234_5000n;
const STREAM = 9;
const MIB = 2 ** 20;

function boot(settings: Partial<SmmuSettings> = {}) {
  const ram = new GuestRam(new Uint8Array(4 * MIB));
  const clock = new Clock();
  const interrupt = () => driver.interrupt();
  const irq = { eventq: interrupt, gerror: interrupt, priq: interrupt, cmdqSync: () => {} };
  const smmu = new Smmu({
    name: 'smmu',
    memory: ram.space,
    settings: { ...DEFAULT_SETTINGS, ...settings },
    clock,
    tracer: SILENT,
    irq,
  });
  const driver = new GuestSmmuDriver(smmu, ram);
  driver.start();
  const space = new AddressSpace(ram, 3);
  const read = (iova: bigint, ssid = -1) => {
    const outcome = smmu.translate(STREAM, ssid, frameOf(iova), 0, READ);
    clock.settle();
    return outcome === TRANSLATED ? smmu.outFrame : outcome === ABORTED ? 'aborted' : 'other';
  };
  return { ram, smmu, driver, space, read };
}

describe("the guest's SMMU driver on silicon", () => {
  it('has streams refused until they are attached, and hears of it', () => {
    const { driver, read } = boot();
    expect(read(IOVA)).toBe('aborted');
    // C_BAD_STE
    expect(driver.events.map((words) => [words[0]! & 0xff, words[1]])).toEqual([[4, STREAM]]);
  });

  it('maps, and unmaps with all that is cached', () => {
    const { ram, driver, space, read } = boot();
    const gpa = ram.allocate();
    driver.attach(STREAM, space);
    driver.map(space, IOVA, gpa);
    expect(read(IOVA)).toBe(frameOf(gpa));
    driver.unmap(space, IOVA);
    expect(read(IOVA)).toBe('aborted');
    expect(driver.commandError).toBe(0);
  });

  it.each([true, false])('unmaps any number of pages from any page on (range invalidation: %s)', (ril) => {
    const { ram, driver, space, read } = boot({ ril });
    driver.attach(STREAM, space);
    const gpa = ram.allocate();
    for (const [first, pages] of [
      [3, 1],
      [3, 7],
      [5, 33],
      [1, 70],
    ] as const) {
      const iovas = Array.from({ length: pages + 2 }, (_, page) => IOVA + BigInt(4096 * (first + page)));
      for (const iova of iovas) driver.map(space, iova, gpa);
      for (const iova of iovas) expect(read(iova)).toBe(frameOf(gpa));
      driver.unmapPages(space, iovas[1]!, pages);
      const left = iovas.filter((iova) => read(iova) !== 'aborted');
      expect(left).toEqual([iovas[0], iovas.at(-1)]);
    }
    expect(driver.commandError).toBe(0);
  });

  it('lets streams pass, and refuses them', () => {
    const { driver, read } = boot();
    driver.setPassing(STREAM, true);
    expect(read(IOVA)).toBe(frameOf(IOVA));
    driver.setPassing(STREAM, false);
    expect(read(IOVA)).toBe('aborted');
  });

  it('puts one SSID behind an address space of its own', () => {
    const { ram, driver, space, read } = boot();
    const [first, second] = [ram.allocate(), ram.allocate()];
    const other = new AddressSpace(ram, 4);
    driver.attach(STREAM, space, { log2Ssids: 2 });
    driver.map(space, IOVA, first);
    driver.map(other, IOVA, second);
    expect([read(IOVA), read(IOVA, 1)]).toEqual([frameOf(first), frameOf(first)]);
    driver.attachSsid(STREAM, 1, other);
    expect([read(IOVA), read(IOVA, 1)]).toEqual([frameOf(first), frameOf(second)]);
  });

  it('goes round its queues many times', () => {
    const { ram, driver, space, read } = boot();
    driver.attach(STREAM, space);
    const gpa = ram.allocate();
    for (let round = 0; round < 200; round++) {
      driver.map(space, IOVA, gpa);
      expect(read(IOVA)).toBe(frameOf(gpa));
      driver.unmap(space, IOVA);
      expect(read(IOVA)).toBe('aborted');
    }
    expect([driver.commandError, driver.events.length, driver.overflows]).toEqual([0, 200, 0]);
  });
});
