import { bench, describe } from '../../bench/harness.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { PinnedMemory } from '../memory/pinned-memory.ts';
import { ownPages } from '../memory/process-memory.ts';
import { IoPageTable } from './io-pagetable.ts';
import { Pages } from './pages.ts';
import { BufferMemory } from './testing.ts';
import { FakeIommu, FakePagingDomain, WHOLE_SPACE } from './testing-driver.ts';

const GiB = 2n ** 30n;

class EndlessMemory extends BufferMemory {
  override resolve(address: number, length: number) {
    return ownPages(this, address, length);
  }
}

/** Only what is above the driver is measured. */
class IdleDomain extends FakePagingDomain {
  override map(): void {}
  override unmap(): void {}
}

function machine(areas: number) {
  const pinned = new PinnedMemory(new PhysicalMemory(), { firstSlot: 8, slots: 256 });
  const memory = new EndlessMemory(0, 0);
  const table = new IoPageTable();
  table.addDomain(new IdleDomain(new FakeIommu({ aperture: WHOLE_SPACE }), false));
  const map = (iova: bigint | null, length: bigint): bigint =>
    table.map(
      [
        {
          pages: new Pages({ pinned, kind: 'user', source: memory, base: GiB, writable: true }),
          startByte: 0n,
          length,
        },
      ],
      iova,
      3,
    );
  for (let i = 0; i < areas; i++) map(BigInt(i) * 0x2000n, 0x1000n);
  return { table, map };
}

for (const areas of [1e3, 1e6]) {
  describe(`an IOAS of ${areas} areas, in one domain`, () => {
    const { table, map } = machine(areas);
    let at = 0;

    bench('map and unmap a page between two areas', () => {
      at = (at + 104729) % areas;
      const iova = BigInt(at) * 0x2000n + 0x1000n;
      map(iova, 0x1000n);
      table.unmap(iova, 0x1000n);
    });

    bench('map and unmap 1 GiB at a chosen IOVA', () => {
      table.unmap(map(null, GiB), GiB);
    });
  });
}
