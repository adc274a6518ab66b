import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Disk, MemoryStore } from './disk.ts';
import { ALL, blocks, type Completion, type NvmeRig, nvmeRig, startedRig } from './testing.ts';

const [FLUSH, WRITE, READ, COMPARE, WRITE_ZEROES, DATASET] = [0, 1, 2, 5, 8, 9];
const MIB = 2 ** 20;
const HERE = 0x20000;
const THERE = 0x30000;

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * seed + seed) & 0xff);

const io = ({ driver }: NvmeRig, opcode: number, first: number, count: number, prp1: number, prp2 = 0): Completion =>
  driver.run(1, { opcode, nsid: 1, prp1, prp2, dwords: blocks(first, count) });

describe('blocks', () => {
  it('are read back as they were written, and are zero before', () => {
    const rig = startedRig();
    rig.host.poke(HERE, pattern(1024));
    rig.host.poke(THERE, pattern(1024, 9));
    expect(io(rig, READ, 7, 2, THERE).status).toBe(0);
    expect(rig.host.peek(THERE, 1024)).toEqual(new Uint8Array(1024));
    expect(io(rig, WRITE, 7, 2, HERE)).toMatchObject({ status: 0, queue: 1 });
    expect(io(rig, READ, 8, 1, THERE).status).toBe(0);
    expect(rig.host.peek(THERE, 512)).toEqual(pattern(1024).subarray(512));
  });

  it('of 4096 bytes are counted in 4096 bytes', () => {
    const store = new MemoryStore(MIB);
    const rig = startedRig({ disks: [{ store, blockBytes: 4096 }] });
    rig.host.poke(HERE, pattern(4096));
    expect(io(rig, WRITE, 255, 1, HERE).status).toBe(0);
    const bytes = new Uint8Array(4096);
    store.read(255 * 4096, bytes);
    expect(bytes).toEqual(pattern(4096));
    expect(io(rig, WRITE, 256, 1, HERE).status).toBe(0x080);
  });

  it.each([
    ['start behind the end', 2048, 1],
    ['end behind the end', 2040, 9],
  ])('are out of range when they %s', (_what, first, count) => {
    const rig = startedRig();
    for (const opcode of [READ, WRITE, COMPARE, WRITE_ZEROES]) {
      expect(io(rig, opcode, first, count, HERE, THERE)).toMatchObject({ status: 0x080, doNotRetry: true });
    }
  });

  it('are out of range with any of the 64 bits of their number', () => {
    const { driver } = startedRig();
    for (const high of [1, 0x8000_0000]) {
      expect(driver.run(1, { opcode: READ, nsid: 1, prp1: HERE, dwords: [0, high, 0] }).status).toBe(0x080);
    }
  });

  it('belong to a namespace that exists', () => {
    const { driver } = startedRig();
    for (const nsid of [0, 2, ALL]) {
      for (const opcode of [READ, WRITE, COMPARE, WRITE_ZEROES, DATASET]) {
        expect(driver.run(1, { opcode, nsid, prp1: HERE, dwords: blocks(0, 1) }).status).toBe(0x00b);
      }
    }
  });

  it('of two namespaces are not the same', () => {
    const disk = (): Disk => ({ store: new MemoryStore(MIB), blockBytes: 512 });
    const { driver, host } = startedRig({ disks: [disk(), disk()] });
    host.poke(HERE, pattern(512));
    expect(driver.run(1, { opcode: WRITE, nsid: 2, prp1: HERE, dwords: blocks(0, 1) }).status).toBe(0);
    expect(driver.run(1, { opcode: READ, nsid: 1, prp1: THERE, dwords: blocks(0, 1) }).status).toBe(0);
    expect(host.peek(THERE, 512)).toEqual(new Uint8Array(512));
  });

  it('survive a controller reset and a function level reset', () => {
    const rig = startedRig();
    const { driver, host, fn } = rig;
    host.poke(HERE, pattern(512));
    io(rig, WRITE, 0, 1, HERE);
    fn.reset();
    fn.writeConfig(4, 2, 6);
    driver.start();
    driver.createPair(1);
    expect(io(rig, READ, 0, 1, THERE).status).toBe(0);
    expect(host.peek(THERE, 512)).toEqual(pattern(512));
  });
});

/** Where the bytes of a transfer lie, and the lists that say so, written into memory. Pages come from `pages` in turn. */
function layOut(
  { host }: NvmeRig,
  shape: { bytes: number; offset: number; listOffset: number; pageBytes: number },
  pages: number[],
) {
  const { bytes, offset, listOffset, pageBytes } = shape;
  const take = (): number => pages.shift()!;
  const prp1 = take() + offset;
  const segments: [number, number][] = [[prp1, Math.min(bytes, pageBytes - offset)]];
  let left = bytes - segments[0]![1];
  const rest: number[] = [];
  for (; left > 0; left -= pageBytes) {
    rest.push(take());
    segments.push([rest.at(-1)!, Math.min(left, pageBytes)]);
  }
  if (rest.length <= 1) return { prp1, prp2: rest[0] ?? 0, segments };
  const store = (at: number, value: number): void =>
    host.poke(at, new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  const prp2 = take() + listOffset;
  let at = prp2;
  for (const [i, page] of rest.entries()) {
    const lastOfPage = at % pageBytes === pageBytes - 8;
    if (lastOfPage && i !== rest.length - 1) {
      const next = take();
      store(at, next);
      at = next;
    }
    store(at, page);
    at += 8;
  }
  return { prp1, prp2, segments };
}

const gather = ({ host }: NvmeRig, segments: readonly [number, number][]): Uint8Array =>
  Buffer.concat(segments.map(([at, length]) => host.peek(at, length)));

function scatter({ host }: NvmeRig, segments: readonly [number, number][], data: Uint8Array): void {
  let done = 0;
  for (const [at, length] of segments) {
    host.poke(at, data.subarray(done, done + length));
    done += length;
  }
}

describe('PRPs', () => {
  const shape = fc.record({
    count: fc.integer({ min: 1, max: 160 }),
    log2: fc.constantFrom(0, 0, 2),
    offsetDwords: fc.nat({ max: 1023 }),
    /** Entries in the first page of a list. */
    listEntries: fc.oneof(fc.integer({ min: 1, max: 512 }), fc.integer({ min: 1, max: 8 })),
    seed: fc.nat(),
  });

  it('lead to the same bytes however they lie: offsets, two pages, lists, chains of lists', () => {
    fc.assert(
      fc.property(shape, ({ count, log2, offsetDwords, listEntries, seed }) => {
        const rig = spacious(log2);
        const pageBytes = 4096 << log2;
        const [offset, listOffset] = [(offsetDwords << log2) * 4, pageBytes - 8 * listEntries];
        const places = shuffled(
          Array.from({ length: 200 }, (_, i) => 0x10_0000 + i * pageBytes),
          seed,
        );
        const bytes = count * 512;
        const data = pattern(bytes, count);
        const from = layOut(rig, { bytes, offset, listOffset, pageBytes }, places);
        scatter(rig, from.segments, data);
        expect(io(rig, WRITE, 3, count, from.prp1, from.prp2).status).toBe(0);
        const onDisk = new Uint8Array(bytes);
        rig.disks[0]!.store.read(3 * 512, onDisk);
        expect(Buffer.compare(onDisk, data)).toBe(0);
        const to = layOut(rig, { bytes, offset, listOffset, pageBytes }, places);
        expect(io(rig, READ, 3, count, to.prp1, to.prp2).status).toBe(0);
        expect(Buffer.compare(gather(rig, to.segments), data)).toBe(0);
        expect(io(rig, COMPARE, 3, count, to.prp1, to.prp2).status).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('take the largest transfer, and none larger', () => {
    const rig = spacious();
    const places = Array.from({ length: 200 }, (_, i) => 0x10_0000 + i * 4096);
    const { prp1, prp2, segments } = layOut(
      rig,
      { bytes: 512 * 1024, offset: 0, listOffset: 0, pageBytes: 4096 },
      places,
    );
    scatter(rig, segments, pattern(512 * 1024));
    expect(io(rig, WRITE, 0, 1024, prp1, prp2).status).toBe(0);
    expect(io(rig, COMPARE, 0, 1024, prp1, prp2).status).toBe(0);
    expect(io(rig, WRITE, 0, 1025, prp1, prp2)).toMatchObject({ status: 0x002, doNotRetry: true });
  });

  it('need not be read or valid beyond what the bytes take', () => {
    const rig = startedRig();
    const list = 0x40000;
    rig.host.poke(list, new Uint8Array(BigUint64Array.of(0x21000n, 0x22000n, 0x7n).buffer));
    expect(io(rig, READ, 0, 24, 0x20000, list).status).toBe(0);
    expect(io(rig, READ, 0, 8, 0x20000, 0xdead_beef).status).toBe(0);
  });

  it.each([
    ['PRP1 is not a multiple of 4', 0x20002, 0x21000, 8],
    ['PRP2 is a page and has an offset', 0x20000, 0x21010, 16],
    ['PRP2 is a list and no multiple of 8', 0x20000, 0x40004, 24],
    ['an entry of a list has an offset', 0x20000, 0x40000, 24],
  ])('are refused when %s', (_what, prp1, prp2, count) => {
    const rig = startedRig();
    rig.host.poke(0x40000, new Uint8Array(BigUint64Array.of(0x21000n, 0x22200n).buffer));
    expect(io(rig, READ, 0, count, prp1, prp2)).toMatchObject({ status: 0x013, doNotRetry: true });
  });

  it.each([
    ['the first page', 0x90_0000, 0x21000, 16],
    ['the second page', 0x20000, 0x90_0000, 16],
    ['a list', 0x20000, 0x90_0000, 24],
    ['a page of a list', 0x20000, 0x40000, 24],
    ['an address beyond all', 2 ** 63, 0, 1],
  ])('end with a Data Transfer Error, which may be tried again, when %s is not mapped', (_what, prp1, prp2, count) => {
    const rig = startedRig();
    rig.host.poke(0x40000, new Uint8Array(BigUint64Array.of(0x21000n, 0x90_0000n).buffer));
    for (const opcode of [READ, WRITE, COMPARE]) {
      expect(io(rig, opcode, 0, count, prp1, prp2)).toMatchObject({ status: 0x004, doNotRetry: false });
    }
    expect(io(rig, FLUSH, 0, 1, 0).status).toBe(0);
  });
});

/** A controller with all 16 MiB mapped. */
function spacious(pageLog2 = 0): NvmeRig {
  const rig = nvmeRig();
  for (let frame = 256; frame < 4096; frame++) rig.iommu.map(frame, frame);
  rig.driver.start(8, 0x0046_0001 | (pageLog2 << 7));
  rig.driver.createPair(1);
  return rig;
}

function shuffled(places: number[], seed: number): number[] {
  const key = (place: number): number => Math.imul(place + seed, 0x9e37_79b1) >>> 0;
  return places.sort((a, b) => key(a >> 12) - key(b >> 12));
}

describe('other commands of the NVM set', () => {
  it('Compare tells a difference in the last byte', () => {
    const rig = startedRig();
    rig.host.poke(HERE, pattern(1024));
    io(rig, WRITE, 0, 2, HERE);
    expect(io(rig, COMPARE, 0, 2, HERE).status).toBe(0);
    rig.host.poke(HERE + 1023, Uint8Array.of(0xee));
    expect(io(rig, COMPARE, 0, 2, HERE)).toMatchObject({ status: 0x285, doNotRetry: true });
  });

  it('Write Zeroes clears blocks, and no others', () => {
    const rig = startedRig();
    rig.host.poke(HERE, pattern(2048));
    io(rig, WRITE, 0, 4, HERE);
    expect(io(rig, WRITE_ZEROES, 1, 2, 0).status).toBe(0);
    io(rig, READ, 0, 4, THERE);
    const expected = pattern(2048).fill(0, 512, 1536);
    expect(rig.host.peek(THERE, 2048)).toEqual(expected);
  });

  it('Write Zeroes clears part by part, and stops when the medium fails, or an Abort takes it', () => {
    const store = new MemoryStore(2 ** 26);
    const { driver, host, clock } = startedRig({ disks: [{ store, blockBytes: 512 }] });
    const parts: [number, number][] = [];
    store.zero = (at, bytes) => parts.push([at, bytes]) < 4;
    const zeroes = { opcode: WRITE_ZEROES, nsid: 1, dwords: blocks(1, 65536) };
    expect(driver.run(1, zeroes).status).toBe(0x280);
    expect(parts).toEqual([0, 1, 2, 3].map((n) => [512 + n * 2 ** 20, 2 ** 20]));
    store.zero = () => true;
    const id = driver.queue(1, zeroes);
    host.write32(0x1008, 2);
    expect(clock.settle(3)).toBe(false);
    expect(driver.admin({ opcode: 0x08, dwords: [(id << 16) | 1] })).toMatchObject({ status: 0, result: 0 });
    expect(driver.take(1)).toMatchObject({ id, status: 0x007 });
    expect(driver.take(1)).toBeNull();
  });

  it('Dataset Management deallocates ranges, and checks them', () => {
    const rig = startedRig();
    const { driver, host } = rig;
    host.poke(HERE, pattern(2048));
    io(rig, WRITE, 0, 4, HERE);
    const ranges = (...list: [number, number][]) => {
      host.poke(0x40000, new Uint8Array(Uint32Array.from(list.flatMap(([at, n]) => [0, n, at, 0])).buffer));
      return driver.run(1, { opcode: DATASET, nsid: 1, prp1: 0x40000, dwords: [list.length - 1, 4] });
    };
    expect(ranges([0, 1], [3, 1]).status).toBe(0);
    io(rig, READ, 0, 4, THERE);
    expect(host.peek(THERE, 2048)).toEqual(pattern(2048).fill(0, 0, 512).fill(0, 1536));
    expect(ranges([2048, 1]).status).toBe(0x080);
  });

  it('Flush reaches one namespace, or all', () => {
    const flushed: number[] = [];
    const disk = (id: number): Disk => {
      const store = new MemoryStore(4096);
      store.flush = () => flushed.push(id) > 0;
      return { store, blockBytes: 512 };
    };
    const { driver } = startedRig({ disks: [disk(1), disk(2)] });
    const flush = (nsid: number) => driver.run(1, { opcode: FLUSH, nsid }).status;
    expect([flush(2), flush(ALL), flush(3)]).toEqual([0, 0, 0x00b]);
    expect(flushed).toEqual([2, 1, 2]);
  });

  it('tell when the disk fails', () => {
    const store = new MemoryStore(MIB);
    store.read = () => false;
    store.write = () => false;
    store.flush = () => false;
    store.zero = () => false;
    const rig = startedRig({ disks: [{ store, blockBytes: 512 }] });
    expect(io(rig, READ, 0, 1, HERE).status).toBe(0x281);
    expect(io(rig, COMPARE, 0, 1, HERE).status).toBe(0x281);
    for (const opcode of [WRITE, WRITE_ZEROES, FLUSH]) expect(io(rig, opcode, 0, 1, HERE).status).toBe(0x280);
  });

  it.each([0x04, 0x0c, 0x0d, 0x80])('end with Invalid Opcode when there are none: %i', (opcode) => {
    expect(io(startedRig(), opcode, 0, 1, HERE)).toMatchObject({ status: 0x001, doNotRetry: true });
  });
});
