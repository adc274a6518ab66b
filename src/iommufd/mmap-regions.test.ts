import { describe, expect, it } from 'vitest';
import { Destroy, IOMMU_DESTROY, IOMMU_VIOMMU_ALLOC, ViommuAlloc } from '../abi/iommufd.ts';
import { IOMMU_VIOMMU_TYPE_SELFTEST, ViommuSelftest } from '../abi/iommufd-test.ts';
import type { MappableMemory } from '../drivers/iommu-driver.ts';
import type { MmioDevice } from '../hardware/iommu.ts';
import { type Mapping, mappedRegisters } from './file.ts';
import { Ioas } from './ioas.ts';
import { MmapRegions } from './mmap-regions.ts';
import { MockProgram } from './test-command/testing.ts';

const region = (pages: number) => ({ bytes: new Uint8Array(pages * 4096) });
const owner = new Ioas();
const holder = { hold() {}, drop() {} };

describe('regions for mmap', () => {
  it('get the lowest free offset, but never 0', () => {
    const regions = new MmapRegions(holder);
    const place = (each: ReturnType<typeof region>) => regions.place(each, owner);
    const [a, b, c] = [region(2), region(1), region(1)];
    expect([place(a), place(b), place(c)]).toEqual([0x1000n, 0x3000n, 0x4000n]);
    regions.remove(b);
    expect(place(region(2))).toBe(0x5000n);
    expect(place(region(1))).toBe(0x3000n);
  });

  it('are mapped by exactly their offset and length', () => {
    const regions = new MmapRegions(holder);
    const a = region(2);
    regions.place(a, owner);
    expect(regions.map(0x1000n, 0x2000n).pages).toBe(a);
    for (const [offset, length] of [
      [0x2000n, 0x1000n],
      [0x1000n, 0x1000n],
      [0n, 0x2000n],
      [0x1000n, 0x3000n],
    ] as const) {
      expect(() => regions.map(offset, length)).toThrow('ENXIO');
    }
  });
});

/** Registers that remember what was written: 64 KiB of them, from `start` on of a larger block. */
function registersAt(start: number) {
  const written = new Map<number, number>();
  const mmio: MmioDevice = {
    readRegister: (offset) => written.get(offset) ?? 0,
    writeRegister: (offset, _size, value) => void written.set(offset, value),
  };
  return { written, registers: { mmio, offset: start, length: 0x10000 } };
}

describe('a region of registers', () => {
  it('has each access done by the registers, word by word, at their offset in the block', () => {
    const regions = new MmapRegions(holder);
    const { written, registers } = registersAt(0x50000);
    const mapped = mappedRegisters(regions.map(regions.place(registers, owner), 0x10000n))!;
    mapped.store(0x80, Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0));
    expect([...written]).toEqual([
      [0x50080, 1],
      [0x50084, 2],
    ]);
    const bytes = new Uint8Array(4);
    mapped.load(0x84, bytes);
    expect([mapped.length, ...bytes]).toEqual([0x10000, 2, 0, 0, 0]);
  });

  it('is one for all who map it, and keeps its owner until nobody does', () => {
    const regions = new MmapRegions(holder);
    const owner = new Ioas();
    const offset = regions.place(registersAt(0).registers, owner);
    const mapping = regions.map(offset, 0x10000n);
    expect([regions.map(offset, 0x10000n) === mapping, owner.users]).toEqual([true, 1]);
    mapping.inUse = () => false;
    regions.sweep();
    expect(owner.users).toBe(0);
  });

  it('in viommu-v2 is mapped by its owner, up to its length, and the owner may go', () => {
    const regions = new MmapRegions(holder, false);
    const owner = new Ioas();
    const { registers } = registersAt(0);
    regions.place(registers, owner);
    const mapping = regions.mapOf(owner, 0x1000n);
    expect([regions.mapOf(owner, 0x10000n) === mapping, owner.users]).toEqual([true, 0]);
    expect(() => regions.mapOf(owner, 0x11000n)).toThrow('EINVAL');
    expect(() => regions.mapOf(new Ioas(), 0x1000n)).toThrow('EOPNOTSUPP');
    regions.remove(registers);
    mapping.ended();
    expect(owner.users).toBe(0);
  });
});

/** A vIOMMU with data, which offers a region that begins with it. */
function withRegion() {
  const program = new MockProgram();
  const ioas = program.ioas();
  const { idevId: devId } = program.device(ioas);
  const hwptId = program.hwpt(devId, ioas, 1);
  const data = new ViommuSelftest();
  data.inData = 0xbeef;
  const dataUptr = program.put(data.bytes);
  const values = { devId, hwptId, type: IOMMU_VIOMMU_TYPE_SELFTEST, dataLen: ViommuSelftest.size, dataUptr };
  const id = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, values).outViommuId;
  program.process.memory.read(Number(dataUptr), data.bytes);
  const map = (length = data.outMmapLength): Mapping =>
    program.context.mmap(program.process, length, 3, 1, data.outMmapOffset);
  const destroy = () => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, map, destroy };
}

describe("a vIOMMU's region", () => {
  it('begins with what the program gave, and is mapped in whole pages', () => {
    const { map } = withRegion();
    const { bytes } = map().pages as MappableMemory;
    expect(new DataView(bytes.buffer).getUint32(0, true)).toBe(0xbeef);
    expect(map(0x1001n)).toBe(map(0x2000n));
    expect(() => map(0x2001n)).toThrow('ENXIO');
  });

  it('keeps the vIOMMU from being destroyed while it is mapped, or about to be', () => {
    const { map, destroy } = withRegion();
    const mapping = map();
    expect(destroy()).toBe('EBUSY');
    mapping.inUse = () => true;
    expect(destroy()).toBe('EBUSY');
    mapping.inUse = () => false;
    expect(destroy()).toBe('');
    mapping.ended();
  });

  it('stays with the iommufd after the last descriptor is closed, until it is unmapped', () => {
    const { program, map } = withRegion();
    const mapping = map();
    program.close();
    expect(program.context.ended).toBe(false);
    mapping.ended();
    expect([program.context.ended, program.mock.resources.viommus]).toEqual([true, 0]);
  });
});
