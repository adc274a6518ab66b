/** Commands whose accesses stall at the IOMMU: each waits by itself, and goes on, or is ended. */
import { describe, expect, it } from 'vitest';
import { ADMIN_CQ, ADMIN_SQ, blocks, type NvmeRig, startedRig } from './testing.ts';

const SQ1 = 0x10000;
const CQ1 = 0x14000;
const MISSING = 0x90_0000;
const READ = (prp1: number, prp2 = 0) => ({ opcode: 2, nsid: 1, prp1, prp2, dwords: blocks(0, prp2 ? 16 : 8) });
const FLUSH = { opcode: 0, nsid: 1 };

function rigThatStalls(): NvmeRig {
  const rig = startedRig({ canStall: true });
  rig.iommu.stalls = true;
  rig.disks[0]!.store.write(0, new Uint8Array(8192).fill(0xaa));
  return rig;
}

/** Maps what stalled first, or not, and ends the stall. */
function end({ iommu, clock }: NvmeRig, address: number, mapped = true): void {
  if (mapped) iommu.map(address / 4096, (address / 4096) & 0xff);
  iommu.stalled.shift()!.stallEnded(mapped);
  clock.settle();
}

const memoryOf = (address: number): number => ((address / 4096) & 0xff) * 4096;

describe('a command that waits', () => {
  it('for its data lets those behind it pass', () => {
    const rig = rigThatStalls();
    const { driver, iommu, host } = rig;
    const read = driver.queue(1, READ(MISSING + 0x2_0000));
    const flush = driver.queue(1, FLUSH);
    driver.ring(1);
    expect(iommu.stalled.length).toBe(1);
    expect(driver.take(1)!.id).toBe(flush);
    expect(driver.take(1)).toBeNull();
    end(rig, MISSING + 0x2_0000);
    expect(driver.take(1)).toMatchObject({ id: read, status: 0 });
    expect(host.peek(memoryOf(MISSING + 0x2_0000), 4096)).toEqual(new Uint8Array(4096).fill(0xaa));
  });

  it('for its second page has written the first one once', () => {
    const rig = rigThatStalls();
    const { driver, host } = rig;
    driver.queue(1, READ(0x30000, MISSING + 0x2_0000));
    driver.ring(1);
    expect(host.peek(0x30000, 4096)).toEqual(new Uint8Array(4096).fill(0xaa));
    host.poke(0x30000, new Uint8Array(4096));
    end(rig, MISSING + 0x2_0000);
    expect(driver.take(1)!.status).toBe(0);
    expect(host.peek(0x30000, 4096)).toEqual(new Uint8Array(4096));
  });

  it('for nothing ends with a Data Transfer Error', () => {
    const rig = rigThatStalls();
    rig.driver.queue(1, READ(MISSING));
    rig.driver.ring(1);
    end(rig, MISSING, false);
    expect(rig.driver.take(1)).toMatchObject({ status: 0x004 });
  });

  it('for its list of pages goes on', () => {
    const rig = rigThatStalls();
    const { driver, host } = rig;
    const list = MISSING + 0x2_0000;
    host.poke(memoryOf(list), new Uint8Array(BigUint64Array.of(0x31000n, 0x32000n).buffer));
    driver.queue(1, { ...READ(0x30000, list), dwords: blocks(0, 24) });
    driver.ring(1);
    end(rig, list);
    expect(driver.take(1)!.status).toBe(0);
  });

  it('to be fetched keeps its queue, and no other, waiting', () => {
    const rig = rigThatStalls();
    const { driver, iommu } = rig;
    driver.createPair(2);
    iommu.mapping.delete(SQ1 / 4096);
    const flush = driver.queue(1, FLUSH);
    driver.queue(1, FLUSH);
    driver.ring(1);
    expect(iommu.stalled.length).toBe(1);
    expect(driver.run(2, FLUSH).status).toBe(0);
    end(rig, SQ1);
    expect(driver.take(1)!.id).toBe(flush);
    expect(driver.take(1)!.status).toBe(0);
  });

  it('to be completed keeps the completions behind it in order', () => {
    const rig = rigThatStalls();
    const { driver, iommu } = rig;
    iommu.mapping.delete(CQ1 / 4096);
    const ids = [driver.queue(1, FLUSH), driver.queue(1, FLUSH), driver.queue(1, FLUSH)];
    driver.ring(1);
    expect(driver.take(1)).toBeNull();
    end(rig, CQ1);
    expect([driver.take(1)!.id, driver.take(1)!.id, driver.take(1)!.id]).toEqual(ids);
  });

  it('can be aborted; what its access had still to move does not move', () => {
    const rig = rigThatStalls();
    const { driver, host, iommu } = rig;
    const read = driver.queue(1, READ(MISSING + 0x2_0000));
    driver.ring(1);
    expect(driver.admin({ opcode: 8, dwords: [1 + read * 2 ** 16] })).toMatchObject({ status: 0, result: 0 });
    expect(driver.take(1)).toMatchObject({ id: read, status: 0x007, doNotRetry: false });
    expect(iommu.stalled).toEqual([]);
    expect(host.peek(memoryOf(MISSING + 0x2_0000), 1)).toEqual(Uint8Array.of(0));
    expect(driver.run(1, FLUSH).status).toBe(0);
  });

  it('is ended when its submission queue is deleted', () => {
    const rig = rigThatStalls();
    const { driver, iommu } = rig;
    const read = driver.queue(1, READ(MISSING));
    driver.ring(1);
    expect(driver.admin({ opcode: 0, dwords: [1] }).status).toBe(0);
    expect(driver.take(1)).toMatchObject({ id: read, status: 0x008 });
    expect(iommu.stalled).toEqual([]);
  });

  it('to be completed goes to the queue that was its own, though its submission queue is another one now', () => {
    const rig = rigThatStalls();
    const { driver, iommu, host } = rig;
    driver.createPair(2);
    iommu.mapping.delete(CQ1 / 4096);
    const old = driver.queue(1, FLUSH);
    driver.ring(1);
    expect(driver.admin({ opcode: 0, dwords: [1] }).status).toBe(0);
    const size = 15 * 0x1_0000;
    expect(driver.admin({ opcode: 1, prp1: SQ1, dwords: [size + 1, 1 + 2 * 0x1_0000] }).status).toBe(0);
    driver.rings.get(1)!.tail = 0;
    end(rig, CQ1);
    expect(driver.take(1)!.id).toBe(old);
    const made = driver.queue(1, FLUSH);
    host.write32(0x1008, 1);
    rig.clock.settle();
    expect([driver.take(1), driver.take(2)!.id, driver.take(2)]).toEqual([null, made, null]);
  });

  it.each([
    ['a controller reset', ({ driver }: NvmeRig) => driver.disable()],
    ['a function level reset', ({ fn }: NvmeRig) => fn.reset()],
  ])('is forgotten by %s, even if its access could go on at that moment', (_what, reset) => {
    const rig = rigThatStalls();
    const { driver, iommu, fn } = rig;
    driver.queue(1, READ(MISSING));
    driver.queue(1, READ(MISSING));
    driver.ring(1);
    iommu.stalled.shift()!.stallEnded(true);
    reset(rig);
    expect(iommu.stalled).toEqual([]);
    rig.clock.settle();
    fn.writeConfig(4, 2, 6);
    expect(driver.start()).toBe(1);
    driver.createPair(1);
    expect(driver.run(1, FLUSH).status).toBe(0);
    expect(driver.take(1)).toBeNull();
  });

  it('is refused when bus mastering goes, and then nothing can be told any more', () => {
    const rig = rigThatStalls();
    const { driver, fn, clock, host } = rig;
    driver.queue(1, READ(MISSING));
    driver.ring(1);
    fn.writeConfig(4, 2, 2);
    clock.settle();
    expect(host.read32(0x1c)).toBe(3);
  });

  it('leaves room for admin commands, however many there are', () => {
    const rig = rigThatStalls();
    const { driver, iommu } = rig;
    driver.createPair(2, 80);
    for (let i = 0; i < 79; i++) driver.queue(2, READ(MISSING));
    driver.ring(2);
    expect(iommu.stalled.length).toBeLessThan(79);
    expect(driver.run(0, { opcode: 0x0a, dwords: [7] }).status).toBe(0);
    rig.iommu.map(MISSING / 4096, 0x40);
    while (iommu.stalled.length) iommu.stalled.shift()!.stallEnded(true);
    rig.clock.settle();
    while (iommu.stalled.length) end(rig, MISSING);
    let done = 0;
    for (; driver.take(2); done++);
    expect(done).toBe(79);
  });
});

describe('an admin queue that waits', () => {
  it('for an asynchronous event to give its place to a command goes on', () => {
    const rig = rigThatStalls();
    const { driver, host, iommu } = rig;
    driver.start(32);
    driver.createPair(2, 80);
    for (let i = 0; i < 79; i++) driver.queue(2, READ(MISSING));
    driver.ring(2);
    for (let i = 0; i < 4; i++) driver.queue(0, { opcode: 0x0c });
    for (let i = 0; i < 4; i++) driver.queue(0, { opcode: 0x06, prp1: MISSING, dwords: [1] });
    const last = driver.queue(0, { opcode: 0x0a, dwords: [7] });
    driver.ring(0);
    expect([iommu.stalled.length, driver.take(0)]).toEqual([60, null]);
    // No queue 9 exists: an event of type error.
    host.write32(0x1000 + 8 * 9, 1);
    rig.clock.settle();
    // Both are complete before the driver has rung for the first.
    const { head } = driver.rings.get(0)!;
    expect([0, 1].map((i) => host.peek(ADMIN_CQ + 16 * (head + i) + 14, 1)[0]! & 1)).toEqual([1, 1]);
    expect([driver.take(0)!.result & 7, driver.take(0)!.id]).toEqual([0, last]);
  });

  it.each([
    ['to be read', ADMIN_SQ],
    ['to be written', ADMIN_CQ],
  ])('%s goes on', (_what, address) => {
    const rig = rigThatStalls();
    rig.iommu.mapping.delete(address / 4096);
    rig.driver.queue(0, { opcode: 0x0a, dwords: [7] });
    rig.driver.ring(0);
    expect(rig.driver.take(0)).toBeNull();
    end(rig, address);
    expect(rig.driver.take(0)!.status).toBe(0);
  });
});
