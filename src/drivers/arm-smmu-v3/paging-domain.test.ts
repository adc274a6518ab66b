/** Dirty tracking of a paging domain: what is reported, and what goes to the hardware when it is cleared. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import { Bench, RW } from './testing.ts';

const DIRTY_TRACKING = 2;
const NEST_PARENT = 1;
const PASID = 8;
/** Frames where guests' RAM is. */
const TARGET = 0x100000;
const NH_VA = '0x12';
const ATC_INV = '0x40';
const SYNC = '0x46';

/** Pages at IOVA frame 0x10 and a block at 0x200, all clean. */
function tracked(settings: Partial<SmmuSettings> = {}) {
  const bench = new Bench({ settings: { httu: 2, ...settings } });
  const device = bench.device(0, 0x300);
  const domain = device.driven.allocPaging(DIRTY_TRACKING, null);
  device.driven.attach(domain, 0);
  domain.map(0x10000n, TARGET * 4096, 0x4000, RW);
  domain.map(0x200000n, TARGET * 4096, 0x200000, RW);
  const dirty = (iova: bigint, length: bigint, clear: boolean) => {
    const runs: string[] = [];
    domain.readDirty(iova, length, clear, (at, bytes) => runs.push(`${at.toString(16)}+${bytes.toString(16)}`));
    return runs;
  };
  const everything = (clear: boolean) => [...dirty(0x10000n, 0x4000n, clear), ...dirty(0x200000n, 0x200000n, clear)];
  everything(true);
  bench.commands();
  return { bench, device, domain, dirty, everything };
}

describe('a domain that tracks dirty pages', () => {
  it('counts what can be written as written when it is mapped, and nothing that can only be read', () => {
    const { domain, dirty } = tracked();
    domain.map(0x40000n, TARGET * 4096, 0x2000, RW);
    domain.map(0x42000n, TARGET * 4096, 0x1000, 1);
    domain.map(0x43000n, TARGET * 4096, 0x1000, 2);
    expect(dirty(0x40000n, 0x4000n, false)).toEqual(['40000+2000', '43000+1000']);
  });

  it('reports neighbours in one piece, and of a block what was asked for', () => {
    const { device, dirty, everything } = tracked();
    for (const frame of [0x10, 0x12, 0x13, 0x2ff])
      expect(device.write(frame)).toBe(TARGET + (frame & 0x1ff) - (frame < 0x200 ? 0x10 : 0));
    expect(everything(false)).toEqual(['10000+1000', '12000+2000', '200000+200000']);
    expect(dirty(0x12000n, 0x1000n, false)).toEqual(['12000+1000']);
    expect(dirty(0x300000n, 0x3000n, false)).toEqual(['300000+3000']);
  });

  it('is read up to where nothing is mapped, and what is before it is cleared', () => {
    const { domain, device, dirty, everything } = tracked();
    for (const frame of [0x10, 0x11, 0x13]) device.write(frame);
    domain.unmap(0x12000n, 0x1000n);
    const whole = domain.readDirty(0x10000n, 0x4000n, true, () => {});
    expect(whole).toBe(false);
    expect(dirty(0x10000n, 0x2000n, false)).toEqual([]);
    expect(dirty(0x13000n, 0x1000n, false)).toEqual(['13000+1000']);
    expect(everything(false)).toEqual([]);
  });

  it('invalidates IOTLBs and ATCs of what it cleared, and sends nothing when it clears nothing', () => {
    for (const ril of [true, false]) {
      const { bench, device, everything } = tracked({ ril });
      device.write(0x12);
      bench.commands();
      everything(false);
      expect(bench.commands()).toEqual([]);
      everything(true);
      expect(bench.commands()).toEqual([NH_VA, SYNC, ATC_INV, SYNC]);
      everything(true);
      expect(bench.commands()).toEqual([]);
    }
  });

  it('hears of a write behind a block of which a part was cleared', () => {
    for (const ril of [true, false]) {
      const { device, dirty, everything } = tracked({ ril });
      device.write(0x2ff);
      expect(dirty(0x280000n, 0x1000n, true)).toEqual(['280000+1000']);
      expect(everything(false)).toEqual([]);
      device.write(0x201);
      expect(everything(false)).toEqual(['200000+200000']);
    }
  });

  it('is for SMMUs with both updates and coherent walks, and says so', () => {
    const device = (settings: Partial<SmmuSettings>) => new Bench({ settings }).device(0, 0x300).driven;
    const capabilities = (settings: Partial<SmmuSettings>) => device(settings).hwCapabilities & 1n;
    expect(capabilities({ httu: 2 })).toBe(1n);
    expect(capabilities({ httu: 1 })).toBe(0n);
    expect(capabilities({ httu: 2, cohacc: false })).toBe(0n);
    expect(() => device({ httu: 1 }).allocPaging(DIRTY_TRACKING, null)).toThrow('EOPNOTSUPP');
  });

  it('is stage 1, whatever else is asked for', () => {
    const alloc = (flags: number, settings: Partial<SmmuSettings> = {}) =>
      new Bench({ settings: { httu: 2, ...settings } }).device(0, 0x300).driven.allocPaging(flags, null);
    expect(alloc(DIRTY_TRACKING).dirtyTracking).toBe(true);
    expect(alloc(DIRTY_TRACKING | PASID).table.format.stage).toBe(1);
    expect(alloc(0).dirtyTracking).toBe(false);
    expect(() => alloc(DIRTY_TRACKING | NEST_PARENT)).toThrow('EOPNOTSUPP');
    expect(() => alloc(DIRTY_TRACKING, { s1p: false })).toThrow('EOPNOTSUPP');
  });

  it('does not go where writes are not recorded', () => {
    const bench = new Bench({ smmus: 2, settings: [{ httu: 2 }, { httu: 0 }] });
    const domain = bench.device(0, 1).driven.allocPaging(DIRTY_TRACKING, null);
    expect(() => bench.device(1, 2).driven.attach(domain, 0)).toThrow('EINVAL');
  });
});

/** Of a domain that three devices use, two of them behind one SMMU: a few pages and as many blocks, each a leaf. */
describe('the dirty log of several devices', () => {
  const LEAVES = 2;
  const PAGES = 16;
  const BLOCKS = 0x1_0000;
  const action = fc.record({
    kind: fc.constantFrom<'read' | 'write' | 'tell' | 'clear' | 'remap'>(
      'read',
      'write',
      'write',
      'tell',
      'clear',
      'remap',
    ),
    device: fc.nat(2),
    leaf: fc.nat(2 * LEAVES - 1),
    count: fc.integer({ min: 1, max: LEAVES }),
  });

  it.each([
    [4, true, true],
    [4, false, true],
    [4, false, false],
    [16, true, true],
    [64, false, true],
  ] as const)('has every write since the last clear, and no other: %i KiB, ranges %s, ATS %s', (granule, ril, ats) => {
    const page = granule / 4;
    const block = page * (granule * 128);
    /** Where a leaf begins, and how many frames it has. */
    const extent = (leaf: number) =>
      leaf < LEAVES ? [(PAGES + leaf) * page, page] : [BLOCKS * page + (leaf - LEAVES) * block, block];
    fc.assert(
      fc.property(fc.array(action, { minLength: 20, maxLength: 40 }), (actions) => {
        const settings = { httu: 2, ril, ats, granules: [granule] } as const;
        const bench = new Bench({ smmus: 2, settings });
        const devices = [0, 0, 1].map((smmu, n) => bench.device(smmu, 0x300 + n));
        const domain = devices[0]!.driven.allocPaging(DIRTY_TRACKING, null);
        for (const { driven } of devices) driven.attach(domain, 0);
        const map = (leaf: number) => {
          const [frame, frames] = extent(leaf) as [number, number];
          domain.map(BigInt(frame) * 4096n, TARGET * 4096, frames * 4096, RW);
        };
        for (let leaf = 0; leaf < 2 * LEAVES; leaf++) map(leaf);
        const dirty = new Set(Array.from({ length: 2 * LEAVES }, (_, leaf) => leaf));
        const all = [0, LEAVES].map((leaf) => ({ kind: 'tell', device: 0, leaf, count: LEAVES }) as const);
        for (const { kind, device, leaf, count } of [...actions, ...all]) {
          const [frame, frames] = extent(leaf) as [number, number];
          const inside = (count * 37) % frames;
          if (kind === 'read') expect(devices[device]!.reach(frame + inside)).toBe(TARGET + inside);
          else if (kind === 'write') {
            expect(devices[device]!.write(frame + inside)).toBe(TARGET + inside);
            dirty.add(leaf);
          } else if (kind === 'remap') {
            domain.unmap(BigInt(frame) * 4096n, BigInt(frames) * 4096n);
            map(leaf);
            dirty.add(leaf);
          } else {
            const last = Math.min(leaf + count, leaf < LEAVES ? LEAVES : 2 * LEAVES) - 1;
            const told = new Set<number>();
            domain.readDirty(
              BigInt(frame) * 4096n,
              BigInt((last - leaf + 1) * frames) * 4096n,
              kind === 'clear',
              (at, bytes) => {
                for (let done = 0n; done < bytes; done += BigInt(frames) * 4096n)
                  told.add(leaf + (Number((at + done) / 4096n) - frame) / frames);
              },
            );
            const asked = Array.from({ length: last - leaf + 1 }, (_, n) => leaf + n);
            expect([...told]).toEqual(asked.filter((each) => dirty.has(each)));
            if (kind === 'clear') for (const each of asked) dirty.delete(each);
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});
