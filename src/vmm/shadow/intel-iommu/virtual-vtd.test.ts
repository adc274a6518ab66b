/** Entries and descriptors are written here as numbers: they come from the specification, and from nothing in this folder. */
import { describe, expect, it } from 'vitest';
import { recordedSpace } from '../testing.ts';
import { VirtualVtd } from './virtual-vtd.ts';

const SOURCE = 0x0110;
const ROOT = 0x4000_0000n;
const CONTEXTS = 0x4000_1000n;
const QUEUE = 0x4000_2000n;
const TABLES = [0x4000_3000n, 0x4000_4000n, 0x4000_5000n, 0x4000_6000n] as const;
const STATUS = 0x4000_7000n;

/** Behind domain 0x1234 with four levels of tables, of which the lowest stands for 2 MiB from FIRST on. */
function translated() {
  const { host, ram, space } = recordedSpace();
  const vtd = new VirtualVtd(ram, [{ id: SOURCE, space }], {});
  // Root entry of bus 1, context entry of device 2 function 0: 16 bytes each.
  ram.store(ROOT + 16n, CONTEXTS | 1n);
  ram.store(CONTEXTS + 0x100n, TABLES[0] | 1n);
  ram.store(CONTEXTS + 0x108n, 0x12_3402n);
  ram.store(TABLES[0] + 0x808n, TABLES[1] | 3n);
  ram.store(TABLES[1], TABLES[2] | 3n);
  ram.store(TABLES[2] + 8n, TABLES[3] | 3n);
  vtd.write('RTADDR', ROOT);
  vtd.write('GCMD', 0x4000_0000n);
  vtd.write('IQA', QUEUE);
  vtd.write('IQT', 0n);
  vtd.write('GCMD', 0x8400_0000n);
  host.take();
  let tail = 0n;
  const push = (low: bigint, high: bigint) => {
    ram.store(QUEUE + tail, low);
    ram.store(QUEUE + tail + 8n, high);
    tail += 16n;
    vtd.write('IQT', tail);
  };
  return { host, ram, vtd, push };
}

/** IOVA of the first entry of the lowest table: index 0x101 at the top, 0, 1. */
const FIRST = 0x8080_0020_0000n;

describe('a virtual Intel IOMMU', () => {
  it('tells of caching mode, of what it can invalidate, and of its tables', () => {
    const { vtd } = translated();
    expect(vtd.read('CAP')).toBe(0x0012_008c_002f_0680n);
    expect(vtd.read('ECAP')).toBe(0x42n);
  });

  it('has registers that say what is on', () => {
    const { vtd } = translated();
    expect(vtd.read('GSTS')).toBe(0xc400_0000n);
    vtd.write('GSTS', 0n);
    expect(vtd.read('GSTS')).toBe(0xc400_0000n);
  });

  it('follows the entries of a page-selective invalidation, and no others', () => {
    const { host, ram, push } = translated();
    ram.store(TABLES[3], 0x4000_9003n);
    ram.store(TABLES[3] + 8n, 0x4000_a001n);
    ram.store(TABLES[3] + 16n, 0x4000_b003n);
    // Type 2, granularity 3, domain 0x1234; two pages from an address inside them.
    push(0x1234_0032n, (FIRST + 0x1000n) | 1n);
    expect(host.take()).toEqual([
      'map 808000200000 -> RAM + 9000, 1000 bytes, 3',
      'map 808000201000 -> RAM + a000, 1000 bytes, 1',
    ]);
    // Domain-selective, of another domain and of this one.
    push(0x1235_0022n, 0n);
    expect(host.take()).toEqual([]);
    push(0x1234_0022n, 0n);
    expect(host.take()).toEqual(['map 808000202000 -> RAM + b000, 1000 bytes, 3']);
  });

  it('looks at a context entry again when its cache is invalidated, and not before', () => {
    const { host, ram, push } = translated();
    ram.store(TABLES[3], 0x4000_9003n);
    push(0x12n, 0n);
    host.take();
    ram.store(CONTEXTS + 0x100n, 0n);
    push(0x12n, 0n);
    expect(host.take()).toEqual([]);
    // Type 1, granularity 3: of another device, then of any function of this one.
    push((0x0118n << 32n) | 0x31n, 0n);
    expect(host.take()).toEqual([]);
    push((3n << 48n) | (0x0117n << 32n) | 0x31n, 0n);
    expect(host.take()).toEqual(['unmap 808000200000, 1000 bytes']);
  });

  it('writes what a wait descriptor says, where it says', () => {
    const { ram, push } = translated();
    push((0xabcdn << 32n) | 0x25n, STATUS);
    expect(ram.words(STATUS, 1)[0]).toBe(0xabcd);
    push((0xabcdn << 32n) | 0x25n, 0xffff_f000n);
  });

  it.each([
    ['of no known type', 0x0fn, 0n],
    ['of a reserved granularity', 0x1234_0002n, 0n],
    ['of more pages than CAP.MAMV', 0x1234_0032n, 19n],
  ])('stops at a descriptor %s', (_what, low, high) => {
    const { vtd, push } = translated();
    push(low, high);
    expect([vtd.read('FSTS'), vtd.read('IQH'), vtd.read('IQT')]).toEqual([0x10n, 0n, 16n]);
    vtd.write('FSTS', 0x10n);
    expect(vtd.read('FSTS')).toBe(0n);
  });

  it('stops when the tail is outside the queue', () => {
    const { vtd } = translated();
    vtd.write('IQT', 0x1000n);
    expect(vtd.read('FSTS')).toBe(0x10n);
  });
});
