import { describe, expect, it } from 'vitest';
import {
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_ALLOW_IOVAS,
  IOMMU_IOAS_COPY,
  IOMMU_IOAS_IOVA_RANGES,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_UNMAP,
  IoasAlloc,
  IoasAllowIovas,
  IoasCopy,
  IoasIovaRanges,
  IoasMap,
  IoasUnmap,
} from '../abi/iommufd.ts';
import { IommufdDevice } from './device.ts';
import { Program } from './testing.ts';
import { FakeDevice, FakeIommu } from './testing-driver.ts';
import { U64_MAX } from './u64.ts';

const FIXED = 1;
const WRITEABLE = 2;
const READABLE = 4;

const ranges = (...pairs: bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(pairs).buffer);

describe('IOAS_ALLOC', () => {
  it('takes no flags', () => {
    const program = new Program();
    expect(program.err(IOMMU_IOAS_ALLOC, IoasAlloc, { flags: 1 })).toBe('EOPNOTSUPP');
    expect([program.ioas(), program.ioas()]).toEqual([1, 2]);
  });
});

describe('IOAS_MAP', () => {
  const fields = (program: Program, ioasId: number) => ({
    flags: FIXED | WRITEABLE | READABLE,
    ioasId,
    userVa: program.base,
    length: 0x1000n,
    iova: 0x10000n,
  });

  it('checks flags, then numbers, then access, then the IOAS, then the user address', () => {
    const program = new Program();
    const good = fields(program, program.ioas());
    const err = (values: object) => program.err(IOMMU_IOAS_MAP, IoasMap, { ...good, ...values });
    expect(err({ flags: 8, iova: U64_MAX })).toBe('EOPNOTSUPP');
    expect(err({ reserved: 1 })).toBe('EOPNOTSUPP');
    expect(err({ flags: FIXED, iova: U64_MAX })).toBe('EOVERFLOW');
    expect(err({ flags: FIXED, length: U64_MAX })).toBe('EOVERFLOW');
    expect(err({ flags: FIXED, ioasId: 9 })).toBe('EINVAL');
    expect(err({ ioasId: 9, userVa: U64_MAX })).toBe('ENOENT');
    expect(err({ userVa: U64_MAX - 0xfffn, length: 0n })).toBe('EINVAL');
    expect(err({ userVa: U64_MAX - 0xfffn })).toBe('EOVERFLOW');
    expect(err({ length: U64_MAX - 0xfffn, userVa: 0n })).toBe('EINVAL');
    expect(err({ length: 0n })).toBe('EINVAL');
    expect(err({})).toBe('');
  });

  it('without FIXED_IOVA gives the IOVA that it chose', () => {
    const program = new Program();
    const good = fields(program, program.ioas());
    const mapped = program.ok(IOMMU_IOAS_MAP, IoasMap, { ...good, flags: READABLE, userVa: program.base + 0x3000n });
    expect(mapped.iova).toBe(0x1000n);
  });

  it('does not look at the memory before a domain needs it', () => {
    const program = new Program();
    const ioasId = program.ioas();
    program.ok(IOMMU_IOAS_MAP, IoasMap, { ...fields(program, ioasId), userVa: 0x123000n });
    const device = IommufdDevice.bind(program.context, new FakeDevice(new FakeIommu()), 'vfio0');
    expect(() => device.attach(ioasId)).toThrow('EFAULT');
    expect(program.context.objects.counts()).toEqual({ ioas: 1, device: 1 });
  });
});

describe('IOAS_COPY', () => {
  it('maps the memory of one IOAS in another', () => {
    const program = new Program();
    const [from, to] = [program.ioas(), program.ioas()];
    program.map(from, 0x10000n, 0x4000n, 0x1000n);
    const device = new FakeDevice(new FakeIommu());
    IommufdDevice.bind(program.context, device, 'vfio0').attach(to);
    const good = { flags: WRITEABLE, dstIoasId: to, srcIoasId: from, length: 0x2000n, srcIova: 0x11000n };
    const copied = program.ok(IOMMU_IOAS_COPY, IoasCopy, good);
    // User address base + 0x2000 is aligned to 8 KiB, and so is the IOVA.
    expect(copied.dstIova).toBe(0x2000n);
    expect(device.dma(0x2000n)).not.toBeNull();
    const err = (values: object) => program.err(IOMMU_IOAS_COPY, IoasCopy, { ...good, ...values });
    expect(err({ flags: 8 })).toBe('EOPNOTSUPP');
    expect(err({ dstIova: U64_MAX })).toBe('EOVERFLOW');
    expect(err({ flags: FIXED })).toBe('EINVAL');
    expect(err({ srcIoasId: 9, length: 0n })).toBe('ENOENT');
    expect(err({ dstIoasId: 9, length: 0n })).toBe('EINVAL');
    expect(err({ dstIoasId: 9, srcIova: 0n })).toBe('ENOENT');
    expect(err({ dstIoasId: 9 })).toBe('ENOENT');
    expect(err({ flags: WRITEABLE | FIXED, dstIova: 0x3000n })).toBe('EEXIST');
  });

  it('cannot gain the right to write', () => {
    const program = new Program();
    const ioasId = program.ioas();
    const map = { flags: READABLE | FIXED, ioasId, userVa: program.base, length: 0x1000n, iova: 0n };
    program.ok(IOMMU_IOAS_MAP, IoasMap, map);
    const copy = { flags: WRITEABLE, dstIoasId: ioasId, srcIoasId: ioasId, length: 0x1000n, srcIova: 0n };
    expect(program.err(IOMMU_IOAS_COPY, IoasCopy, copy)).toBe('EPERM');
  });
});

describe('IOAS_UNMAP', () => {
  it('gives the number of bytes that it unmapped, ENOENT for none', () => {
    const program = new Program();
    const ioasId = program.ioas();
    const unmap = (iova: bigint, length: bigint) => ({ ioasId, iova, length });
    program.map(ioasId, 0x1000n, 0x1000n);
    program.map(ioasId, 0x8000n, 0x2000n);
    expect(program.err(IOMMU_IOAS_UNMAP, IoasUnmap, unmap(0x3000n, 0x1000n))).toBe('ENOENT');
    expect(program.err(IOMMU_IOAS_UNMAP, IoasUnmap, unmap(0x3000n, 0n))).toBe('EINVAL');
    expect(program.err(IOMMU_IOAS_UNMAP, IoasUnmap, unmap(1n, U64_MAX))).toBe('EOVERFLOW');
    expect(program.err(IOMMU_IOAS_UNMAP, IoasUnmap, unmap(3n, U64_MAX - 1n))).toBe('EOVERFLOW');
    expect(program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, unmap(0n, 0x4000n)).length).toBe(0x1000n);
  });

  it('of 0 and U64_MAX unmaps everything, even nothing', () => {
    const program = new Program();
    const all = { ioasId: program.ioas(), iova: 0n, length: U64_MAX };
    expect(program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, all).length).toBe(0n);
    program.map(all.ioasId, 0n, 0x3000n);
    expect(program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, all).length).toBe(0x3000n);
  });
});

describe('IOAS_IOVA_RANGES', () => {
  it('gives as many ranges as there is room for, and how many there are', () => {
    const program = new Program();
    const ioasId = program.ioas();
    const msi = { start: 0x8000000n, last: 0x80fffffn, type: 'software-msi' } as const;
    const device = new FakeDevice(new FakeIommu(), { reserved: [msi] });
    IommufdDevice.bind(program.context, device, 'vfio0').attach(ioasId);
    const allowedIovas = program.put(new Uint8Array(64));
    const ask = (numIovas: number) =>
      program.ioctl(IOMMU_IOAS_IOVA_RANGES, IoasIovaRanges, { ioasId, numIovas, allowedIovas });
    expect(ask(0)).toMatchObject({ result: -90, s: { numIovas: 2, outIovaAlignment: 0x1000n } });
    expect(ask(2)).toMatchObject({ result: 0, s: { numIovas: 2 } });
    const bytes = new Uint8Array(48);
    program.process.memory.read(Number(allowedIovas), bytes);
    expect(bytes).toEqual(ranges(0n, 0x7ffffffn, 0x8100000n, 2n ** 48n - 1n, 0n, 0n));
    const { result, s } = program.ioctl(IOMMU_IOAS_IOVA_RANGES, IoasIovaRanges, {
      ioasId,
      numIovas: 1,
      allowedIovas: 16n,
    });
    expect([result, s.numIovas]).toEqual([-14, 1]);
    expect(program.err(IOMMU_IOAS_IOVA_RANGES, IoasIovaRanges, { ioasId, reserved: 1 })).toBe('EOPNOTSUPP');
  });
});

describe('IOAS_ALLOW_IOVAS', () => {
  it('checks each range in order, and replaces the list or leaves it', () => {
    const program = new Program();
    const ioasId = program.ioas();
    const allow = (...pairs: bigint[]) =>
      program.err(IOMMU_IOAS_ALLOW_IOVAS, IoasAllowIovas, {
        ioasId,
        numIovas: pairs.length / 2,
        allowedIovas: program.put(ranges(...pairs)),
      });
    const chosen = () => {
      const map = { flags: READABLE, ioasId, userVa: program.base + 0x1000n, length: 0x1000n };
      const { iova } = program.ok(IOMMU_IOAS_MAP, IoasMap, map);
      program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova, length: 0x1000n });
      return iova;
    };
    expect(allow(0x50000n, 0x5ffffn, 0x20000n, 0x2ffffn)).toBe('');
    expect(chosen()).toBe(0x20000n);
    expect(allow(5n, 5n)).toBe('EINVAL');
    expect(allow(0x1000n, 0x2000n, 0x2000n, 0x3000n)).toBe('EINVAL');
    expect(chosen()).toBe(0x20000n);
    const unreadable = { ioasId, numIovas: 1, allowedIovas: 64n };
    expect(program.err(IOMMU_IOAS_ALLOW_IOVAS, IoasAllowIovas, unreadable)).toBe('EFAULT');
    expect(allow()).toBe('');
    expect(chosen()).toBe(0x1000n);
  });

  it('refuses reserved ranges, and makes devices that reserve allowed ones unattachable', () => {
    const program = new Program();
    const ioasId = program.ioas();
    const msi = { start: 0x8000000n, last: 0x80fffffn, type: 'msi' } as const;
    const physical = new FakeDevice(new FakeIommu(), { reserved: [msi] });
    const device = IommufdDevice.bind(program.context, physical, 'vfio0');
    const allow = (start: bigint, last: bigint) =>
      program.err(IOMMU_IOAS_ALLOW_IOVAS, IoasAllowIovas, {
        ioasId,
        numIovas: 1,
        allowedIovas: program.put(ranges(start, last)),
      });
    expect(allow(0x8000000n, 0x8000fffn)).toBe('');
    expect(() => device.attach(ioasId)).toThrow('EADDRINUSE');
    expect(allow(0x1000n, 0xffffn)).toBe('');
    device.attach(ioasId);
    expect(allow(0x8000000n, 0x8000fffn)).toBe('EADDRINUSE');
  });
});
