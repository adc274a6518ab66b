/**
 * What the VMMs that forward a guest's SMMUv3 ask of the host, on the presets that are made for them: QEMU's accelerated
 * vSMMU (hw/arm/smmuv3-accel.c) and OpenVMM's, each with its own calls in its own order and the checks that it makes.
 */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import { mapLeaf, naturalStart, type Shape } from '../../src/hardware/pagetable/testing.ts';
import { ContextTable, commands, type GuestCommand, type GuestRam, STE_ABORT, STE_BYPASS, Stage1 } from './guest.ts';
import { leftovers, type MachineChoice, testMachine } from './program.ts';
import { type Device, GUEST_BASE, Probe, type Slice, Vm } from './vm.ts';

/** vfio0 to vfio3 of the presets: NVMe, IOAT and DMA probe behind the first SMMU, NVMe behind the second. */
const [NVME, IOAT, PROBE, BEHIND_SECOND] = [0, 1, 2, 3];
const IOVA = 0x10_0000n;
const UNMAPPED = 0x6000_0000n;
const HW_INFO_BYTES = 40;

interface HwInfo {
  readonly type: number;
  readonly dataLen: number;
  readonly capabilities: bigint;
  readonly maxPasidLog2: number;
  readonly bytes: Uint8Array;
  readonly idr: readonly number[];
}

/** GET_HW_INFO into a buffer of `length` bytes within one that was full of 0xee. */
async function hwInfo(vm: Vm, device: Device, length: number): Promise<HwInfo> {
  const dataUptr = vm.program.put(new Uint8Array(64).fill(0xee));
  const values = { devId: device.id, dataLen: length, dataUptr: length ? dataUptr : 0n };
  const s = await vm.program.ok(vm.iommufd, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, values);
  const bytes = vm.program.get(0x1000, 64);
  const idr = [...new Uint32Array(bytes.slice(8, 32).buffer)];
  const { outDataType, dataLen, outCapabilities, outMaxPasidLog2 } = s;
  return { type: outDataType, dataLen, capabilities: outCapabilities, maxPasidLog2: outMaxPasidLog2, bytes, idr };
}

const bits = (value: number, high: number, low: number): number => (value >>> low) & (2 ** (high - low + 1) - 1);

const OAS_BITS = [32, 36, 40, 42, 44, 48, 52];

interface Wanted {
  readonly oas: number;
  readonly ssidSize: number;
}

/** The fields that QEMU compares and does not find as it wants them. Field positions: IHI 0070, 6.3.1 to 6.3.6. */
function unmetByQemu(idr: readonly number[], { oas, ssidSize }: Wanted): string[] {
  const checks: Record<string, boolean> = {
    ST_LEVEL: bits(idr[0]!, 28, 27) === 1,
    TTENDIAN: bits(idr[0]!, 22, 21) <= 2,
    TTF: bits(idr[0]!, 3, 2) >= 2,
    ATS: bits(idr[0]!, 10, 10) === 1,
    SIDSIZE: bits(idr[1]!, 5, 0) >= 16,
    SSIDSIZE: bits(idr[1]!, 10, 6) >= ssidSize,
    RIL: bits(idr[3]!, 10, 10) === 1,
    OAS: OAS_BITS[bits(idr[5]!, 2, 0)]! >= oas,
    GRAN4K: bits(idr[5]!, 4, 4) === 1,
    GRAN16K: bits(idr[5]!, 5, 5) === 1,
    GRAN64K: bits(idr[5]!, 6, 6) === 1,
  };
  return Object.keys(checks).filter((name) => !checks[name]);
}

/** OpenVMM tests TTF as a set of bits and TTENDIAN as one of two values, and asks for the 4 KiB granule alone. */
function unmetByOpenVmm(idr: readonly number[], oas: number): string[] {
  const checks: Record<string, boolean> = {
    TTF: (bits(idr[0]!, 3, 2) & 0b10) !== 0,
    TTENDIAN: [0b00, 0b10].includes(bits(idr[0]!, 22, 21)),
    GRAN4K: bits(idr[5]!, 4, 4) === 1,
    OAS: OAS_BITS[bits(idr[5]!, 2, 0)]! >= oas,
  };
  return Object.keys(checks).filter((name) => !checks[name]);
}

async function start(preset: string, change?: MachineChoice['change']) {
  const { machine, events } = testMachine({ preset, ...(change ? { change } : {}) });
  return { machine, events, vm: await Vm.start(machine) };
}

async function ranges(vm: Vm) {
  const room = 8;
  const { iommufd: fd, ioasId, program } = vm;
  const layout = uapi.IoasIovaRanges;
  const asked = await program.call(fd, uapi.IOMMU_IOAS_IOVA_RANGES, layout, { ioasId });
  const allowedIovas = program.put(new Uint8Array(16 * room));
  const values = { ioasId, numIovas: room, allowedIovas };
  const { numIovas, outIovaAlignment } = await program.ok(fd, uapi.IOMMU_IOAS_IOVA_RANGES, layout, values);
  const words = new BigUint64Array(program.get(0x1000, 16 * numIovas).buffer);
  const list = Array.from({ length: numIovas }, (_, i) => [words[2 * i]!, words[2 * i + 1]!]);
  return { asked: { errno: asked.errno, numIovas: asked.s.numIovas }, list, alignment: outIovaAlignment };
}

/** The queue's next entries: 8 bytes of header, and 32 of record unless events were lost. */
function nextEvent(bytes: Uint8Array) {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return { flags: words[0], sequence: words[1], type: words[2]! & 0xff, stream: words[3], length: bytes.length };
}

describe.each([
  ['accel-oas48', 48],
  ['accel-oas44', 44],
])('%s', (preset, oas) => {
  it('has in its ID registers what QEMU and OpenVMM ask for, up to the largest of their options', async () => {
    const { vm } = await start(preset);
    for (const index of [NVME, BEHIND_SECOND]) {
      const { type, idr } = await hwInfo(vm, await vm.device(index), HW_INFO_BYTES);
      expect(type).toBe(2);
      expect(unmetByQemu(idr, { oas, ssidSize: 20 })).toEqual([]);
      expect(unmetByOpenVmm(idr, oas)).toEqual([]);
      expect(OAS_BITS[bits(idr[5]!, 2, 0)]).toBe(oas);
    }
  });

  it('answers GET_HW_INFO of any length with what fits, zeros behind it, and its own length', async () => {
    const { vm } = await start(preset);
    const device = await vm.device(PROBE);
    const whole = await hwInfo(vm, device, HW_INFO_BYTES);
    // VFIO's first call in QEMU has room for the VT-d struct, or none at all.
    for (const length of [0, 24, 40, 56]) {
      const { type, dataLen, bytes } = await hwInfo(vm, device, length);
      expect([type, dataLen]).toEqual([2, HW_INFO_BYTES]);
      const copied = Math.min(length, HW_INFO_BYTES);
      expect([...bytes.subarray(0, copied)]).toEqual([...whole.bytes.subarray(0, copied)]);
      expect([...bytes.subarray(copied, length)]).toEqual(Array(length - copied).fill(0));
      expect([...bytes.subarray(length)]).toEqual(Array(64 - length).fill(0xee));
    }
  });

  it('says that its functions have 20-bit PASIDs and ATS, and do not track dirty pages', async () => {
    const { vm } = await start(preset);
    for (const index of [NVME, IOAT, PROBE, BEHIND_SECOND]) {
      const { maxPasidLog2, capabilities } = await hwInfo(vm, await vm.device(index), 0);
      expect([maxPasidLog2, capabilities]).toEqual([20, 0n]);
    }
  });

  it('leaves a VMM all IOVAs of its address size but the window for MSIs', async () => {
    const { vm } = await start(preset);
    const device = await vm.device(NVME);
    await device.attach(await vm.parent(device));
    const { asked, list, alignment } = await ranges(vm);
    expect(asked).toEqual({ errno: 'EMSGSIZE', numIovas: 2 });
    expect(list).toEqual([
      [0n, 0x7ff_ffffn],
      [0x810_0000n, 2n ** BigInt(oas) - 1n],
    ]);
    expect(4096n % alignment).toBe(0n);
  });
});

describe('QEMU’s checks', () => {
  it.each([
    ['granules', { granules: [4] }, ['GRAN16K', 'GRAN64K']],
    ['granules', { granules: [4, 64] }, ['GRAN16K']],
    ['the address size', { oas: 40 }, ['OAS']],
    ['PASIDs', { ssidSize: 16 }, ['SSIDSIZE']],
    ['StreamIDs', { sidSize: 15 }, ['SIDSIZE']],
    ['range invalidation', { ril: false }, ['RIL']],
    ['ATS', { ats: false, pri: false }, ['ATS']],
    ['the stream table', { twoLevelStreamTable: false, sidSize: 16 }, ['ST_LEVEL']],
  ])('fail for %s where the machine has less: %j', async (_what, change, unmet) => {
    const { vm } = await start('accel-oas44', ({ iommus, functions }) => {
      Object.assign(iommus[0]!, change);
      for (const fn of functions) Object.assign(fn, { pasidBits: 8, streamId: Number(String(fn.bdf).slice(6, 7)) });
    });
    const { idr } = await hwInfo(vm, await vm.device(NVME), HW_INFO_BYTES);
    expect(unmetByQemu(idr, { oas: 44, ssidSize: 20 })).toEqual(unmet);
  });
});

/** The part of QEMU behind `-device arm-smmuv3,accel=on`: one per vSMMU, created with its first device. */
class QemuSmmu {
  readonly vm: Vm;
  readonly slice: Slice;
  readonly abortId: number;
  readonly bypassId: number;
  events: { id: number; fd: number } | null = null;

  private constructor(vm: Vm, slice: Slice, abortId: number, bypassId: number) {
    this.vm = vm;
    this.slice = slice;
    this.abortId = abortId;
    this.bypassId = bypassId;
  }

  /** VFIO has the device on the nesting parent already. */
  static async create(vm: Vm, device: Device): Promise<QemuSmmu> {
    const slice = await vm.slice(device);
    const smmu = new QemuSmmu(vm, slice, await slice.nested(device, STE_ABORT), await slice.nested(device, STE_BYPASS));
    // GBPA.ABORT is 0 at reset.
    await device.attach(smmu.bypassId);
    return smmu;
  }

  /** The guest sets EVENTQEN. */
  async enableEvents(log2Size = 3): Promise<void> {
    this.events = await this.slice.events(1 << log2Size);
  }

  /** One command for each call: entry_num is not looked at afterwards. */
  async forward(...list: GuestCommand[]): Promise<void> {
    for (const command of list) expect(await this.slice.invalidate(command)).toEqual({ errno: '', done: 1 });
  }

  async remove(): Promise<void> {
    const { vm, slice, events, bypassId, abortId } = this;
    if (events) vm.program.close(events.fd);
    for (const id of [...(events ? [events.id] : []), bypassId, abortId, slice.id])
      expect(await vm.destroy(id)).toBe('');
  }
}

/** A device of the guest. QEMU makes the vDEVICE at the first CFGI_STE and keeps it. */
class QemuDevice {
  readonly smmu: QemuSmmu;
  readonly device: Device;
  readonly sid: number;
  private vdeviceId = 0;
  private stage1Id = 0;

  constructor(smmu: QemuSmmu, device: Device, sid: number) {
    this.smmu = smmu;
    this.device = device;
    this.sid = sid;
  }

  async cfgiSte(ste: readonly [bigint, bigint]): Promise<void> {
    const { slice, vm, abortId, bypassId } = this.smmu;
    this.vdeviceId ||= await slice.setVirtualId(this.device, this.sid);
    const config = Number((ste[0] >> 1n) & 7n);
    // The guest's STE cut to what the structure may hold.
    const cut = [ste[0] & 0xf80f_ffff_ffff_ffffn, ste[1] & 0x3800_00ffn] as const;
    const next = config === 5 ? await slice.nested(this.device, cut) : 0;
    await this.device.attach(next || (config === 4 ? bypassId : abortId));
    if (this.stage1Id) expect(await vm.destroy(this.stage1Id)).toBe('');
    this.stage1Id = next;
  }

  async remove(): Promise<void> {
    const { vm } = this.smmu;
    await this.device.attach(vm.parentId);
    for (const id of [this.stage1Id, this.vdeviceId]) if (id) expect(await vm.destroy(id)).toBe('');
  }
}

/** VFIO's own part before and after the vSMMU's. */
async function qemuDevice(vm: Vm, index: number): Promise<Device> {
  const device = await vm.device(index);
  await hwInfo(vm, device, 0);
  await device.attach(await vm.parent(device));
  return device;
}

describe.each(['accel-oas48', 'accel-oas44'])('QEMU on %s', (preset) => {
  it('starts, translates, changes STEs without a gap, hears of faults, and leaves nothing behind', async () => {
    const { machine, vm } = await start(preset);
    const device = await qemuDevice(vm, PROBE);
    const smmu = await QemuSmmu.create(vm, device);
    const other = await qemuDevice(vm, IOAT);
    const far = await qemuDevice(vm, BEHIND_SECOND);
    const second = await QemuSmmu.create(vm, far);
    const probe = new Probe(device);
    const page = vm.ram.allocate();
    vm.ram.text(page, 'of the guest');
    expect([probe.read(page), probe.read(IOVA)]).toEqual(['of the guest', null]);

    await smmu.enableEvents();
    await second.enableEvents();
    const guest = new QemuDevice(smmu, device, 0x108);
    const neighbour = new QemuDevice(smmu, other, 0x110);
    await neighbour.cfgiSte(STE_ABORT);
    const stage1 = new Stage1(vm.ram, 3);
    stage1.map(IOVA, page);
    const contexts = new ContextTable(vm.ram);
    contexts.set(0, stage1);
    await guest.cfgiSte(contexts.ste());
    expect(probe.read(IOVA)).toBe('of the guest');
    // A new STE for the same stream: attach, then destroy.
    const others = new ContextTable(vm.ram);
    const stage1b = new Stage1(vm.ram, 4);
    others.set(0, stage1b);
    await guest.cfgiSte(others.ste());
    expect(probe.read(IOVA)).toBe(null);
    stage1b.map(IOVA, page);
    await smmu.forward(commands.cfgiCd(0x108), commands.cfgiCdAll(0x108), commands.nhVa(4, IOVA), commands.nsnhAll());
    expect(probe.read(IOVA)).toBe('of the guest');

    const { fd } = smmu.events!;
    const read = () => nextEvent(vm.program.read(fd, 40));
    // What was refused while the second STE had no page.
    expect(read()).toEqual({ flags: 0, sequence: 0, type: 0x10, stream: 0x108, length: 40 });
    for (let n = 0; n < 12; n++) probe.read(UNMAPPED);
    const found = Array.from({ length: 9 }, read);
    expect(found.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 12]);
    // The queue holds 8: a header alone, with the number of the last one, says that the others are lost.
    expect(found.map(({ flags, length }) => [flags, length])).toEqual([...Array(8).fill([0, 40]), [1, 8]]);
    expect(vm.program.read(fd, 40)).toHaveLength(0);

    for (const one of [guest, neighbour]) await one.remove();
    expect(probe.read(page)).toBe('of the guest');
    await smmu.remove();
    await new QemuDevice(second, far, 0).remove();
    await second.remove();
    for (const one of [device, other, far]) await one.detach();
    for (const id of [vm.parentId, vm.ioasId]) expect(await vm.destroy(id)).toBe('');
    for (const one of [device, other, far]) vm.program.close(one.fd);
    vm.program.close(vm.iommufd);
    expect(leftovers(machine)).toEqual({});
  });

  it('stops at the command that names a stream without a vDEVICE', async () => {
    const { vm } = await start(preset);
    const smmu = await QemuSmmu.create(vm, await qemuDevice(vm, PROBE));
    expect(await smmu.slice.invalidate(commands.cfgiCd(0x108))).toEqual({ errno: 'EIO', done: 0 });
  });
});

/** A guest's tables of any granule, and the context descriptor for them. */
function guestTables(ram: GuestRam, granule: 12n | 14n | 16n, asid: number) {
  const pages = 2 ** Number(granule - 12n);
  const root = ram.allocate(pages);
  const start = naturalStart(granule, 48n);
  const shape: Shape = { granule, input: 48n, start, root, output: 48n, wide: false, affd: false };
  const tables = {
    read: (address: bigint) => ram.load(address),
    write: (address: bigint, value: bigint) => ram.store(address, value),
    allocate: () => ram.allocate(pages),
  };
  // AF, nG, inner shareable, everybody may read and write.
  const map = (iova: bigint, level: bigint, gpa: bigint) => mapLeaf(tables, shape, iova, level, gpa, 0xf40n);
  const unmap = (iova: bigint) => {
    // The table below the root entry goes: caches are all that is left.
    const at = root + ((iova >> (granule + (3n - start) * (granule - 3n))) & ((1n << (granule - 3n)) - 1n)) * 8n;
    ram.store(at, 0n);
  };
  const tg0 = { 12: 0n, 14: 2n, 16: 1n }[String(granule)]!;
  const control = 16n | (tg0 << 6n) | (1n << 30n) | (5n << 32n) | (1n << 41n) | (3n << 45n) | (1n << 47n);
  const cd = [control | (1n << 31n) | (BigInt(asid) << 48n), root, 0n, 0xffn] as const;
  return { map, unmap, cd };
}

const writeCd = (ram: GuestRam, at: bigint, cd: readonly bigint[]): void => {
  for (const [i, word] of cd.entries()) ram.store(at + 8n * BigInt(i), word);
};

describe('a guest of QEMU', () => {
  it.each([
    [12n, 1n],
    [14n, 2n],
    [16n, 3n],
  ] as const)('may have tables of 2^%i bytes, and has ranges of them forgotten by one command', async (granule, tg) => {
    const { vm } = await start('accel-oas48');
    const device = await qemuDevice(vm, PROBE);
    const smmu = await QemuSmmu.create(vm, device);
    const guest = new QemuDevice(smmu, device, 0x108);
    const { map, unmap, cd } = guestTables(vm.ram, granule, 9);
    const size = 1n << granule;
    const pages = Array.from({ length: 4 }, (_, n) => {
      const gpa = vm.ram.allocate(Number(size >> 12n));
      vm.ram.text(gpa, `page ${n}`);
      map(IOVA + BigInt(n) * size, 3n, gpa);
      return gpa;
    });
    // A block of level 2, as large as it is: guest RAM lies within it.
    const block = 1n << (granule + (granule - 3n));
    map(0x40_0000_0000n, 2n, GUEST_BASE & ~(block - 1n));
    const contexts = new ContextTable(vm.ram);
    writeCd(vm.ram, contexts.base, cd);
    await guest.cfgiSte(contexts.ste());
    const probe = new Probe(device);
    const inBlock = 0x40_0000_0000n + (pages[2]! & (block - 1n));
    const seen = () => [0n, 1n, 2n, 3n].map((n) => probe.read(IOVA + n * size));
    expect([...seen(), probe.read(inBlock)]).toEqual(['page 0', 'page 1', 'page 2', 'page 3', 'page 2']);

    unmap(IOVA);
    unmap(0x40_0000_0000n);
    expect(seen()).toEqual(['page 0', 'page 1', 'page 2', 'page 3']);
    // NUM + 1 granules times 2^SCALE, TTL 3: pages 1 and 2 as 2 * 2^0, and not the block, whatever its addresses.
    const range = (iova: bigint, num: bigint, ttl: bigint): GuestCommand => [
      0x12n | (num << 12n) | (9n << 48n),
      iova | (ttl << 8n) | (tg << 10n),
    ];
    await smmu.forward(range(IOVA + size, 1n, 3n));
    expect([...seen(), probe.read(inBlock)]).toEqual(['page 0', null, null, 'page 3', 'page 2']);
    await smmu.forward(range(0x40_0000_0000n, 0n, 3n));
    expect(probe.read(inBlock)).toBe('page 2');
    await smmu.forward(range(0x40_0000_0000n, 0n, 2n));
    expect(probe.read(inBlock)).toBe(null);
  });

  it('may have 2^20 PASIDs in a two-level table of contexts', async () => {
    const { vm } = await start('accel-oas48');
    const device = await qemuDevice(vm, PROBE);
    const smmu = await QemuSmmu.create(vm, device);
    const guest = new QemuDevice(smmu, device, 0x108);
    const last = 0xfffff;
    const [l1, l2] = [vm.ram.allocate(2), vm.ram.allocate(16)];
    vm.ram.store(l1 + 8n * 1023n, l2 | 1n);
    for (const [pasid, asid] of [
      [last, 5],
      [last - 1, 6],
    ] as const) {
      const { map, cd } = guestTables(vm.ram, 12n, asid);
      const page = vm.ram.allocate();
      vm.ram.text(page, `PASID ${pasid}`);
      map(IOVA, 3n, page);
      writeCd(vm.ram, l2 + 64n * BigInt(pasid % 1024), cd);
    }
    // V, stage 1, S1Fmt: two levels of 64 KiB, S1CDMax 20; S1DSS 2.
    await guest.cfgiSte([1n | (5n << 1n) | (2n << 4n) | l1 | (20n << 59n), 2n]);
    const probe = new Probe(device);
    expect([probe.read(IOVA, last), probe.read(IOVA, last - 1)]).toEqual(['PASID 1048575', 'PASID 1048574']);
    expect([probe.read(IOVA, 5), probe.read(IOVA)]).toEqual([null, null]);
    vm.ram.store(l2 + 64n * 1023n, 0n);
    await smmu.forward(commands.nhAll());
    expect(probe.read(IOVA, last)).toBe('PASID 1048575');
    await smmu.forward(commands.cfgiCd(0x108, last));
    expect([probe.read(IOVA, last), probe.read(IOVA, last - 1)]).toEqual([null, 'PASID 1048574']);
  });
});

/** OpenVMM ends at any refusal of a DESTROY or DETACH. */
const gone = async (vm: Vm, ...ids: number[]): Promise<void> => {
  for (const id of ids) expect(await vm.destroy(id)).toBe('');
};

describe.each([
  ['accel-oas48', 48],
  ['accel-oas44', 44],
])('OpenVMM on %s', (preset, oas) => {
  it('attaches to the abort HWPT first, moves a device to another StreamID, and takes everything down', async () => {
    const { machine, vm } = await start(preset);
    const { program, ram } = vm;
    const device = await vm.device(PROBE);
    expect(unmetByOpenVmm((await hwInfo(vm, device, HW_INFO_BYTES)).idr, oas)).toEqual([]);
    const slice = await vm.slice(device);
    const abortId = await slice.nested(device, STE_ABORT);
    const bypassId = await slice.nested(device, STE_BYPASS);
    const events = await slice.events(256);
    // Never attached to the IOAS or the stage 2 as such: this attach brings up what those need.
    await device.attach(abortId);
    const probe = new Probe(device);
    const page = ram.allocate();
    ram.text(page, 'of the guest');
    expect(probe.read(page)).toBe(null);
    expect(program.read(events.fd, 16 * 40)).toHaveLength(0);
    await device.attach(bypassId);
    expect(probe.read(page)).toBe('of the guest');
    expect((await ranges(vm)).list).toHaveLength(2);

    const stage1 = new Stage1(ram, 3);
    stage1.map(IOVA, page);
    const contexts = new ContextTable(ram);
    contexts.set(0, stage1);
    let vdeviceId = await slice.setVirtualId(device, 0x100);
    const firstId = await slice.nested(device, contexts.ste());
    await device.attach(firstId);
    expect(probe.read(IOVA)).toBe('of the guest');
    probe.read(UNMAPPED);
    probe.read(UNMAPPED);
    // Everything that is there, in one read.
    const both = program.read(events.fd, 16 * 40);
    expect([nextEvent(both.slice(0, 40)), nextEvent(both.slice(40))]).toMatchObject([
      { sequence: 0, stream: 0x100, type: 0x10 },
      { sequence: 1, stream: 0x100, type: 0x10 },
    ]);

    // The guest resets the function and gives it another bus: abort, and a new vDEVICE in place of the old one.
    await device.attach(abortId);
    await gone(vm, firstId, vdeviceId);
    vdeviceId = await slice.setVirtualId(device, 0x208);
    const secondId = await slice.nested(device, contexts.ste());
    await device.attach(secondId);
    probe.read(UNMAPPED);
    expect(nextEvent(program.read(events.fd, 16 * 40))).toMatchObject({ sequence: 2, stream: 0x208 });

    await device.attach(abortId);
    await gone(vm, secondId, vdeviceId);
    await device.detach();
    program.close(events.fd);
    await gone(vm, bypassId, abortId, events.id, slice.id, vm.parentId);
    program.close(device.fd);
    await gone(vm, vm.ioasId);
    program.close(vm.iommufd);
    expect(leftovers(machine)).toEqual({});
  });

  it('takes a batch again from where entry_num says that it stopped', async () => {
    const { vm } = await start(preset);
    const device = await vm.device(PROBE);
    const slice = await vm.slice(device);
    await device.attach(await slice.nested(device, STE_ABORT));
    await slice.setVirtualId(device, 0x100);
    const batch = [commands.nhAsid(3), commands.cfgiCd(0x100), commands.cfgiCd(0x101), commands.atcInv(0x100, 0n, 52)];
    expect(await slice.invalidate(...batch)).toEqual({ errno: 'EIO', done: 2 });
    expect(await slice.invalidate(...batch.slice(3))).toEqual({ errno: '', done: 1 });
  });

  it('has a vIOMMU on a parent that another SMMU uses already, where a kernel would have it try a parent of its own', async () => {
    const { vm } = await start(preset);
    const [near, far] = [await vm.device(PROBE), await vm.device(BEHIND_SECOND)];
    await vm.slice(near);
    const slice = await vm.slice(far);
    await far.attach(await slice.nested(far, STE_ABORT));
    expect(await near.attachErr(await slice.nested(far, STE_BYPASS))).toBe('EINVAL');
  });
});
