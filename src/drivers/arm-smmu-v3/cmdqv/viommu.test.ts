import { describe, expect, it } from 'vitest';
import { VeventTegra241Cmdqv } from '../../../abi/iommufd.ts';
import { FailurePoints } from '../../failure-points.ts';
import {
  atcInv,
  Bench,
  type BenchOptions,
  cfgiCdAll,
  commands,
  Guest,
  guestSte,
  NEST_PARENT,
  RW,
  STAGE1,
  tlbiAll,
  tlbiAsid,
  tlbiVa,
  userData,
  V2,
} from '../testing.ts';
import {
  AnswerData,
  CONFIG,
  CONS,
  GERROR,
  GERRORN,
  GuestPage,
  GuestQueue,
  HW_QUEUE_TYPE,
  PROD,
  STATUS,
  SYNC,
  V2_VIOMMU_TYPE,
  VIOMMU_TYPE,
} from './testing.ts';
import type { CmdqvViommu } from './viommu.ts';

/** Frame of the guest's RAM where queues are: 64 KiB for each. */
const QUEUES = 0x600;
const KIB = 1024;

/** Registers of VINTF 1 in the CONFIG page, and of its queues in CMDQ_ALLOC_MAP when each has two. */
const VINTF1 = 0x1100;
const SID_MATCH = VINTF1 + 0x40;
const SID_REPLACE = VINTF1 + 0x80;
const ALLOCATION = 0x200 + 4 * 2;

/** A guest with a vIOMMU on a CMDQV of 4 interfaces, 2 queues and 4 StreamIDs each. Device 0x100 is its vSID 0x55. */
function setup(options: BenchOptions = {}) {
  const bench = new Bench({ cmdqv: { log2Vintfs: 2, log2Vcmdqs: 3, log2Sids: 2 }, ...options });
  const device = bench.device(0, 0x100);
  const guest = new Guest(bench);
  const parent = device.driven.allocPaging(NEST_PARENT, null);
  parent.map(0n, guest.base * 4096, guest.frames * 4096, RW);
  const data = new AnswerData();
  const v2 = device.driven.unit.behaviour.viommuTypeDefaultAllowed;
  const alloc = () =>
    device.driven.allocViommu(v2 ? V2_VIOMMU_TYPE : VIOMMU_TYPE, parent, v2 ? null : data) as CmdqvViommu;
  const viommu = alloc();
  const page = new GuestPage(viommu.region);
  const register = (offset: number) => bench.cmdqvs[0]!.readRegister(offset, 4);
  const hwQueue = (index: number, length = 4 * KIB, ipa = (QUEUES + 16 * index) * 4096) =>
    viommu.initHwQueue(HW_QUEUE_TYPE, index, BigInt(ipa), guest.base * 4096 + ipa, BigInt(length));
  const started = (index: number) => new GuestQueue(bench, page, index, guest.base + QUEUES + 16 * index, 8);
  return { bench, device, guest, parent, data, alloc, viommu, page, register, hwQueue, started };
}

/** The same, with a stage 1 that maps IOVA frame 0x10 to IPA 0x100 under ASID 7, and queue 0 running. */
function running(ats = false, options: BenchOptions = {}) {
  const all = setup(options);
  const { device, guest, viommu } = all;
  const root = guest.newTable();
  const contexts = guest.newContexts();
  guest.setPage(root, 0x10, 0x100);
  guest.setContext(contexts, 0, 7, root);
  viommu.setVirtualDevice(device.driven, 0x55n);
  const nested = viommu.allocNested(0, guestSte(STAGE1, contexts, { ats, log2Contexts: 2 }));
  device.driven.attach(nested, 0);
  const hardware = all.hwQueue(0);
  const queue = all.started(0);
  const errorMaps: bigint[][] = [];
  viommu.onEvent = (type, record) => {
    if (type === 2) errorMaps.push([...new VeventTegra241Cmdqv(record).lvcmdqErrMap]);
  };
  return { ...all, root, contexts, nested, hardware, queue, errorMaps, pa: (ipa: number) => guest.base + ipa };
}

describe('a vIOMMU on a CMDQV', () => {
  it('is type 2 from the release on that has it, type 1 in viommu-v2, and nothing without a CMDQV', () => {
    expect(setup().device.driven.viommuTypes).toEqual([1, 2]);
    expect(setup(V2).device.driven.viommuTypes).toEqual([0, 1]);
    const { driven } = new Bench().device(0, 1);
    expect(driven.viommuTypes).toEqual([1]);
    expect(() => driven.allocViommu(2, driven.allocPaging(NEST_PARENT, null), new AnswerData())).toThrow('EOPNOTSUPP');
    const { behaviour } = driven.unit;
    const before = new Bench({ cmdqv: {}, behaviour: { ...behaviour, mmap: 'none' } }).device(0, 1);
    expect(before.driven.viommuTypes).toEqual([1]);
  });

  it('wants data, whole, for its answer: page 0 of its interface, 64 KiB', () => {
    const { device, parent, viommu, data } = setup();
    expect(() => device.driven.allocViommu(VIOMMU_TYPE, parent, null)).toThrow('EINVAL');
    expect(() => device.driven.allocViommu(VIOMMU_TYPE, parent, userData(VIOMMU_TYPE, [0, 0, 0]))).toThrow('EINVAL');
    expect(viommu.region).toMatchObject({ offset: 0x50000, length: 0x10000 });
    viommu.regionPlaced(0x3000n);
    expect(data.answers).toEqual([{ offset: 0x3000n, length: 0x10000n }]);
  });

  it('has an interface that runs under its VMID and is not the hypervisor’s', () => {
    const { viommu, register } = setup({ policy: { vmid: 'per-viommu' } });
    expect(viommu.tag.vmid).toBeGreaterThan(0);
    expect(register(VINTF1)).toBe((viommu.tag.vmid << 1) | 1);
    viommu.free();
    expect([register(VINTF1) & 1, register(VINTF1 + 4) & 1]).toEqual([0, 0]);
  });

  it('is refused with ENOSPC when VMs have every interface but the host’s, and takes nothing with it', () => {
    const { bench, alloc, viommu, parent } = setup();
    const others = [alloc(), alloc()];
    const { resources } = bench.drivers[0]!;
    expect(resources).toMatchObject({ vintfs: 3, vmids: 3, viommus: 3 });
    expect(alloc).toThrow('ENOSPC');
    expect(bench.drivers[0]!.resources).toEqual(resources);
    viommu.free();
    expect(alloc().region.offset).toBe(viommu.region.offset);
    for (const other of others) other.free();
    expect(parent.attachments.size).toBe(0);
  });

  it('still has the host issue commands, under what the host knows', () => {
    const { device, guest, viommu, root, pa } = running();
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    expect(viommu.invalidate(commands(tlbiVa(7, 0x10), cfgiCdAll(0x55)))).toEqual({ done: 2, error: null });
    expect(device.reach(0x10)).toBe(pa(0x101));
    expect(viommu.invalidate(commands(cfgiCdAll(0x56))).error).toMatchObject({ code: 'EIO' });
  });

  it('tells what its IOMMU is by type 3, and the SMMU remains the default', () => {
    const { driven } = setup().device;
    expect(driven.hwInfo(3)).toEqual({ type: 3, data: Uint8Array.of(0, 0, 0, 0, 1, 1, 2, 0) });
    expect(driven.hwInfo(0).type).toBe(2);
    expect(() => driven.hwInfo(4)).toThrow('EOPNOTSUPP');
    const grace = new Bench({ cmdqv: {} }).device(0, 1);
    expect([...grace.driven.hwInfo(3).data]).toEqual([0, 0, 0, 0, 1, 1, 4, 0]);
  });
});

describe('virtual StreamIDs', () => {
  it('each have a slot of the interface while they are set', () => {
    const { bench, device, viommu, register } = setup();
    const second = bench.device(0, 0x208);
    viommu.setVirtualDevice(device.driven, 0x55n);
    viommu.setVirtualDevice(second.driven, 0x0n);
    expect([0, 4].map((at) => [register(SID_MATCH + at), register(SID_REPLACE + at)])).toEqual([
      [(0x55 << 1) | 1, 0x100],
      [1, 0x208],
    ]);
    viommu.unsetVirtualDevice(device.driven, 0x55n);
    expect([register(SID_MATCH), register(SID_REPLACE), register(SID_MATCH + 4)]).toEqual([0, 0, 1]);
    viommu.setVirtualDevice(device.driven, 0x56n);
    expect(register(SID_MATCH)).toBe((0x56 << 1) | 1);
  });

  it('are refused when there is no slot left, and when they have more than 32 bits', () => {
    const { bench, viommu } = setup();
    const devices = [1, 2, 3, 4, 5].map((stream) => bench.device(0, stream).driven);
    expect(() => viommu.setVirtualDevice(devices[0]!, 1n << 32n)).toThrow('EINVAL');
    for (const [i, device] of devices.slice(0, 4).entries()) viommu.setVirtualDevice(device, BigInt(i));
    expect(() => viommu.setVirtualDevice(devices[4]!, 4n)).toThrow('ENOSPC');
    expect(viommu.virtualIdOf(devices[4]!)).toBeNull();
    viommu.unsetVirtualDevice(devices[0]!, 0n);
    viommu.setVirtualDevice(devices[4]!, 4n);
    expect(viommu.virtualIdOf(devices[4]!)).toBe(4n);
  });
});

describe('a HW queue', () => {
  it('is one of the interface’s own VCMDQs, stopped and empty where the guest’s memory is', () => {
    const { guest, hwQueue, page, register } = setup();
    hwQueue(0, 64 * KIB);
    // Of VINTF 1, logical queue 0, allocated.
    expect(register(ALLOCATION)).toBe((1 << 15) | 1);
    expect([CONS, PROD, CONFIG, STATUS, GERROR, GERRORN].map((at) => page.read(0, at))).toEqual([0, 0, 0, 0, 0, 0]);
    const pa = (guest.base + QUEUES) * 4096;
    expect([register(0x60000), register(0x60004)]).toEqual([((pa & ~0x1f) | 12) >>> 0, Math.floor(pa / 2 ** 32)]);
    page.write(0, CONFIG, 1);
    expect(page.read(0, STATUS)).toBe(1);
  });

  it('has an index below the interface’s share, once, and after the one before it', () => {
    const { viommu, hwQueue } = setup();
    expect(() => hwQueue(2)).toThrow('EINVAL');
    expect(() => hwQueue(1)).toThrow('EIO');
    const first = hwQueue(0);
    expect(() => hwQueue(0)).toThrow('EEXIST');
    const second = hwQueue(1);
    expect([first.dependsOn, second.dependsOn]).toEqual([null, first]);
    expect(viommu.hwQueueTypes).toEqual([1]);
    second.free();
    expect(hwQueue(1).dependsOn).toBe(first);
  });

  it('is a power of two of bytes, from two commands to what the SMMU’s queue may have, aligned to its size', () => {
    const { hwQueue } = setup({ settings: { cmdqs: 10 } });
    const ipa = QUEUES * 4096;
    for (const length of [16, 31, 33, 48, 3 * 4096, 32 * KIB]) expect(() => hwQueue(0, length)).toThrow('EINVAL');
    expect(() => hwQueue(0, 32, ipa + 16)).toThrow('EINVAL');
    expect(() => hwQueue(0, 64, ipa + 32)).toThrow('EINVAL');
    expect(() => hwQueue(0, 16 * KIB, ipa + 4096)).toThrow('EINVAL');
    hwQueue(0, 16 * KIB).free();
    hwQueue(0, 32, ipa + 32).free();
  });

  it('leaves a VCMDQ behind that is nobody’s, with nothing of the guest in it', () => {
    const { bench, hwQueue, started, page, register } = setup();
    const first = hwQueue(0);
    const second = hwQueue(1);
    started(0).issue(tlbiAsid(7), [0xee, 0, 0, 0]);
    started(1).issue(SYNC);
    expect(page.read(0, GERROR)).not.toBe(page.read(0, GERRORN));
    expect(bench.drivers[0]!.resources).toMatchObject({ vintfs: 1, vcmdqs: 2 });
    bench.commands();
    second.free();
    first.free();
    expect(bench.drivers[0]!.resources).toMatchObject({ vintfs: 1, vcmdqs: 0 });
    // One CMD_SYNC of the SMMU's own queue for each.
    expect(bench.commands()).toEqual(['0x46', '0x46']);
    expect([register(ALLOCATION) & 1, register(ALLOCATION + 4) & 1]).toEqual([0, 0]);
    const globally = (page: number) => [0, 4, 8, 0xc].map((at) => register(page + 0x80 * 2 + at));
    expect([globally(0x10000), globally(0x20000)]).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect(register(0x10000 + 0x80 * 2 + GERROR)).toBe(register(0x10000 + 0x80 * 2 + GERRORN));
    page.write(0, PROD, 5);
    expect(page.read(0, PROD)).toBe(0);
  });

  it('begins empty again for who has it next', () => {
    const { hwQueue, started, page } = setup();
    const first = hwQueue(0);
    expect(started(0).issue(SYNC, SYNC, SYNC)).toBe(3);
    first.free();
    hwQueue(0);
    expect([page.read(0, CONS), page.read(0, PROD), page.read(0, STATUS)]).toEqual([0, 0, 0]);
    expect(started(0).issue(SYNC)).toBe(1);
  });
});

describe('a guest with a HW queue', () => {
  it('invalidates its own translations with no help of the host', () => {
    const { device, guest, root, queue, pa } = running();
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    expect(device.reach(0x10)).toBe(pa(0x100));
    expect(queue.issue(tlbiVa(8, 0x10), tlbiVa(7, 0x11), SYNC)).toBe(3);
    expect(device.reach(0x10)).toBe(pa(0x100));
    expect(queue.issue(tlbiVa(7, 0x10), SYNC)).toBe(5);
    expect(device.reach(0x10)).toBe(pa(0x101));
  });

  it('empties the ATC of the device that its StreamID means', () => {
    const { device, guest, root, queue, pa } = running(true);
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    queue.issue(tlbiAsid(7), SYNC);
    expect(device.reach(0x10)).toBe(pa(0x100));
    queue.issue(atcInv(0x55, 0x10), SYNC);
    expect(device.reach(0x10)).toBe(pa(0x101));
  });

  it('says what it likes about the VMID, and reaches its own only', () => {
    const { bench, alloc, guest, device, root, queue, viommu, pa } = running();
    const other = bench.device(0, 0x300);
    const neighbour = alloc();
    neighbour.setVirtualDevice(other.driven, 0x55n);
    const contexts = guest.newContexts();
    guest.setContext(contexts, 0, 7, root);
    other.driven.attach(neighbour.allocNested(0, guestSte(STAGE1, contexts, { log2Contexts: 2 })), 0);
    expect([device.reach(0x10), other.reach(0x10)]).toEqual([pa(0x100), pa(0x100)]);
    guest.setPage(root, 0x10, 0x101);
    const [opcode, tags, ...address] = tlbiVa(7, 0x10);
    expect(neighbour.tag.vmid).not.toBe(viommu.tag.vmid);
    queue.issue([opcode!, tags! | neighbour.tag.vmid, ...address], SYNC);
    expect([device.reach(0x10), other.reach(0x10)]).toEqual([pa(0x101), pa(0x100)]);
  });

  it.each([
    ['TLBI_NH_ALL', tlbiAll()],
    ['TLBI_EL2_ALL', [0x20, 0, 0, 0]],
    ['CFGI_CD_ALL', cfgiCdAll(0x55)],
    ['an ATC_INV for a StreamID that is not its own', atcInv(0x100, 0x10)],
    ['an opcode that does not exist', [0xee, 0, 0, 0]],
  ])('stops at %s, hears of it, and goes on after it has mended that', (_, command) => {
    const { page, queue, errorMaps, hwQueue, started } = running();
    hwQueue(1);
    const other = started(1);
    queue.issue(SYNC, command, SYNC);
    expect(page.read(0, CONS) & 0xfffff).toBe(1);
    expect(page.read(0, CONS) >>> 24).toBeGreaterThan(0);
    expect(errorMaps).toEqual([[1n, 0n]]);
    expect(other.issue(SYNC)).toBe(1);
    page.write(0, CONFIG, 0);
    page.write(0, CONS, 0);
    page.write(0, PROD, 0);
    page.write(0, GERRORN, page.read(0, GERROR));
    page.write(0, CONFIG, 1);
    expect(page.read(0, STATUS)).toBe(1);
    other.issue(command);
    expect(errorMaps).toEqual([
      [1n, 0n],
      [2n, 0n],
    ]);
  });

  it('is not heard of any more once its vIOMMU is gone, and has no more registers', () => {
    const { bench, device, nested, viommu, parent, hardware, page, errorMaps } = running();
    device.driven.attach(null, 0);
    nested.free();
    hardware.free();
    viommu.unsetVirtualDevice(device.driven, 0x55n);
    viommu.free();
    for (let at = 0; at < 0x100; at += 4) page.write(0, at, 0xffffffff);
    expect(page.read(0, STATUS)).toBe(0);
    expect(errorMaps).toEqual([]);
    parent.free();
    expect(Object.values(bench.drivers[0]!.resources)).toEqual(new Array(9).fill(0));
  });
});

describe('an allocation that fails', () => {
  it('leaves nothing of a vIOMMU, a HW queue, or a virtual StreamID', () => {
    const { bench, device, viommu, alloc, hwQueue, register } = setup();
    const driver = bench.drivers[0]!;
    const steps = [alloc, () => hwQueue(0), () => viommu.setVirtualDevice(device.driven, 0x55n)];
    for (const [step, expected] of [3, 1, 1].entries()) {
      const before = driver.resources;
      const failures = new FailurePoints();
      for (let n = 1; n <= expected; n++) {
        failures.failNth(n);
        expect(() => failures.during<unknown>(steps[step]!)).toThrow('ENOMEM');
        expect(driver.resources).toEqual(before);
      }
      expect([register(ALLOCATION) & 1, register(SID_MATCH)]).toEqual([step > 1 ? 1 : 0, 0]);
      failures.failNth(expected + 1);
      failures.during<unknown>(steps[step]!);
      expect(failures.remaining).toBe(1);
    }
  });
});

describe('VQUEUEs of viommu-v2', () => {
  /** iommu_vqueue_tegra241_cmdqv */
  const vqueue = (id: number, log2size: number, base: number, type = 1) =>
    userData(type, [id, log2size, base >>> 0, Math.floor(base / 2 ** 32)]);
  const BASE = QUEUES * 4096;

  it('are queues by the same indices, with a size in entries', () => {
    const { guest, viommu, register } = setup(V2);
    viommu.initVqueue(vqueue(0, 8, BASE));
    expect(register(0x60000)).toBe((((guest.base * 4096 + BASE) & ~0x1f) | 8) >>> 0);
    expect(register(ALLOCATION)).toBe((1 << 15) | 1);
  });

  it('are refused with EINVAL for type, base, size and index, and with EEXIST for an index that is taken', () => {
    const { guest, viommu } = setup(V2);
    const refused = (...data: Parameters<typeof vqueue>) => {
      expect(() => viommu.initVqueue(vqueue(...data))).toThrow('EINVAL');
    };
    refused(0, 8, BASE, 0);
    refused(0, 8, 0);
    refused(0, 8, BASE + 16);
    refused(0, 8, 2 ** 48 + BASE);
    refused(0, 0, BASE);
    refused(0, 32, BASE);
    refused(2, 8, BASE);
    refused(0, 8, guest.frames * 4096);
    expect(() => viommu.initVqueue(userData(1, [0, 8, BASE]))).toThrow('EINVAL');
    const first = viommu.initVqueue(vqueue(0, 8, BASE));
    expect(() => viommu.initVqueue(vqueue(0, 8, BASE))).toThrow('EEXIST');
    first.free();
    viommu.initVqueue(vqueue(0, 8, BASE));
  });

  it('go on in physical memory behind their first page, whatever is mapped there for the guest', () => {
    const { bench, guest, viommu, parent, page } = setup({ ...V2, settings: { cmdqs: 10 } });
    const [first, second] = [guest.base + 0x702, guest.base + 0x700];
    parent.map(0x2000n * 4096n, first * 4096, 4096, RW);
    parent.map(0x2001n * 4096n, second * 4096, 4096, RW);
    viommu.initVqueue(vqueue(0, 9, 0x2000 * 4096));
    const queue = new GuestQueue(bench, page, 0, first, 8);
    for (let i = 0; i < 256; i++) bench.memory.store64(second, i * 16, 0x46, 0);
    expect(queue.issue(...new Array(256).fill(SYNC))).toBe(256);
    // The 257th is a SYNC in the guest's second page, but the hardware reads what is physically behind the first one.
    page.write(0, PROD, 257);
    expect(page.read(0, CONS) & 0xfffff).toBe(256);
    expect(page.read(0, CONS) >>> 24).toBeGreaterThan(0);
  });

  it('do not run when they are made before the one below, and are as harmless as none', () => {
    const { viommu, page, register } = setup(V2);
    const second = viommu.initVqueue(vqueue(1, 8, BASE));
    page.write(1, CONFIG, 1);
    page.write(1, PROD, 1);
    expect([page.read(1, STATUS), page.read(1, CONS), register(ALLOCATION + 4) & 1]).toEqual([0, 0, 0]);
    viommu.initVqueue(vqueue(0, 8, BASE));
    second.free();
    page.write(0, CONFIG, 1);
    expect(page.read(0, STATUS)).toBe(1);
  });

  it('go in any order, and leave the interface clean for the next VM', () => {
    const { bench, viommu, alloc, register } = setup(V2);
    const first = viommu.initVqueue(vqueue(0, 8, BASE));
    const second = viommu.initVqueue(vqueue(1, 8, BASE + 0x10000));
    first.free();
    second.free();
    viommu.free();
    expect([register(ALLOCATION) & 1, register(ALLOCATION + 4) & 1]).toEqual([0, 0]);
    expect(bench.drivers[0]!.resources).toMatchObject({ vintfs: 0, vcmdqs: 0 });
    const page = new GuestPage(alloc().region);
    page.write(0, CONFIG, 1);
    expect(page.read(0, STATUS)).toBe(0);
  });
});
