/** Dirty tracking of SMMUv3: what GET_DIRTY_BITMAP says is what devices wrote. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { ContextTable, type GuestRam, Stage1 } from './guest.ts';
import { leftovers, MIB, type MutableMachine, testMachine } from './program.ts';
import { type Device, GUEST_BASE, Vm } from './vm.ts';

const DIRTY = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
const NO_CLEAR = uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR;
const PAGE = 4096n;
const BLOCK_PAGES = 512;
/** Of the machine one-smmu: the DMA probe, which has an ATC. */
const PROBE = 2;

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** One byte read or written by the probe. @returns whether it was allowed to */
function touch(device: Device, iova: bigint, command: 1 | 2): boolean {
  device.writeBar(0x08, new Uint8Array(BigUint64Array.of(iova).buffer));
  device.writeBar(0x14, u32(1));
  device.writeBar(0x18, u32(command));
  return device.readBar(0x1c, 1)[0] === 1;
}

const write = (device: Device, iova: bigint): boolean => touch(device, iova, 2);
const read = (device: Device, iova: bigint): boolean => touch(device, iova, 1);

class Tracked {
  readonly vm: Vm;
  readonly device: Device;
  readonly hwptId: number;

  private constructor(vm: Vm, device: Device, hwptId: number) {
    this.vm = vm;
    this.device = device;
    this.hwptId = hwptId;
  }

  /** 8 MiB at GUEST_BASE behind a probe that is attached and tracked. @param huge blocks of 2 MiB, or pages only */
  static async start(huge: boolean, change: (machine: MutableMachine) => void = () => {}): Promise<Tracked> {
    const { machine } = testMachine({ preset: 'one-smmu', change });
    const vm = await Vm.start(machine);
    if (!huge) {
      await vm.unmap(GUEST_BASE, 8 * MIB);
      const values = { optionId: uapi.IOMMU_OPTION_HUGE_PAGES, op: 0, objectId: vm.ioasId, val64: 0n };
      await vm.program.ok(vm.iommufd, uapi.IOMMU_OPTION, uapi.Option, values);
      await vm.map(GUEST_BASE, 0n, 8 * MIB);
    }
    const device = await vm.device(PROBE);
    device.setCommand(0x6);
    const values = { flags: DIRTY, devId: device.id, ptId: vm.ioasId };
    const { outHwptId } = await vm.program.ok(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
    await device.attach(outHwptId);
    const tracked = new Tracked(vm, device, outHwptId);
    await tracked.track();
    return tracked;
  }

  async track(): Promise<void> {
    const { program, iommufd } = this.vm;
    const values = { flags: 1, hwptId: this.hwptId };
    await program.ok(iommufd, uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.HwptSetDirtyTracking, values);
  }

  /** Numbers of the set bits for `pages` pages from page `first` of the RAM on, in units of `unit` pages. */
  async bitmap(first: number, pages: number, unit = 1, flags = 0): Promise<number[]> {
    const { program, iommufd } = this.vm;
    const bytes = new Uint8Array(Math.ceil(pages / unit / 8));
    const values = {
      hwptId: this.hwptId,
      flags,
      iova: GUEST_BASE + BigInt(first) * PAGE,
      length: BigInt(pages) * PAGE,
      pageSize: BigInt(unit) * PAGE,
      data: program.put(bytes),
    };
    await program.ok(iommufd, uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, uapi.HwptGetDirtyBitmap, values);
    const answer = program.get(0x1000, bytes.length);
    return Array.from({ length: bytes.length * 8 }, (_, bit) => bit).filter(
      (bit) => answer[bit >> 3]! & (1 << (bit & 7)),
    );
  }
}

const iova = (page: number): bigint => GUEST_BASE + BigInt(page) * PAGE + 0x123n;

describe('dirty tracking', () => {
  it('is a capability of SMMUs with HTTU, and its flag stands alone or with PASID', async () => {
    for (const httu of [0, 1, 2]) {
      const { machine } = testMachine({ preset: 'one-smmu', change: ({ iommus }) => (iommus[0]!.httu = httu) });
      const vm = await Vm.start(machine);
      const device = await vm.device(PROBE);
      const info = await vm.program.ok(vm.iommufd, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { devId: device.id });
      expect(info.outCapabilities & BigInt(uapi.IOMMU_HW_CAP_DIRTY_TRACKING)).toBe(httu === 2 ? 1n : 0n);
      const alloc = (flags: number) =>
        vm.program.err(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { flags, devId: device.id, ptId: vm.ioasId });
      expect(await alloc(DIRTY)).toBe(httu === 2 ? '' : 'EOPNOTSUPP');
      expect(await alloc(DIRTY | uapi.IOMMU_HWPT_ALLOC_PASID)).toBe(httu === 2 ? '' : 'EOPNOTSUPP');
      expect(await alloc(DIRTY | uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)).toBe('EOPNOTSUPP');
    }
  });

  it.each([
    ['linux-6.10', 'EOPNOTSUPP'],
    ['linux-6.11', ''],
  ])('of SMMUv3 came with Linux 6.11: %s', async (abi, errno) => {
    const { machine } = testMachine({ preset: 'one-smmu', abi });
    const vm = await Vm.start(machine);
    const { id: devId } = await vm.device(PROBE);
    const values = { flags: DIRTY, devId, ptId: vm.ioasId };
    expect(await vm.program.err(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).toBe(errno);
  });

  it('is not for a device behind an SMMU that cannot', async () => {
    const { machine } = testMachine({ change: ({ iommus }) => (iommus[0]!.httu = 2) });
    const vm = await Vm.start(machine);
    const [first, second] = [await vm.device(0), await vm.device(1)];
    const values = { flags: DIRTY, devId: first.id, ptId: vm.ioasId };
    const { outHwptId } = await vm.program.ok(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
    expect(await second.attachErr(outHwptId)).toBe('EINVAL');
    expect(await first.attachErr(outHwptId)).toBe('');
  });

  it('goes up to a BAR that its device has taken back: a bitmap says nothing of that, and a clean start is EINVAL', async () => {
    const tracked = await Tracked.start(false);
    const { vm, device } = tracked;
    const { program, iommufd } = vm;
    const owner = await vm.device(0);
    const words = Uint32Array.of(40, 11 | (1 << 16), 0, 0, 0, 1, 0, 0, 0x1000, 0);
    const fd = await program.result(owner.fd, vfio.VFIO_DEVICE_FEATURE, program.put(new Uint8Array(words.buffer)));
    await vm.unmap(GUEST_BASE, 8 * MIB);
    await vm.map(GUEST_BASE, 0n, 4096);
    const bar = { flags: 7, ioasId: vm.ioasId, fd: fd as number, length: 0x1000n, iova: GUEST_BASE + PAGE };
    await program.ok(iommufd, uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, bar);
    await vm.map(GUEST_BASE + 2n * PAGE, 0n, 4096);
    await tracked.track();
    for (const page of [0, 2]) expect(write(device, iova(page))).toBe(true);
    owner.setCommand(0);
    expect(await tracked.bitmap(0, 3, 1, NO_CLEAR)).toEqual([0]);
    expect(await tracked.bitmap(2, 1, 1, NO_CLEAR)).toEqual([0]);
    const values = { flags: 1, hwptId: tracked.hwptId };
    const { IOMMU_HWPT_SET_DIRTY_TRACKING: command, HwptSetDirtyTracking: layout } = uapi;
    expect(await program.err(iommufd, command, layout, values)).toBe('EINVAL');
  });

  it('tells written pages from read ones, once, or again with NO_CLEAR', async () => {
    const tracked = await Tracked.start(false);
    for (const page of [3, 700, 701]) expect(write(tracked.device, iova(page))).toBe(true);
    for (const page of [4, 3, 900]) expect(read(tracked.device, iova(page))).toBe(true);
    expect(await tracked.bitmap(0, 2048, 1, NO_CLEAR)).toEqual([3, 700, 701]);
    expect(await tracked.bitmap(0, 2048, 512, NO_CLEAR)).toEqual([0, 1]);
    expect(await tracked.bitmap(0, 2048)).toEqual([3, 700, 701]);
    expect(await tracked.bitmap(0, 2048)).toEqual([]);
    // Had the IOTLB or the ATC still held the page as dirty, nobody would hear of this write.
    expect(write(tracked.device, iova(700))).toBe(true);
    expect(await tracked.bitmap(0, 2048)).toEqual([700]);
  });

  it('reports a block as a whole, as far as it was asked for, and clears it as a whole', async () => {
    const tracked = await Tracked.start(true);
    expect(write(tracked.device, iova(1000))).toBe(true);
    expect(await tracked.bitmap(0, 2048, 512, NO_CLEAR)).toEqual([1]);
    expect((await tracked.bitmap(0, 2048, 1, NO_CLEAR)).length).toBe(BLOCK_PAGES);
    expect(await tracked.bitmap(600, 8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(await tracked.bitmap(0, 2048)).toEqual([]);
    expect(write(tracked.device, iova(601))).toBe(true);
    expect((await tracked.bitmap(0, 2048))[0]).toBe(512);
  });

  it('starts clean, but pages that are mapped later count as written', async () => {
    const tracked = await Tracked.start(false);
    write(tracked.device, iova(5));
    await tracked.track();
    expect(await tracked.bitmap(0, 2048, 1, NO_CLEAR)).toEqual([]);
    await tracked.vm.map(GUEST_BASE + BigInt(16 * MIB), 0n, 2 * 4096);
    expect(await tracked.bitmap(4096, 2)).toEqual([0, 1]);
    expect(await tracked.bitmap(4096, 2)).toEqual([]);
  });

  it('forgets with the mapping, and lets everything go in the end', async () => {
    const tracked = await Tracked.start(false);
    write(tracked.device, iova(5));
    await tracked.vm.unmap(GUEST_BASE, 8 * MIB);
    expect(await tracked.bitmap(0, 2048)).toEqual([]);
    tracked.vm.program.die();
    expect(leftovers(tracked.vm.program.machine)).toEqual({});
  });
});

describe('whatever the device writes', () => {
  const PAGES = 2048;
  const page = fc.nat(PAGES - 1);
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), page }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), page }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('bitmap' as const),
        unit: fc.constantFrom(1, 2, 16, 512),
        first: page,
        pages: fc.integer({ min: 1, max: PAGES }),
        clear: fc.boolean(),
      }),
    },
  );

  it.each([
    ['pages', 1, false],
    ['blocks of 2 MiB', BLOCK_PAGES, true],
  ])('the bitmap is exactly what it wrote, by %s', async (_what, leaf, huge) => {
    const run = fc.asyncProperty(fc.array(step, { maxLength: 20 }), fc.boolean(), async (steps, ril) => {
      const tracked = await Tracked.start(huge, ({ iommus }) => (iommus[0]!.ril = ril));
      const dirty = new Set<number>();
      for (const each of steps) {
        if (each.kind === 'read') expect(read(tracked.device, iova(each.page))).toBe(true);
        if (each.kind === 'write') {
          expect(write(tracked.device, iova(each.page))).toBe(true);
          dirty.add(Math.floor(each.page / leaf));
        }
        if (each.kind !== 'bitmap') continue;
        const first = Math.floor(each.first / each.unit) * each.unit;
        const pages = Math.ceil(Math.min(each.pages, PAGES - first) / each.unit) * each.unit;
        const expected = new Set<number>();
        for (let at = first; at < first + pages; at++) {
          if (dirty.has(Math.floor(at / leaf))) expected.add(Math.floor((at - first) / each.unit));
        }
        expect(await tracked.bitmap(first, pages, each.unit, each.clear ? 0 : NO_CLEAR)).toEqual([...expected]);
        if (!each.clear) continue;
        for (let at = first; at < first + pages; at++) dirty.delete(Math.floor(at / leaf));
      }
    });
    await fc.assert(run, { numRuns: 15 });
  });
});

describe('a guest with HTTU of its own', () => {
  const HD = 1n << 42n;
  const HA = 1n << 43n;
  const DBM = 1n << 51n;
  const READ_ONLY = 1n << 7n;

  it('sees in its own tables what its device wrote', async () => {
    const { machine } = testMachine({ preset: 'one-smmu' });
    const vm = await Vm.start(machine);
    const device = await vm.device(PROBE);
    device.setCommand(0x6);
    const slice = await vm.slice(device);
    await slice.setVirtualId(device, 0x10);
    const ram: GuestRam = vm.ram;
    const stage1 = new Stage1(ram, 7);
    const [written, seen] = [ram.allocate(), ram.allocate()];
    stage1.map(0x1000n, written);
    stage1.map(0x2000n, seen);
    const contexts = new ContextTable(ram);
    contexts.set(0, stage1);
    ram.store(contexts.base, ram.load(contexts.base) | HA | HD);
    let table = stage1.root;
    for (let level = 0; level < 3; level++) table = ram.load(table) & 0xffff_ffff_f000n;
    for (const index of [1n, 2n]) ram.store(table + 8n * index, ram.load(table + 8n * index) | DBM | READ_ONLY);
    await device.attach(await slice.nested(device, contexts.ste(true)));
    expect([write(device, 0x1000n), read(device, 0x2000n)]).toEqual([true, true]);
    expect(ram.load(table + 8n) & READ_ONLY).toBe(0n);
    expect(ram.load(table + 16n) & READ_ONLY).toBe(READ_ONLY);
  });
});
