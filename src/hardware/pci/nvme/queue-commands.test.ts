import { describe, expect, it } from 'vitest';
import { type Disk, MemoryStore } from './disk.ts';
import { ADMIN_CQ, blocks, entryBytes, nvmeRig, startedRig } from './testing.ts';

describe('queues', () => {
  const MOST = 0xffff;
  it('are granted up to 32 of each kind', () => {
    const { driver } = nvmeRig();
    driver.start();
    const set = (value: number) => driver.admin({ opcode: 0x09, dwords: [0x07, value] });
    expect(set(0x0003_0001)).toMatchObject({ status: 0, result: 0x0003_0001 });
    expect(set(0x00ff_00ff)).toMatchObject({ status: 0, result: 0x001f_001f });
    expect(set(0xffff_0000).status).toBe(0x002);
    expect(driver.admin({ opcode: 0x0a, dwords: [0x07] }).result).toBe(0x001f_001f);
    driver.createPair(1);
    expect(set(0x0001_0001).status).toBe(0x00c);
  });

  const cq = (id: number, entries = 16, flags = 1, prp1 = 0x9000) => ({
    opcode: 5,
    prp1,
    dwords: [(entries - 1) * 2 ** 16 + id, flags],
  });
  const sq = (id: number, completions: number, entries = 16, flags = 1, prp1 = 0xa000) => ({
    opcode: 1,
    prp1,
    dwords: [(entries - 1) * 2 ** 16 + id, flags + completions * 2 ** 16],
  });

  it.each([
    ['a completion queue 0', cq(0), 0x101],
    ['a completion queue that exists', cq(1), 0x101],
    ['a completion queue beyond those granted', cq(5), 0x101],
    ['a completion queue beyond those there are', cq(MOST), 0x101],
    ['a completion queue of one entry', cq(2, 1), 0x102],
    ['a completion queue of more entries than there may be', cq(2, 4097), 0x102],
    ['a completion queue that is not contiguous', cq(2, 16, 0), 0x002],
    ['a completion queue that begins within a page', cq(2, 16, 1, 0x9010), 0x013],
    ['a vector that only MSI-X has, with the pin', cq(2, 16, 0x0001_0003), 0x108],
    ['a submission queue 0', sq(0, 1), 0x101],
    ['a submission queue that exists', sq(1, 1), 0x101],
    ['a submission queue beyond those granted', sq(5, 1), 0x101],
    ['a submission queue of one entry', sq(2, 1, 1), 0x102],
    ['a submission queue of more entries than there may be', sq(2, 1, 4097), 0x102],
    ['a submission queue that is not contiguous', sq(2, 1, 16, 0), 0x002],
    ['a submission queue that begins within a page', sq(2, 1, 16, 1, 0x9800), 0x013],
    ['a submission queue for the admin completion queue', sq(2, 0), 0x101],
    ['a submission queue for a completion queue beyond those granted', sq(2, 9), 0x101],
    ['a submission queue without its completion queue', sq(2, 2), 0x100],
    ['deletion of submission queue 0', { opcode: 0, dwords: [0] }, 0x101],
    ['deletion of a submission queue that does not exist', { opcode: 0, dwords: [2] }, 0x101],
    ['deletion of a completion queue that does not exist', { opcode: 4, dwords: [2] }, 0x101],
    ['deletion of a completion queue that is used', { opcode: 4, dwords: [1] }, 0x10c],
  ])('refuse %s', (_what, entry, status) => {
    const { driver } = nvmeRig();
    driver.start();
    driver.admin({ opcode: 0x09, dwords: [0x07, 0x0003_0003] });
    driver.createPair(1);
    expect(driver.admin(entry).status).toBe(status);
  });

  it('refuse to be made before CC has the sizes of their entries', () => {
    const { driver } = nvmeRig();
    driver.start(8, 1);
    expect(driver.admin(cq(1)).status).toBe(0x102);
  });

  it('take a vector of MSI-X when that is on, and none beyond', () => {
    const { driver, fn } = nvmeRig();
    fn.writeConfig(0x82, 2, 0x8000);
    driver.start();
    expect(driver.admin(cq(1, 16, 0x0020_0003)).status).toBe(0);
    expect(driver.admin(cq(2, 16, 0x0021_0003)).status).toBe(0x108);
  });

  it('can be deleted and made again', () => {
    const { driver } = startedRig();
    expect(driver.admin({ opcode: 0, dwords: [1] }).status).toBe(0);
    expect(driver.admin({ opcode: 4, dwords: [1] }).status).toBe(0);
    expect(driver.createPair(1)).toEqual([0, 0]);
    expect(driver.run(1, { opcode: 0, nsid: 1 }).status).toBe(0);
  });

  it('keep completions in line while there is no room, and take no commands meanwhile', () => {
    const { driver } = nvmeRig();
    driver.start();
    driver.createPair(1, 16, -1, 4);
    const ids = Array.from({ length: 10 }, () => driver.queue(1, { opcode: 0, nsid: 1 }));
    driver.ring(1);
    const first = driver.take(1)!;
    expect([first.id, first.head]).toEqual([ids[0], 1]);
    const seen = [first, ...Array.from({ length: 9 }, () => driver.take(1)!)];
    expect(seen.map(({ id }) => id)).toEqual(ids);
    expect(seen.every(({ head }, i) => head === i + 1)).toBe(true);
    expect(driver.take(1)).toBeNull();
  });

  it('of many entries do not keep others waiting', () => {
    const store = new MemoryStore(2 ** 20);
    const { driver, host, clock } = nvmeRig({ disks: [{ store, blockBytes: 512 }] });
    driver.start();
    expect(driver.admin(cq(1, 4096, 1, 0x10000)).status).toBe(0);
    expect(driver.admin(sq(1, 1, 4096, 1, 0x40000)).status).toBe(0);
    const flush = entryBytes(0, { opcode: 0, nsid: 1 });
    for (let i = 0; i < 2000; i++) host.poke(0x40000 + 64 * i, flush);
    let flushes = 0;
    store.flush = () => ++flushes > 0;
    driver.queue(0, { opcode: 0x0a, dwords: [7] });
    host.write32(0x1008, 2000);
    host.write32(0x1000, driver.rings.get(0)!.tail);
    let seenByClock = -1;
    clock.defer(() => (seenByClock = flushes));
    const adminDone = host.peek(ADMIN_CQ + 16 * driver.rings.get(0)!.head + 14, 1)[0];
    expect(adminDone! & 1).toBe(0);
    host.settle();
    expect(flushes).toBe(2000);
    expect(seenByClock).toBeLessThan(64);
    expect(driver.take(0)).toMatchObject({ status: 0 });
  });

  it('of commands that change much do not keep others waiting', () => {
    const store = new MemoryStore(2 ** 30);
    const { driver, host, clock } = startedRig({ disks: [{ store, blockBytes: 4096 }] });
    const MIB = 2 ** 20;
    let cleared = 0;
    store.zero = (_at, bytes) => (cleared += bytes) > 0;
    for (let i = 0; i < 3; i++) driver.queue(1, { opcode: 8, nsid: 1, dwords: blocks(0, 65536) });
    const flush = driver.queue(1, { opcode: 0, nsid: 1 });
    host.write32(0x1008, 4);
    expect([clock.settle(1), cleared / MIB]).toEqual([false, 2]);
    let flushedAfter = 0;
    store.flush = () => (flushedAfter = cleared) > 0;
    expect([clock.settle(), cleared / MIB, flushedAfter < 20 * MIB]).toEqual([true, 768, true]);
    expect(driver.take(1)!.id).toBe(flush);
  });

  it('take turns, a command each', () => {
    const order: number[] = [];
    const disk = (id: number): Disk => {
      const store = new MemoryStore(4096);
      store.flush = () => order.push(id) > 0;
      return { store, blockBytes: 512 };
    };
    const { driver, host } = nvmeRig({ disks: [disk(1), disk(2)] });
    driver.start();
    for (const id of [1, 2]) {
      driver.createPair(id);
      for (let i = 0; i < 3; i++) driver.queue(id, { opcode: 0, nsid: id });
    }
    host.write32(0x1008, 3);
    host.write32(0x1010, 3);
    host.settle();
    expect(order).toEqual([1, 2, 1, 2, 1, 2]);
  });
});
