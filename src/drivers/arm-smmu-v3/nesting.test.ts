import { describe, expect, it } from 'vitest';
import {
  ABORT,
  atcInv,
  Bench,
  BYPASS,
  cfgiCd,
  cfgiCdAll,
  commands,
  guestSte,
  NEST_PARENT,
  nsnhAll,
  RW,
  STAGE1,
  simple,
  type TestDevice,
  tlbiAll,
  tlbiAsid,
  tlbiVa,
  userData,
  V2,
  vm,
} from './testing.ts';

describe('nested translation', () => {
  it('leads an IOVA through the guest and the host tables, for reads and writes', () => {
    const { device, pa } = simple();
    expect(device.reach(0x10)).toBe(pa(0x100));
    expect(device.write(0x10)).toBe(pa(0x100));
    expect(device.reach(0x11)).toBeNull();
  });

  it('keeps the old page after a PTE change until the guest sends the TLBI, and no other one helps', () => {
    const { device, guest, viommu, root, pa } = simple();
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    for (const other of [tlbiVa(8, 0x10), tlbiVa(7, 0x11), tlbiAsid(6), cfgiCd(0x55), atcInv(0x55, 0x10)]) {
      expect(viommu.invalidate(commands(other))).toEqual({ done: 1, error: null });
      expect(device.reach(0x10)).toBe(pa(0x100));
    }
    expect(viommu.invalidate(commands(tlbiVa(7, 0x10)))).toEqual({ done: 1, error: null });
    expect(device.reach(0x10)).toBe(pa(0x101));
  });

  it.each([
    ['TLBI_NH_ASID', tlbiAsid(7)],
    ['TLBI_NH_ALL', tlbiAll()],
    ['TLBI_NSNH_ALL', nsnhAll()],
    ['TLBI_NH_VAA', [0x13, 0, 0x10001, 0]],
  ])('takes %s for a TLBI of the whole', (_, command) => {
    const { device, guest, viommu, root, pa } = simple();
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    viommu.invalidate(commands(command));
    expect(device.reach(0x10)).toBe(pa(0x101));
  });

  it('gives the guest ATS only when its STE says so, and then the old page lives in the ATC until ATC_INV', () => {
    expect(simple().device.atsOn).toBe(false);
    const { device, guest, viommu, root, pa } = simple({}, true);
    expect(device.atsOn).toBe(true);
    expect(device.reach(0x10)).toBe(pa(0x100));
    guest.setPage(root, 0x10, 0x101);
    viommu.invalidate(commands(tlbiVa(7, 0x10)));
    expect(device.reach(0x10)).toBe(pa(0x100));
    expect(viommu.invalidate(commands(atcInv(0x56, 0x10))).error).toMatchObject({ code: 'EIO' });
    expect(device.reach(0x10)).toBe(pa(0x100));
    viommu.invalidate(commands(atcInv(0x55, 0x10)));
    expect(device.reach(0x10)).toBe(pa(0x101));
  });

  it('keeps the old context descriptor until CFGI_CD or CFGI_CD_ALL', () => {
    for (const command of [cfgiCd(0x55), cfgiCdAll(0x55)]) {
      const { device, guest, viommu, contexts, pa } = simple();
      device.reach(0x10);
      const other = guest.newTable();
      guest.setPage(other, 0x10, 0x102);
      guest.setContext(contexts, 0, 8, other);
      expect(device.reach(0x10)).toBe(pa(0x100));
      viommu.invalidate(commands(command));
      expect(device.reach(0x10)).toBe(pa(0x102));
    }
  });

  it('shares IOTLB entries between SSIDs and devices whose contexts carry the same ASID', () => {
    const { bench, device, guest, viommu, contexts, pa } = simple();
    const other = guest.newTable();
    guest.setPage(other, 0x10, 0x103);
    guest.setContext(contexts, 1, 7, other);
    guest.setContext(contexts, 2, 9, other);
    expect(device.reach(0x10)).toBe(pa(0x100));
    expect(device.reach(0x10, 1, 1)).toBe(pa(0x100));
    expect(device.reach(0x10, 1, 2)).toBe(pa(0x103));
    const second = bench.device(0, 0x108);
    const secondContexts = guest.newContexts();
    guest.setContext(secondContexts, 0, 7, other);
    viommu.setVirtualDevice(second.driven, 0x56n);
    second.driven.attach(viommu.allocNested(0, guestSte(STAGE1, secondContexts)), 0);
    expect(second.reach(0x10)).toBe(pa(0x100));
    viommu.invalidate(commands(tlbiAsid(7)));
    expect(second.reach(0x10)).toBe(pa(0x103));
  });

  it('drops S2 mappings under a running device: IOTLB and ATC, on every SMMU that shares them', () => {
    const bench = new Bench({ smmus: 2 });
    const devices = [bench.device(0, 0x100), bench.device(1, 0x100)];
    const { guest, parent, viommus } = vm(bench, devices);
    for (const [i, device] of devices.entries()) {
      const root = guest.newTable();
      const contexts = guest.newContexts();
      guest.setPage(root, 0x10, 0x100);
      guest.setContext(contexts, 0, 7, root);
      viommus[i]!.setVirtualDevice(device.driven, 1n);
      device.driven.attach(viommus[i]!.allocNested(0, guestSte(STAGE1, contexts, { ats: i === 1 })), 0);
      expect(device.reach(0x10)).toBe(guest.base + 0x100);
    }
    parent.unmap(0n, BigInt(guest.frames * 4096));
    expect(devices.map((device) => device.reach(0x10))).toEqual([null, null]);
    parent.map(0n, (guest.base + guest.frames) * 4096, guest.frames * 4096, RW);
    expect(devices.map((device) => device.reach(0x10))).toEqual([null, null]);
  });

  /** A device with ATS whose PASID 1 has used IOVA 0x10, too. */
  function withPasid() {
    const made = simple({}, true);
    made.guest.setContext(made.contexts, 1, 8, made.root);
    expect([made.device.reach(0x10), made.device.reach(0x10, 1, 1)]).toEqual([made.pa(0x100), made.pa(0x100)]);
    return made;
  }

  it('drops S2 mappings from the ATC under every PASID', () => {
    const { device, guest, parent } = withPasid();
    parent.unmap(0n, BigInt(guest.frames * 4096));
    expect([device.reach(0x10), device.reach(0x10, 1, 1)]).toEqual([null, null]);
  });

  it('leaves nothing in the ATC under any PASID when another domain is attached', () => {
    const { device } = withPasid();
    device.driven.attach(device.driven.allocPaging(0, null), 0);
    expect(device.atsOn).toBe(true);
    expect([device.reach(0x10), device.reach(0x10, 1, 1)]).toEqual([null, null]);
  });

  it('lets a guest drop one PASID from the ATC by ATC_INV with SSID, and all without', () => {
    const { device, guest, viommu, root, pa } = withPasid();
    const reached = () => [device.reach(0x10), device.reach(0x10, 1, 1)].map((frame) => frame! - pa(0));
    guest.setPage(root, 0x10, 0x101);
    viommu.invalidate(commands(tlbiAll()));
    expect(reached()).toEqual([0x100, 0x100]);
    const [opcode, ...rest] = atcInv(0x55, 0x10) as [number, ...number[]];
    viommu.invalidate(commands([opcode | (1 << 11) | (1 << 12), ...rest]));
    expect(reached()).toEqual([0x100, 0x101]);
    viommu.invalidate(commands(atcInv(0x55, 0x10)));
    expect(reached()).toEqual([0x101, 0x101]);
    guest.setPage(root, 0x10, 0x102);
    viommu.invalidate(commands(tlbiAll(), atcInv(0x55, 0x10)));
    expect(reached()).toEqual([0x102, 0x102]);
  });

  it('cleans in the order S2, then what is nested, then ATCs, each with its own SYNC', () => {
    const { bench, parent } = simple({}, true);
    bench.commands();
    parent.unmap(0n, 0x1000n * 4096n);
    expect(bench.commands()).toEqual(['0x2a', '0x46', '0x10', '0x46', '0x40', '0x46']);
  });

  it('bypass reaches guest memory by IPA, abort nothing, and an STE with V = 0 nothing', () => {
    const { device, viommu, pa } = simple();
    device.driven.attach(viommu.allocNested(0, guestSte(BYPASS)), 0);
    expect(device.atsOn).toBe(true);
    expect(device.reach(0x123)).toBe(pa(0x123));
    device.driven.attach(viommu.allocNested(0, guestSte(ABORT)), 0);
    expect(device.atsOn).toBe(false);
    expect(device.reach(0x123)).toBeNull();
    device.driven.attach(viommu.allocNested(0, userData(2, [0xfffffffe, 0, 0, 0])), 0);
    expect(device.reach(0x123)).toBeNull();
    const heard: unknown[] = [];
    viommu.onEvent = (_type, record) => void heard.push(record);
    viommu.setVirtualDevice(device.driven, 0x56n);
    device.driven.attach(viommu.allocNested(0, userData(2, [0, 0, 0, 0])), 0);
    device.reach(0x123);
    expect(heard).toEqual([]);
  });
});

describe('VMIDs', () => {
  it('are per vIOMMU and from the pool of its own SMMU, over the same S2 tables', () => {
    const bench = new Bench({ smmus: 2 });
    const devices = [bench.device(0, 0x100), bench.device(1, 0x200)];
    const first = devices[0]!.driven.allocViommu(1, devices[0]!.driven.allocPaging(NEST_PARENT, null), null);
    const { parent, viommus } = vm(bench, devices);
    expect(first.tag.vmid).toBe(1);
    expect(viommus.map((viommu) => viommu.tag.vmid)).toEqual([2, 1]);
    expect(viommus.every((viommu) => viommu.parent === parent)).toBe(true);
    expect(bench.drivers.map((driver) => driver.resources.vmids)).toEqual([2, 1]);
  });

  it('that run out are ENOSPC on that SMMU and nowhere else, until one is freed', () => {
    const bench = new Bench({ smmus: 2, policy: { vmid: 'per-viommu', vmidBits: 2 } });
    const devices = [bench.device(0, 0x100), bench.device(1, 0x100)];
    const { parent, viommus } = vm(bench, devices);
    const [here, there] = devices as [TestDevice, TestDevice];
    here.driven.allocViommu(1, parent, null);
    here.driven.allocViommu(1, parent, null);
    expect(() => here.driven.allocViommu(1, parent, null)).toThrow('ENOSPC');
    expect(() => here.driven.attach(parent, 0)).toThrow('ENOSPC');
    there.driven.allocViommu(1, parent, null);
    viommus[0]!.free();
    here.driven.allocViommu(1, parent, null);
  });

  /** Two VMs on one SMMU, equal ASIDs and IOVAs; what each device reaches after the first has filled the IOTLB. */
  function twoVms(options: ConstructorParameters<typeof Bench>[0], sameParent = false) {
    const bench = new Bench(options);
    const devices = [bench.device(0, 0x100), bench.device(0, 0x200)];
    const first = vm(bench, [devices[0]!]);
    const second = sameParent ? first : vm(bench, [devices[1]!], 1);
    const viommus = [first.viommus[0]!, devices[1]!.driven.allocViommu(1, second.parent, null)];
    return devices.map((device, i) => {
      const { guest } = [first, second][i]!;
      const root = guest.newTable();
      const contexts = guest.newContexts();
      guest.setPage(root, 0x10, 0x100 + i);
      guest.setContext(contexts, 0, 7, root);
      viommus[i]!.setVirtualDevice(device.driven, 1n);
      device.driven.attach(viommus[i]!.allocNested(0, guestSte(STAGE1, contexts)), 0);
      return device.reach(0x10)! - guest.base;
    });
  }

  it('keep two VMs with equal ASIDs apart', () => {
    expect(twoVms({})).toEqual([0x100, 0x101]);
  });

  it('that are forced to be the same let one VM reach the memory of the other', () => {
    const [, second] = twoVms({ policy: { vmid: 'per-viommu', vmidOverride: 5 } });
    expect(second).toBe(0x100 - 0x1000);
  });

  it('per domain, two vIOMMUs of one parent alias equal ASIDs; per vIOMMU they do not', () => {
    expect(twoVms({ policy: { vmid: 'per-domain' } }, true)).toEqual([0x100, 0x100]);
    expect(twoVms({ policy: { vmid: 'per-viommu' } }, true)).toEqual([0x100, 0x101]);
  });

  it('are clean when they are given out again', () => {
    const { bench, device, viommu, nested, guest, parent } = simple();
    device.reach(0x10);
    device.driven.attach(null, 0);
    nested.free();
    viommu.free();
    bench.commands();
    const again = device.driven.allocViommu(1, parent, null);
    expect(again.tag.vmid).toBe(1);
    const root = guest.newTable();
    const contexts = guest.newContexts();
    guest.setPage(root, 0x10, 0x1ff);
    guest.setContext(contexts, 0, 7, root);
    again.setVirtualDevice(device.driven, 1n);
    device.driven.attach(again.allocNested(0, guestSte(STAGE1, contexts)), 0);
    expect(device.reach(0x10)).toBe(guest.base + 0x1ff);
  });
});

describe('events', () => {
  function listening(options: ConstructorParameters<typeof Bench>[0] = {}) {
    const parts = simple(options);
    const heard: Uint32Array[] = [];
    parts.viommu.onEvent = (type, record) => {
      expect(type).toBe(1);
      expect(record.length).toBe(32);
      heard.push(new Uint32Array(record.slice().buffer));
    };
    return { ...parts, heard };
  }

  it('of stage 1 reach the VM with the virtual StreamID', () => {
    const { device, heard } = listening();
    device.reach(0x2345);
    expect(heard.length).toBe(1);
    expect(heard[0]![0]! & 0xff).toBe(0x10);
    expect(heard[0]![1]).toBe(0x55);
    expect([heard[0]![4], heard[0]![5]]).toEqual([0x2345000, 0]);
  });

  it('of stage 2 stay with the host', () => {
    const { bench, device, guest, root, heard } = listening();
    guest.setPage(root, 0x20, 0x4000);
    expect(device.reach(0x20)).toBeNull();
    expect(heard).toEqual([]);
    expect(bench.notes().some((note) => note.includes('F_TRANSLATION of dev256 stays with the host'))).toBe(true);
  });

  it('of a device without a vDEVICE, or whose vDEVICE is gone, are not reported', () => {
    const { bench, device, viommu, heard } = listening();
    viommu.unsetVirtualDevice(device.driven, 0x55n);
    device.reach(0x2345);
    const other = bench.device(0, 0x180);
    other.driven.attach(viommu.allocNested(0, guestSte(BYPASS)), 0);
    viommu.setVirtualDevice(other.driven, 0x56n);
    other.driven.attach(viommu.allocNested(0, userData(2, [0, 0, 0, 0])), 0);
    expect(heard).toEqual([]);
  });

  it('carry a new vSID from the next attach on, in viommu-v2 at once', () => {
    const renamed = (options: ConstructorParameters<typeof Bench>[0]) => {
      const { device, viommu, nested, heard } = listening(options);
      viommu.unsetVirtualDevice(device.driven, 0x55n);
      viommu.setVirtualDevice(device.driven, 0x66n);
      device.reach(0x2345);
      device.driven.attach(nested, 0);
      device.reach(0x2346);
      return heard.map((event) => [event[1], event[4]]);
    };
    expect(renamed({})).toEqual([[0x66, 0x2346000]]);
    expect(renamed(V2)).toEqual([
      [0x66, 0x2345000],
      [0x66, 0x2346000],
    ]);
  });

  it('tell of a bad guest context descriptor', () => {
    const { bench, device, viommu, guest, heard } = listening();
    const contexts = guest.newContexts();
    bench.memory.store64(guest.base + contexts, 0, 0, 0);
    device.driven.attach(viommu.allocNested(0, guestSte(STAGE1, contexts)), 0);
    device.reach(0x10);
    expect(heard.map((event) => event[0]! & 0xff)).toEqual([0x0a]);
  });
});

describe('resources', () => {
  it('are as after probe when everything was freed', () => {
    const { bench, device, viommu, nested, parent } = simple({}, true);
    device.reach(0x10);
    expect(bench.drivers[0]!.resources).toMatchObject({ vmids: 1, domains: 1, nestedDomains: 1, viommus: 1 });
    device.driven.attach(parent, 0);
    device.driven.attach(null, 0);
    expect(device.atsOn).toBe(false);
    nested.free();
    viommu.free();
    parent.free();
    expect(Object.values(bench.drivers[0]!.resources)).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });
});
