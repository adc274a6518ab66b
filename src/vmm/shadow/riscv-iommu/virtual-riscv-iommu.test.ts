/** Contexts, entries and commands are written here as numbers: they come from the specification alone. */
import { describe, expect, it } from 'vitest';
import { recordedSpace } from '../testing.ts';
import { VirtualRiscvIommu } from './virtual-riscv-iommu.ts';

const DIRECTORY = 0x4000_0000n;
const QUEUE = 0x4000_1000n;
/** Of the second stage: four pages, aligned to their size. */
const SECOND = 0x4000_4000n;
const FIRST = 0x4000_8000n;

/** Device 3 behind one leaf of 1 GiB in the second stage, and a first stage whose tables are at their own addresses in it. */
function nested() {
  const { host, ram, space } = recordedSpace();
  const iommu = new VirtualRiscvIommu(ram, [{ id: 3, space }], {});
  // GSCID 5 and PSCID 9, both stages Sv39.
  ram.store(DIRECTORY + 0x60n, 1n);
  ram.store(DIRECTORY + 0x68n, (8n << 60n) | (5n << 44n) | (SECOND >> 12n));
  ram.store(DIRECTORY + 0x70n, 9n << 12n);
  ram.store(DIRECTORY + 0x78n, (8n << 60n) | (FIRST >> 12n));
  // [0x4000_0000, 0x8000_0000) to itself, and [2^40, ...) too: V R W U A D.
  ram.store(SECOND + 8n, 0x1000_00d7n);
  ram.store(SECOND + 8n * 0x400n, 0x1000_00d7n);
  ram.store(FIRST, 0x1000_2401n);
  ram.store(0x4000_9000n + 8n, 0x1000_2801n);
  iommu.write('CQB', 0x1000_0400n | 7n);
  iommu.write('CQCSR', 1n);
  let tail = 0n;
  const push = (low: bigint, high: bigint) => {
    ram.store(QUEUE + 16n * tail, low);
    ram.store(QUEUE + 16n * tail + 8n, high);
    tail++;
    iommu.write('CQT', tail);
  };
  return { host, ram, iommu, push };
}

describe('a virtual RISC-V IOMMU', () => {
  it('blocks a device while it is off, passes it in bare mode, and reads its context in the directory', () => {
    const { host, ram, iommu } = nested();
    ram.store(0x4000_a000n, 0x1000_30d3n);
    iommu.write('DDTP', 1n);
    expect(host.take()).toEqual(['map 40000000 -> RAM + 0, 100000 bytes, 3']);
    iommu.write('DDTP', 0x1000_0000n | 2n);
    // VA 0x20_0000: V R U A D.
    expect(host.take()).toEqual(['unmap 40000000, 100000 bytes', 'map 200000 -> RAM + c000, 1000 bytes, 1']);
    iommu.write('DDTP', 0n);
    expect(host.take()).toEqual(['unmap 200000, 1000 bytes']);
  });

  it('translates 41 bits in the second stage', () => {
    const { host, ram, iommu } = nested();
    // The page is at 2^40 + 0xc000 for the first stage.
    ram.store(0x4000_a000n, ((2n ** 40n + 0xc000n) >> 2n) | 0xd7n);
    iommu.write('DDTP', 0x1000_0000n | 2n);
    expect(host.take()).toEqual(['map 200000 -> RAM + c000, 1000 bytes, 3']);
  });

  it('goes on with what it has cached until a command names it', () => {
    const { host, ram, iommu, push } = nested();
    ram.store(0x4000_a000n, 0x1000_30d7n);
    iommu.write('DDTP', 0x1000_0000n | 2n);
    ram.store(0x4000_a000n, 0x1000_34d7n);
    host.take();
    // IOTINVAL.VMA, AV PSCV GV: PSCID 8, another page, and then the one.
    const vma = (pscid: bigint) => 1n | (1n << 10n) | (pscid << 12n) | (3n << 32n) | (5n << 44n);
    push(vma(8n), 0x200n << 10n);
    push(vma(9n), 0x201n << 10n);
    expect(host.take()).toEqual([]);
    push(vma(9n), 0x200n << 10n);
    expect(host.take()).toEqual(['unmap 200000, 1000 bytes', 'map 200000 -> RAM + d000, 1000 bytes, 3']);
  });

  it('reads a context again after IODIR.INVAL_DDT of its device, and not of another', () => {
    const { host, ram, iommu, push } = nested();
    ram.store(0x4000_a000n, 0x1000_30d7n);
    iommu.write('DDTP', 0x1000_0000n | 2n);
    host.take();
    ram.store(DIRECTORY + 0x60n, 0n);
    push(3n | (1n << 33n) | (4n << 40n), 0n);
    expect(host.take()).toEqual([]);
    push(3n | (1n << 33n) | (3n << 40n), 0n);
    expect(host.take()).toEqual(['unmap 200000, 1000 bytes']);
  });

  it.each([
    ['no opcode', 0x7fn],
    ['no function of IOTINVAL', 1n | (2n << 7n)],
    ['IOTINVAL.GVMA with PSCV', 1n | (1n << 7n) | (1n << 32n)],
  ])('stops at %s', (_what, low) => {
    const { iommu, push } = nested();
    push(2n, 0n);
    push(low, 0n);
    expect([iommu.read('CQCSR'), iommu.read('CQH'), iommu.read('CQT')]).toEqual([0x401n, 1n, 2n]);
  });
});
