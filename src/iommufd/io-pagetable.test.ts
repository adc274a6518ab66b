import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Errno, type ErrnoName, fail } from '../abi/errno.ts';
import { PROT_READ, PROT_WRITE } from '../drivers/iommu-driver.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { PinnedMemory } from '../memory/pinned-memory.ts';
import { IoPageTable } from './io-pagetable.ts';
import { Pages } from './pages.ts';
import { BufferMemory } from './testing.ts';
import { FakeIommu, FakePagingDomain, WHOLE_SPACE } from './testing-driver.ts';
import { U64_MAX } from './u64.ts';

const RW = PROT_READ | PROT_WRITE;
const MiB = 2n ** 20n;

function machine(fragmentSeed?: number) {
  const memory = new BufferMemory(0x40000000, 4 * 2 ** 20);
  const window = { firstSlot: 8, slots: 16 };
  const pinned = new PinnedMemory(
    new PhysicalMemory(),
    fragmentSeed === undefined ? window : { ...window, fragmentSeed },
  );
  const iommu = new FakeIommu({ aperture: WHOLE_SPACE });
  const pages = (address: bigint, writable = true) =>
    new Pages({ pinned, kind: 'user', source: memory, base: address, writable });
  /** Maps user memory at `address`, which need not be page-aligned. */
  const map = (table: IoPageTable, iova: bigint | null, length: bigint, address = 0x40000000n, prot = RW) => {
    const startByte = address % 4096n;
    return table.map([{ pages: pages(address - startByte), startByte, length }], iova, prot);
  };
  const domain = (options = {}) => new FakePagingDomain(new FakeIommu({ aperture: WHOLE_SPACE, ...options }), false);
  return { memory, pinned, iommu, pages, map, domain };
}

function errno(call: () => unknown): ErrnoName | '' {
  try {
    call();
    return '';
  } catch (error) {
    return (error as Errno).code;
  }
}

describe('mapping at a given IOVA', () => {
  it('refuses an overlap, an overflow and no length at all', () => {
    const { map } = machine();
    const table = new IoPageTable();
    map(table, 0x1000n, 0x2000n);
    expect(errno(() => map(table, 0x2fffn, 1n))).toBe('EEXIST');
    expect(errno(() => map(table, 0n, 0x1001n))).toBe('EEXIST');
    expect(errno(() => map(table, U64_MAX, 2n))).toBe('EOVERFLOW');
    expect(errno(() => map(table, 0x8000n, 0n))).toBe('EINVAL');
    map(table, 0x3000n, 1n);
    map(table, 0n, 0x1000n);
  });

  it('wants IOVA, length and offset in the page aligned to the smallest page of the domains', () => {
    const { map, domain } = machine();
    const table = new IoPageTable();
    map(table, 0x800n, 0x801n, 0x40000800n);
    table.unmapAll();
    table.addDomain(domain({ pageSizes: 0x1800n }));
    expect(table.alignment).toBe(0x800n);
    expect(errno(() => map(table, 0x400n, 0x800n))).toBe('EINVAL');
    expect(errno(() => map(table, 0x800n, 0x801n))).toBe('EINVAL');
    expect(errno(() => map(table, 0x800n, 0x800n, 0x40000400n))).toBe('EINVAL');
    map(table, 0x800n, 0x800n, 0x40000800n);
  });

  it('never writes through memory that was mapped for reading', () => {
    const { pages } = machine();
    const table = new IoPageTable();
    const piece = { pages: pages(0x40000000n, false), startByte: 0n, length: 0x1000n };
    expect(errno(() => table.map([piece], 0n, RW))).toBe('EPERM');
    table.map([piece], 0n, PROT_READ);
  });
});

describe('choosing an IOVA', () => {
  it('takes the lowest that keeps the alignment of the address, up to the size of the mapping', () => {
    const { map } = machine();
    const table = new IoPageTable();
    expect(map(table, null, 0x1000n, 0x40001000n)).toBe(0x1000n);
    expect(map(table, null, 0x3000n, 0x40000000n)).toBe(0x4000n);
    expect(map(table, null, 0x3000n, 0x40002000n)).toBe(0x2000n + 0x6000n);
    expect(map(table, null, 0x1000n, 0x40001000n)).toBe(0x2000n);
    expect(map(table, null, 2n * MiB, 0x40000000n)).toBe(2n * MiB);
  });

  it('keeps the offset in the page', () => {
    const { map } = machine();
    const table = new IoPageTable();
    expect(map(table, null, 0x9800n, 0x40007800n)).toBe(0x1800n);
  });

  it('asks for no more than 2 MiB of alignment', () => {
    const { pages } = machine();
    const table = new IoPageTable();
    const huge = { pages: pages(0n), startByte: 0n, length: 2n ** 30n };
    expect(table.map([huge], null, RW)).toBe(2n * MiB);
  });

  it('stays inside the allowed ranges and outside the reserved ones', () => {
    const { map } = machine();
    const table = new IoPageTable();
    table.allow([
      { start: 0x10000n, last: 0x13fffn },
      { start: 0x20000n, last: 0x2ffffn },
    ]);
    table.reserve(0x14000n, 0x1ffffn, table);
    expect(map(table, null, 0x4000n, 0x40001000n)).toBe(0x10000n);
    expect(map(table, null, 0x4000n, 0x40001000n)).toBe(0x20000n);
    expect(errno(() => map(table, null, 0x10000n, 0x40001000n))).toBe('ENOSPC');
  });

  it('does not give address 0, nor a length that no space has', () => {
    const { map, pages } = machine();
    const table = new IoPageTable();
    expect(map(table, null, 1n, 0x40000000n)).toBe(0x1000n);
    const piece = { pages: pages(0n), startByte: 0n, length: 2n ** 63n };
    expect(errno(() => table.map([piece], null, RW))).toBe('EOVERFLOW');
  });

  it('refuses an address that is less aligned than the domains need', () => {
    const { map, domain } = machine();
    const table = new IoPageTable();
    table.addDomain(domain());
    expect(errno(() => map(table, null, 0x1000n, 0x40000800n))).toBe('EINVAL');
  });
});

describe('unmapping', () => {
  it('takes whole areas only, and keeps those before the one that is cut away', () => {
    const { map } = machine();
    const table = new IoPageTable();
    map(table, 0x1000n, 0x1000n);
    map(table, 0x2000n, 0x2000n);
    expect(errno(() => table.unmap(0x1000n, 0x2000n))).toBe('ENOENT');
    expect(table.areas.size).toBe(1);
    expect(errno(() => table.unmap(0x3000n, 0x1000n))).toBe('ENOENT');
    expect(table.unmap(0n, 0x10000n)).toBe(0x2000n);
    expect(table.unmap(0n, 0x10000n)).toBe(0n);
    expect(errno(() => table.unmap(0n, 0n))).toBe('EINVAL');
    expect(errno(() => table.unmap(2n, U64_MAX))).toBe('EOVERFLOW');
  });
});

describe('reserved IOVAs', () => {
  it('cannot be where an area or an allowed range is, and the other way round', () => {
    const { map } = machine();
    const table = new IoPageTable();
    map(table, 0x1000n, 0x1000n);
    table.allow([{ start: 0x8000n, last: 0x8fffn }]);
    expect(errno(() => table.reserve(0x1fffn, 0x2fffn, table))).toBe('EADDRINUSE');
    expect(errno(() => table.reserve(0x8fffn, 0x9fffn, table))).toBe('EADDRINUSE');
    table.reserve(0x4000n, 0x4fffn, table);
    expect(errno(() => map(table, 0x4000n, 0x1000n))).toBe('EINVAL');
    expect(errno(() => table.allow([{ start: 0x4fffn, last: 0x5000n }]))).toBe('EADDRINUSE');
    expect(errno(() => table.reserve(0x8000n, 0x8fffn, table))).toBe('EADDRINUSE');
  });

  it('belong to owners, overlap, and leave with their owner', () => {
    const table = new IoPageTable();
    const [one, two] = [{}, {}];
    table.reserve(0x1000n, 0x2fffn, one);
    table.reserve(0x2000n, 0x3fffn, two);
    table.reserve(0x8000n, 0x8fffn, two);
    expect(table.usableRanges()).toEqual([
      { start: 0n, last: 0xfffn },
      { start: 0x4000n, last: 0x7fffn },
      { start: 0x9000n, last: U64_MAX },
    ]);
    table.unreserve(two);
    expect(table.usableRanges().map((r) => r.start)).toEqual([0n, 0x3000n]);
  });
});

describe('domains', () => {
  it('pin memory while there is one, and map physically contiguous memory by one call', () => {
    const { map, domain, pinned } = machine();
    const table = new IoPageTable();
    map(table, 0n, 4n * MiB);
    expect(pinned.pinnedFrames).toBe(0);
    const first = domain();
    const second = domain();
    table.addDomain(first);
    expect(first.mappings.size).toBe(1);
    table.addDomain(second);
    expect(pinned.pinnedFrames).toBe(1024);
    table.removeDomain(first);
    expect(first.mappings.size).toBe(0);
    expect(pinned.pinnedFrames).toBe(1024);
    table.removeDomain(second);
    expect(pinned.pinnedFrames).toBe(0);
  });

  it('map fragmented memory page by page', () => {
    const { map, domain } = machine(7);
    const table = new IoPageTable();
    const only = domain();
    table.addDomain(only);
    map(table, 0x800000n, 0x10000n);
    expect(only.mappings.size).toBe(16);
    expect(new Set([...only.mappings.values()].map((m) => m.pa)).size).toBe(16);
  });

  it('map page by page when huge pages are switched off, which is possible before they are used', () => {
    const { map, domain } = machine();
    const table = new IoPageTable();
    const only = domain();
    table.addDomain(only);
    table.setHugePages(false);
    map(table, 0x0n, 0x4000n);
    expect([...only.mappings.keys()]).toEqual([0n, 0x1000n, 0x2000n, 0x3000n]);
    table.setHugePages(true);
    expect(errno(() => table.setHugePages(false))).toBe('EINVAL');
  });

  it('reserve what their aperture lacks, and are refused when something is mapped there', () => {
    const { map, domain } = machine();
    const aperture = { start: 0x100000n, last: 0xffffffffn };
    const table = new IoPageTable();
    const narrow = domain({ aperture });
    table.addDomain(narrow);
    expect(table.usableRanges()).toEqual([aperture]);
    table.removeDomain(narrow);
    map(table, 0xff000n, 0x1000n);
    expect(errno(() => table.addDomain(narrow))).toBe('EADDRINUSE');
    expect(table.usableRanges()).toEqual([{ start: 0n, last: U64_MAX }]);
    expect(narrow.mappings.size).toBe(0);
  });

  it('are refused when areas are less aligned than they need, or their pages are larger than ours', () => {
    const { map, domain } = machine();
    const table = new IoPageTable();
    map(table, 0x800n, 0x800n, 0x40000800n);
    expect(errno(() => table.addDomain(domain()))).toBe('EADDRINUSE');
    table.addDomain(domain({ pageSizes: 0x800n }));
    expect(errno(() => table.addDomain(domain({ pageSizes: 0x10000n })))).toBe('EINVAL');
  });

  it('leave nothing behind when the memory is not there, or there are no frames or tables for it', () => {
    const { map, domain, pinned, iommu, memory } = machine();
    const table = new IoPageTable();
    const one = new FakePagingDomain(iommu, false);
    table.addDomain(domain());
    table.addDomain(one);
    expect(errno(() => map(table, 0n, 8n * MiB))).toBe('EFAULT');
    expect(errno(() => map(table, 0n, 0x1000n, 2n ** 63n))).toBe('EFAULT');
    memory.protect(0x40002000, 0x1000);
    expect(errno(() => map(table, 0n, 0x4000n))).toBe('EFAULT');
    iommu.failAt('map', fail('ENOMEM', 'no table'));
    expect(errno(() => map(table, 0n, 0x2000n))).toBe('ENOMEM');
    expect(table.areas.size).toBe(0);
    expect(one.mappings.size).toBe(0);
    expect(pinned.pinnedFrames).toBe(0);
  });

  it('stay empty when the n-th area cannot be mapped into a new one', () => {
    const { map, iommu, pinned } = machine();
    const table = new IoPageTable();
    for (let i = 0n; i < 5n; i++) map(table, i * 0x10000n, 0x1000n, 0x40000000n + i * 0x1000n);
    for (let n = 0; n < 5; n++) {
      const domain = new FakePagingDomain(iommu, false);
      iommu.failAt('map', fail('ENOMEM', 'no table'), n);
      expect(errno(() => table.addDomain(domain))).toBe('ENOMEM');
      expect(domain.mappings.size).toBe(0);
      expect(pinned.pinnedFrames).toBe(0);
      expect(table.alignment).toBe(1n);
      domain.free();
    }
  });
});

describe('copies', () => {
  it('share the memory, which is pinned once', () => {
    const { map, domain, pinned } = machine();
    const [source, target] = [new IoPageTable(), new IoPageTable()];
    source.addDomain(domain());
    const into = domain();
    target.addDomain(into);
    map(source, 0x10000n, 0x8000n);
    target.map(source.pieces(0x12000n, 0x3000n), 0x50000n, RW);
    expect(pinned.pinnedFrames).toBe(8);
    source.unmapAll();
    expect(pinned.pinnedFrames).toBe(3);
    expect(into.physical(0x51004n)).toBe(into.mappings.get(0x50000n)!.pa + 0x1004);
    target.unmapAll();
    expect(pinned.pinnedFrames).toBe(0);
  });

  it('need the source mapped without a gap', () => {
    const { map } = machine();
    const table = new IoPageTable();
    map(table, 0x1000n, 0x1000n);
    map(table, 0x2000n, 0x1000n);
    expect(table.pieces(0x1800n, 0x1000n).map((p) => p.length)).toEqual([0x800n, 0x800n]);
    expect(errno(() => table.pieces(0x1800n, 0x1801n))).toBe('ENOENT');
    expect(errno(() => table.pieces(0x800n, 0x1000n))).toBe('ENOENT');
    expect(errno(() => table.pieces(0x1000n, 0n))).toBe('EINVAL');
    expect(errno(() => table.pieces(U64_MAX, 2n))).toBe('EOVERFLOW');
  });
});

describe('whatever is mapped, copied and unmapped', () => {
  const step = fc.record({
    action: fc.constantFrom('map', 'copy', 'unmap', 'addDomain', 'removeDomain'),
    table: fc.nat(1),
    iova: fc.nat(40),
    pages: fc.integer({ min: 1, max: 6 }),
    from: fc.nat(40),
    userPage: fc.nat(20),
  });

  it('domains translate what the IOAS says, every page is pinned once, and nothing is left at the end', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.option(fc.nat(1000)), (steps, seed) => {
        const { map, domain, pinned } = machine(seed ?? undefined);
        const tables = [new IoPageTable(), new IoPageTable()];
        // The model: per table, the user page behind an IOVA page, and which MAP call it comes from.
        const models = [new Map<number, string>(), new Map<number, string>()];
        const domains: FakePagingDomain[][] = [[], []];
        const physical = new Map<string, number>();
        let mapCalls = 0;
        const attempt = (call: () => void): boolean => errno(call) === '';
        for (const { action, table, iova, pages, from, userPage } of steps) {
          const t = tables[table]!;
          const model = models[table]!;
          const at = BigInt(iova) * 4096n;
          const length = BigInt(pages) * 4096n;
          if (action === 'map') {
            const call = mapCalls++;
            if (attempt(() => map(t, at, length, 0x40000000n + BigInt(userPage) * 4096n))) {
              for (let i = 0; i < pages; i++) model.set(iova + i, `${call}:${userPage + i}`);
            }
          } else if (action === 'copy') {
            const source = models[1 - table]!;
            if (attempt(() => t.map(tables[1 - table]!.pieces(BigInt(from) * 4096n, length), at, RW))) {
              for (let i = 0; i < pages; i++) model.set(iova + i, source.get(from + i)!);
            }
          } else if (action === 'unmap') {
            attempt(() => t.unmap(at, length));
            for (const page of [...model.keys()]) if (!t.areas.at(BigInt(page) * 4096n)) model.delete(page);
          } else if (action === 'addDomain') {
            const added = domain();
            t.addDomain(added);
            domains[table]!.push(added);
          } else {
            const gone = domains[table]!.shift();
            if (gone) t.removeDomain(gone);
          }
          const pinnedPages = new Set<string>();
          for (const [index, ofTable] of domains.entries()) {
            for (const d of ofTable) {
              for (let page = 0; page < 50; page++) {
                const key = models[index]!.get(page);
                const pa = d.physical(BigInt(page) * 4096n);
                expect(pa === null).toBe(key === undefined);
                if (key === undefined) continue;
                pinnedPages.add(key);
                // A user page has one physical address, whoever maps it.
                const user = key.split(':')[1]!;
                physical.set(user, physical.get(user) ?? pa!);
                expect(pa).toBe(physical.get(user));
              }
            }
          }
          expect(pinned.pinnedFrames).toBe(pinnedPages.size);
          if (pinned.pinnedFrames === 0) physical.clear();
        }
        for (const [index, t] of tables.entries()) {
          t.unmapAll();
          for (const d of domains[index]!) expect(d.mappings.size).toBe(0);
        }
        expect(pinned.pinnedFrames).toBe(0);
        expect(pinned.windowsInUse).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});
