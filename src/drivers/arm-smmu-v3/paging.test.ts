import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import { REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import type { PagingDomain } from './paging-domain.ts';
import { Bench } from './testing.ts';

const NEST_PARENT = 1;
const DIRTY_TRACKING = 2;
const FAULT_ID_VALID = 4;
const PASID = 8;
const RW = 3;
const page = (frame: number): bigint => BigInt(frame) * 4096n;

function attached(settings: Partial<SmmuSettings> = {}, flags = 0) {
  const bench = new Bench({ settings });
  const device = bench.device(0, 0x300);
  const domain = device.driven.allocPaging(flags, null);
  device.driven.attach(domain, 0);
  return { bench, device, domain };
}

describe('paging domains', () => {
  it('are stage 1 for plain use, stage 2 for nesting parents and where there is no stage 1', () => {
    const last = (settings: Partial<SmmuSettings>, flags: number) => attached(settings, flags).domain.aperture.last;
    expect(last({ oas: 40 }, 0)).toBe(2n ** 48n - 1n);
    expect(last({ oas: 40 }, PASID)).toBe(2n ** 48n - 1n);
    expect(last({ oas: 40 }, NEST_PARENT)).toBe(2n ** 40n - 1n);
    expect(last({ oas: 40, s1p: false }, 0)).toBe(2n ** 40n - 1n);
    expect(last({ oas: 52 }, NEST_PARENT)).toBe(2n ** 48n - 1n);
    expect(last({ oas: 52, granules: [64] }, NEST_PARENT)).toBe(2n ** 52n - 1n);
  });

  it('refuse flags and hardware that do not go together', () => {
    const alloc = (settings: Partial<SmmuSettings>, flags: number) => () => attached(settings, flags);
    expect(alloc({}, DIRTY_TRACKING)).toThrow('EOPNOTSUPP');
    expect(alloc({}, FAULT_ID_VALID)).toThrow('EOPNOTSUPP');
    expect(alloc({}, NEST_PARENT | PASID)).toThrow('EOPNOTSUPP');
    expect(alloc({ s1p: false }, NEST_PARENT)).toThrow('EOPNOTSUPP');
    expect(alloc({ s2p: false }, NEST_PARENT)).toThrow('EOPNOTSUPP');
    expect(alloc({ s1p: false }, PASID)).toThrow('EOPNOTSUPP');
    expect(alloc({ s2p: false }, 0)).not.toThrow();
  });

  it('offer the page sizes of the smallest granule', () => {
    expect(attached().domain.pageSizes).toBe(0x40201000n);
    expect(attached({ granules: [16, 64] }).domain.pageSizes).toBe(0x2004000n);
  });

  it('refuse a mapping beyond the address sizes with ERANGE and one without access with EINVAL', () => {
    const { domain } = attached({ oas: 36 }, NEST_PARENT);
    expect(() => domain.map(2n ** 36n, 0, 4096, RW)).toThrow('ERANGE');
    expect(() => domain.map(0n, 2 ** 36, 4096, RW)).toThrow('ERANGE');
    expect(() => domain.map(0n, 0, 4096, 0)).toThrow('EINVAL');
  });

  it.each([0, NEST_PARENT])('honour read-only mappings (flags %i)', (flags) => {
    const { device, domain } = attached({}, flags);
    domain.map(page(0x10), 0x5000, 4096, 1);
    expect(device.atsOn).toBe(true);
    expect(device.write(0x10)).toBeNull();
    expect(device.reach(0x10)).toBe(5);
    const plain = attached({ ats: false }, flags);
    plain.domain.map(page(0x10), 0x5000, 4096, 1);
    expect(plain.device.write(0x10)).toBeNull();
    expect(plain.device.reach(0x10)).toBe(5);
  });

  it('attached directly, a parent takes a VMID of its own and gives it back at the last detach', () => {
    const bench = new Bench();
    const [one, two] = [bench.device(0, 1), bench.device(0, 2)];
    const domain = one!.driven.allocPaging(NEST_PARENT, null);
    expect(bench.drivers[0]!.resources.vmids).toBe(0);
    one!.driven.attach(domain, 0);
    two!.driven.attach(domain, 0);
    expect(bench.drivers[0]!.resources.vmids).toBe(1);
    one!.driven.attach(null, 0);
    expect(bench.drivers[0]!.resources.vmids).toBe(1);
    two!.driven.attach(null, 0);
    expect(bench.drivers[0]!.resources.vmids).toBe(0);
  });

  it('do not fit an SMMU with another granule or fewer address bits', () => {
    const others = [{ granules: [16] as const }, { oas: 40 } as const, { s2p: false }, { cohacc: false }];
    const bench = new Bench({ smmus: 6, settings: [{}, ...others, { vmid16: false }] });
    const domain = bench.device(0, 1).driven.allocPaging(NEST_PARENT, null);
    for (let i = 1; i <= others.length; i++) {
      expect(() => bench.device(i, 1).driven.attach(domain, 0)).toThrow('EINVAL');
      expect(() => bench.device(i, 2).driven.allocViommu(1, domain, null)).toThrow();
    }
    expect(() => bench.device(5, 1).driven.attach(domain, 0)).not.toThrow();
  });

  it.each([
    [36, 40],
    [40, 48],
    [42, 44],
    [44, 48],
    [48, 52],
  ] as const)('of an SMMU of %i address bits serve one of %i, too', (narrow, wide) => {
    const bench = new Bench({ smmus: 2, settings: [{ oas: narrow }, { oas: wide }] });
    const devices = [bench.device(0, 1), bench.device(1, 1)];
    const parent = devices[0]!.driven.allocPaging(NEST_PARENT, null);
    parent.map(0n, 0x100000 * 4096, 4096 * 4096, RW);
    for (const device of devices) device.driven.attach(parent, 0);
    expect(devices.map((device) => device.reach(5))).toEqual([0x100005, 0x100005]);
    parent.unmap(0n, 4096n * 4096n);
    expect(devices.map((device) => device.reach(5))).toEqual([null, null]);
  });

  it.each([[[16]], [[64]], [[64, 16]]] as const)('translate and forget with granules %j', (granules) => {
    for (const oas of [40, 44, 48, 52] as const) {
      for (const ril of [true, false]) {
        const device = new Bench({ settings: { granules, oas, ril } }).device(0, 1);
        for (const flags of [NEST_PARENT, 0]) {
          const domain = device.driven.allocPaging(flags, null);
          domain.map(0n, 0x100000 * 4096, 4096 * 4096, RW);
          device.driven.attach(domain, 0);
          expect(device.reach(5)).toBe(0x100005);
          domain.unmap(0n, 4096n * 4096n);
          expect(device.reach(5)).toBeNull();
        }
      }
    }
  });

  it('leave a blocked device nothing', () => {
    const { device, domain } = attached();
    domain.map(page(0x10), 0x5000, 4096, RW);
    expect(device.reach(0x10)).toBe(5);
    device.driven.attach(null, 0);
    expect(device.reach(0x10)).toBeNull();
  });

  it('replace each other without a moment in which the STE is invalid', () => {
    const { bench, device, domain } = attached();
    const other = device.driven.allocPaging(0, null);
    domain.map(page(0x10), 0x5000, 4096, RW);
    other.map(page(0x10), 0x6000, 4096, RW);
    expect(device.reach(0x10)).toBe(5);
    const seen: Array<number | null> = [];
    const original = bench.memory.store64.bind(bench.memory);
    bench.memory.store64 = (frame, offset, lo, hi) => {
      const stored = original(frame, offset, lo, hi);
      if (offset % 64 < 32)
        seen.push(bench.smmus[0]!.translate(0x300, -1, 0x10, 0, 1) ? null : bench.smmus[0]!.outFrame);
      return stored;
    };
    device.driven.attach(other, 0);
    bench.memory.store64 = original;
    expect(seen.length).toBeGreaterThan(0);
    expect(seen).not.toContain(null);
    expect(device.reach(0x10)).toBe(6);
  });

  it('give every table frame back, also after running out of them in the middle', () => {
    const { bench, device, domain } = attached();
    const free = bench.frames.used;
    const hoard: number[] = [];
    for (let order = 14; order >= 0; order--) {
      try {
        for (;;) hoard.push(bench.frames.allocate(order));
      } catch {}
    }
    for (const frame of hoard.splice(-2)) bench.frames.free(frame);
    expect(() => domain.map(page(0x3ff), 0x10000000, 4096 * 1024, RW)).toThrow('ENOMEM');
    for (const frame of hoard) bench.frames.free(frame);
    expect(bench.frames.used).toBe(free);
    expect(domain.physical(page(0x3ff))).toBeNull();
    device.driven.attach(null, 0);
    domain.free();
    expect(Object.values(bench.drivers[0]!.resources)).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });
});

describe('invalidation of an unmap', () => {
  const opcodes = (settings: Partial<SmmuSettings>, flags: number, pages: number) => {
    const { bench, domain } = attached({ ats: false, ...settings }, flags);
    domain.map(page(0x200 - 3), 0x200000 - 0x3000, pages * 4096, RW);
    bench.commands();
    domain.unmap(page(0x200 - 3), page(pages));
    return bench.commands();
  };

  it('is one range command per digit with RIL, one per leaf without, and the whole tag beyond 512', () => {
    expect(opcodes({}, NEST_PARENT, 3 + 32)).toEqual(['0x2a', '0x2a', '0x46', '0x10', '0x46']);
    expect(opcodes({ ril: false }, NEST_PARENT, 5).filter((opcode) => opcode === '0x2a').length).toBe(5);
    expect(opcodes({ ril: false }, NEST_PARENT, 600)).toEqual(['0x28', '0x46']);
    expect(opcodes({}, 0, 1)).toEqual(['0x12', '0x46']);
    expect(opcodes({ ril: false }, 0, 600)).toEqual(['0x11', '0x46']);
  });

  it.each([0, NEST_PARENT])('reaches blocks and pages of one range alike (flags %i)', (flags) => {
    const { device, domain } = attached({}, flags);
    domain.map(page(0x400), 0x800000, 544 * 4096, RW);
    expect([0x400, 0x61f].map((frame) => device.reach(frame))).toEqual([0x800, 0xa1f]);
    domain.unmap(page(0x400), page(544));
    expect([0x400, 0x61f].map((frame) => device.reach(frame))).toEqual([null, null]);
  });

  const settings = fc.record({
    ril: fc.boolean(),
    ats: fc.boolean(),
    granules: fc.constantFrom<SmmuSettings['granules']>([4], [16], [64], [4, 64]),
    oas: fc.constantFrom<SmmuSettings['oas']>(36, 40, 42, 44, 48, 52),
  });
  const steps = fc.array(
    fc.record({ at: fc.nat(40), pages: fc.constantFrom(1, 2, 31, 33, 512, 544, 1024, 1536), skew: fc.nat(1) }),
    { minLength: 1, maxLength: 6 },
  );

  it('leaves no device with a translation that the tables no longer have', () => {
    fc.assert(
      fc.property(settings, fc.constantFrom(0, NEST_PARENT), steps, fc.nat(), (chosen, flags, pieces, drop) => {
        const { device, domain } = attached(chosen, flags);
        const granule = Number(domain.pageSizes & -domain.pageSizes) / 4096;
        const maps: Array<{ frame: number; frames: number; output: number }> = [];
        const check = () => {
          for (const { frame, frames, output } of maps) {
            for (const at of [0, frames >> 1, frames - 1]) expect(device.reach(frame + at)).toBe(output + at);
          }
        };
        for (const { at, pages, skew } of pieces) {
          const map = {
            frame: at * 512 * granule,
            frames: pages * granule,
            output: (at * 512 + skew + 0x800) * granule,
          };
          if (maps.some((m) => map.frame < m.frame + m.frames && m.frame < map.frame + map.frames)) continue;
          domain.map(page(map.frame), map.output * 4096, map.frames * 4096, RW);
          maps.push(map);
          check();
        }
        const [gone] = maps.splice(drop % maps.length, 1);
        domain.unmap(page(gone!.frame), page(gone!.frames));
        for (const at of [0, 1, gone!.frames >> 1, gone!.frames - 1]) expect(device.reach(gone!.frame + at)).toBeNull();
        check();
      }),
      { numRuns: 60 },
    );
  });
});

describe('GET_HW_INFO', () => {
  it('gives the identity registers as they are, for type 0 and the SMMU’s own', () => {
    const { bench, device } = attached();
    for (const type of [0, 2]) {
      const info = device.driven.hwInfo(type);
      expect(info.type).toBe(2);
      const words = new Uint32Array(info.data.slice().buffer);
      expect([...words.subarray(0, 2)]).toEqual([0, 0]);
      const registers = [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c].map((at) => bench.smmus[0]!.readRegister(at, 4));
      expect([...words.subarray(2)]).toEqual(registers);
    }
    expect(() => device.driven.hwInfo(3)).toThrow('EOPNOTSUPP');
  });

  it('says whether ATS can be used, and how wide PASIDs are', () => {
    expect(attached().device.driven.hwCapabilities).toBe(0n);
    expect(attached({ ats: false, pri: false }).device.driven.hwCapabilities).toBe(8n);
    expect(attached({ ssidSize: 5 }).device.driven.maxPasidLog2).toBe(5);
  });

  it('reserves the software MSI window', () => {
    expect(attached().device.driven.reservedRegions()).toEqual([
      { start: 0x8000000n, last: 0x80fffffn, type: 'software-msi' },
    ]);
  });
});

describe('probe', () => {
  it.each([
    ['a linear stream table', { twoLevelStreamTable: false, sidSize: 10 }],
    ['a two-level stream table', { sidSize: 16 }],
    ['fewer StreamIDs than one level 2 table', { sidSize: 6 }],
    ['32-bit StreamIDs', { sidSize: 32 }],
    ['tiny queues', { cmdqs: 1, eventqs: 1, priqs: 1 }],
    ['8-bit tags', { asid16: false, vmid16: false }],
  ])('works with %s', (_, settings) => {
    const bench = new Bench({ settings });
    const device = bench.device(0, 5);
    const domain: PagingDomain = device.driven.allocPaging(0, null);
    domain.map(page(0x10), 0x5000, 4096, RW);
    expect(device.reach(0x10)).toBeNull();
    device.driven.attach(domain, 0);
    expect(device.reach(0x10)).toBe(5);
    for (let i = 0; i < 9; i++) expect(device.reach(0x20 + i)).toBeNull();
    expect(device.reach(0x10)).toBe(5);
  });

  it('turns the PASIDs of a device on for good, before anything is attached', () => {
    const bench = new Bench();
    const device = bench.device(0, 5);
    expect([device.pasidOn, device.atsOn]).toEqual([true, false]);
    device.driven.attach(device.driven.allocPaging(0, null), 0);
    device.driven.attach(null, 0);
    expect(device.pasidOn).toBe(true);
    const plain = bench.drivers[0]!.probeDevice({
      streamId: 6,
      name: 'plain',
      ats: null,
      pri: null,
      pasid: null,
      canStall: false,
    });
    expect(plain.maxPasidLog2).toBe(0);
  });

  it('refuses a StreamID twice or beyond the table', () => {
    const bench = new Bench({ settings: { sidSize: 10, twoLevelStreamTable: false } });
    bench.device(0, 5);
    expect(() => bench.device(0, 5)).toThrow('belongs to dev5');
    expect(() => bench.device(0, 1024)).toThrow('does not fit');
  });

  it('acknowledges every global error that one interrupt stands for', () => {
    const bench = new Bench();
    const [smmu] = bench.smmus;
    const { GERROR, GERRORN } = REGISTERS;
    // CMDQ_ERR, EVENTQ_ABT_ERR and PRIQ_ABT_ERR at once.
    smmu!.restore({ ...smmu!.save(), GERROR: [0b1101, 0] });
    bench.drivers[0]!.handleGlobalErrorInterrupt();
    expect(smmu!.readRegister(GERROR.offset, 4) ^ smmu!.readRegister(GERRORN.offset, 4)).toBe(0);
    expect(bench.notes()).toContain('global error: EVENTQ_ABT_ERR, PRIQ_ABT_ERR');
  });

  it('notes lost events', () => {
    const bench = new Bench({ settings: { eventqs: 1, ats: false } });
    const device = bench.device(0, 5);
    for (let i = 0; i < 4; i++) bench.smmus[0]!.translate(5, -1, i, 0, 1);
    device.driven.attach(device.driven.allocPaging(0, null), 0);
    for (let i = 0; i < 4; i++) bench.smmus[0]!.translate(5, -1, i, 0, 1);
    bench.clock.settle();
    expect(bench.notes()).toContain('the event queue overflowed: events were lost');
  });
});
