import { bench, describe } from '../../../bench/harness.ts';
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import { FrameAllocator } from '../frame-allocator.ts';
import { PageTable } from './page-table.ts';
import { tableFormat } from './table-format.ts';

/** DESIGN, "What fast means": 4 KiB leaves at most 5 ns each; a row here divided by its number of leaves. */
function table(): PageTable {
  const memory = new PhysicalMemory();
  memory.addRam(0x100000, 0x10000);
  return new PageTable(memory, new FrameAllocator(memory, 0x100000, 0x10000), tableFormat(2, 12, 48, 48));
}

function mapUnmap(name: string, output: number, frames: number): void {
  const subject = table();
  bench(name, () => {
    subject.map(0x40000, output, frames, 3);
    subject.unmap(0x40000, frames);
    subject.reclaim();
  });
}

describe('map and unmap', () => {
  mapUnmap('262144 leaves of 4 KiB (1 GiB)', 0x80001, 0x40000);
  mapUnmap('512 leaves of 2 MiB (1 GiB)', 0x80200, 0x40000);
  mapUnmap('512 leaves of 1 GiB', 0x80000, 0x40000 * 500);
  mapUnmap('one page', 0x80001, 1);
});
