/** IOMMU groups as they follow from the topology, and what a group of several devices means to programs. */
import { describe, expect, it } from 'vitest';
import { HwptAlloc, IOMMU_HWPT_ALLOC, IOMMU_IOAS_ALLOC, IoasAlloc } from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio.ts';
import * as groups from '../../src/abi/vfio-group.ts';
import { FailurePoints } from '../../src/drivers/failure-points.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { preset } from '../../src/host/presets.ts';
import { ContextTable, STE_ABORT, Stage1 } from './guest.ts';
import { leftovers, type MutableMachine, Program, testMachine } from './program.ts';
import { Probe, Vm } from './vm.ts';

const SMMU = 'smmu3.0x000000002b400000';
const fn = (bdf: string, acs = true) => ({ bdf, iommu: SMMU, acs });

/** One device with two functions without ACS, a third with it, and a device of its own. */
const shared = (machine: MutableMachine): void => {
  machine.functions = [fn('0000:02:00.0'), fn('0000:01:00.0', false), fn('0000:01:00.1', false), fn('0000:01:00.2')];
};

function start() {
  const { machine } = testMachine({ change: shared });
  const program = new Program(machine);
  const bind = async (index: number, iommufd: number) => {
    const fd = program.open(`/dev/vfio/devices/vfio${index}`);
    const values = { argsz: 16, iommufd };
    return { fd, errno: await program.err(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, values) };
  };
  const newIoas = async (iommufd: number) => (await program.ok(iommufd, IOMMU_IOAS_ALLOC, IoasAlloc)).outIoasId;
  const attach = (fd: number, ptId: number) =>
    program.err(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, { argsz: 12, ptId });
  return { machine, program, bind, newIoas, attach };
}

describe('IOMMU groups', () => {
  it('hold the functions of a device that have no ACS, and every other function has its own', () => {
    const { machine } = start();
    const members = machine.groups.map(({ devices }) => devices.map(({ fn: { name } }) => name));
    expect(members).toEqual([['0000:02:00.0'], ['0000:01:00.0', '0000:01:00.1'], ['0000:01:00.2']]);
    const listed = machine.sysfs.flatMap(({ path }) => /iommu_groups\/1\/devices\/(.+)/.exec(path)?.[1] ?? []);
    expect(listed).toEqual(['0000:01:00.0', '0000:01:00.1']);
    const paths = machine.sysfs.map(({ path }) => path);
    expect(paths.filter((path, index) => paths.indexOf(path) !== index)).toEqual([]);
    const nodes = machine.deviceNodes.map(({ path }) => path).filter((path) => /^\/dev\/vfio\/\d/.test(path));
    expect(nodes).toEqual(['/dev/vfio/0', '/dev/vfio/1', '/dev/vfio/2']);
  });

  it('show in configuration space: several functions in the header, and ACS where there is some, enabled', () => {
    const { machine } = start();
    const [alone, without, , having] = machine.devices.map(({ fn: { config } }) => config);
    expect([alone!.read(0x0e, 1), without!.read(0x0e, 1)]).toEqual([0, 0x80]);
    const capabilities = (config: typeof alone): number[] => {
      const ids = [];
      for (let at = 0x100; at !== 0; at = config!.read(at, 4) >>> 20) ids.push(config!.read(at, 2));
      return ids;
    };
    expect(capabilities(alone)).not.toContain(0x0d);
    expect(capabilities(without)).not.toContain(0x0d);
    expect(capabilities(having)).toContain(0x0d);
    // Request and completion redirect, there and on.
    expect([having!.read(0x1d4, 2), having!.read(0x1d6, 2)]).toEqual([0x0c, 0x0c]);
  });

  it('cannot span two IOMMUs', () => {
    const { iommus } = preset('two-smmus').machine;
    const functions = [fn('0000:01:00.0', false), { ...fn('0000:01:00.1', false), iommu: 'smmu3.0x000000002b500000' }];
    expect(() => parseMachine({ iommus, functions })).toThrow('functions[1].iommu:');
  });
});

describe('devices of one group', () => {
  it('belong to one iommufd', async () => {
    const { program, bind } = start();
    const [mine, other] = [program.open('/dev/iommu'), program.open('/dev/iommu')];
    expect((await bind(1, mine)).errno).toBe('');
    expect((await bind(2, other)).errno).toBe('EPERM');
    expect((await bind(3, other)).errno).toBe('');
    expect((await bind(2, mine)).errno).toBe('');
  });

  it('are attached to the same thing: another one is EINVAL, and a replace moves both', async () => {
    const { machine, program, bind, newIoas, attach } = start();
    const iommufd = program.open('/dev/iommu');
    const [first, second] = [await bind(1, iommufd), await bind(2, iommufd)];
    const [one, two] = [await newIoas(iommufd), await newIoas(iommufd)];
    expect(await attach(first.fd, one)).toBe('');
    expect(await attach(second.fd, two)).toBe('EINVAL');
    expect(await attach(second.fd, one)).toBe('');
    expect(await attach(first.fd, two)).toBe('');
    const tables = machine.devices.slice(1, 3).map(({ binding }) => binding!.device.attached());
    expect(tables[0]).toBe(tables[1]);
    expect(tables[0]!.paging.ioas.id).toBe(two);
  });

  it('are both opened through the group', async () => {
    const { program } = start();
    const [container, group] = [program.open('/dev/vfio/vfio'), program.open('/dev/vfio/1')];
    const fd = program.put(new Uint8Array(Int32Array.of(container).buffer));
    expect(await program.bare(group, groups.VFIO_GROUP_SET_CONTAINER, fd)).toBe('');
    const open = (name: string) =>
      program.result(group, groups.VFIO_GROUP_GET_DEVICE_FD, program.put(new TextEncoder().encode(`${name}\0`)));
    expect(await open('0000:01:00.0')).toBeTypeOf('number');
    expect(await open('0000:01:00.1')).toBeTypeOf('number');
    expect(await open('0000:01:00.2')).toBe('ENODEV');
  });

  it('may be hot reset when the caller has one of them, and all other functions of the bus', async () => {
    const { program, bind } = start();
    const iommufd = program.open('/dev/iommu');
    const { fd } = await bind(1, iommufd);
    const hotReset = () => program.err(fd, vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.PciHotReset);
    expect(await hotReset()).toBe('EINVAL');
    await bind(3, iommufd);
    expect(await hotReset()).toBe('');
  });
});

describe('DMA of a group', () => {
  /** Functions that no IOMMU can tell apart; all but `unbound` of them are bound. */
  async function group(functions: number, unbound = 0) {
    const { machine } = testMachine({
      preset: 'accel-oas48',
      change: (text) => {
        const alike = { ...text.functions[2]!, acs: false, ats: false, pri: false };
        text.functions = Array.from({ length: functions }, (_, n) => ({ ...alike, bdf: `0000:03:00.${n}` }));
      },
    });
    const vm = await Vm.start(machine);
    const devices = [];
    for (let n = 0; n < functions - unbound; n++) devices.push(await vm.device(n));
    const probes = devices.map((device) => new Probe(device));
    const page = vm.ram.allocate();
    vm.ram.text(page, 'guest RAM');
    const reads = () => probes.map((probe) => probe.read(page));
    return { machine, vm, devices, page, reads };
  }

  it('is translated for all when one of them is attached, and until the last one that was is detached', async () => {
    const { machine, vm, devices, page, reads } = await group(2);
    const [first, second] = [devices[0]!, devices[1]!];
    expect(reads()).toEqual([null, null]);
    await first.attach(vm.ioasId);
    expect(reads()).toEqual(['guest RAM', 'guest RAM']);
    await second.attach(vm.ioasId);
    await first.detach();
    expect(reads()).toEqual(['guest RAM', 'guest RAM']);
    vm.program.close(second.fd);
    expect(new Probe(first).read(page)).toBe(null);
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('by PASID is translated for all, too', async () => {
    const { vm, devices, page } = await group(2);
    const [first, second] = [devices[0]!, devices[1]!];
    const hwpt = { flags: 8, devId: first.id, ptId: vm.ioasId };
    const { outHwptId: ptId } = await vm.program.ok(vm.iommufd, IOMMU_HWPT_ALLOC, HwptAlloc, hwpt);
    const values = { argsz: 16, flags: 1, pasid: 5, ptId };
    await vm.program.ok(first.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, values);
    expect(new Probe(second).read(page, 5)).toBe('guest RAM');
    expect(new Probe(second).read(page, 6)).toBe(null);
  });

  it("goes behind a guest's stage 1 only when every device of the group has a vDEVICE", async () => {
    const { vm, devices, page, reads } = await group(2);
    const [first, second] = [devices[0]!, devices[1]!];
    const slice = await vm.slice(first);
    await slice.setVirtualId(first, 0x10);
    const stage1 = new Stage1(vm.ram, 7);
    stage1.map(page, page);
    const contexts = new ContextTable(vm.ram);
    contexts.set(0, stage1);
    const nested = await slice.nested(first, contexts.ste());
    expect([await first.attachErr(nested), ...reads()]).toEqual(['ENOENT', null, null]);
    await slice.setVirtualId(second, 0x11);
    await first.attach(nested);
    expect(reads()).toEqual(['guest RAM', 'guest RAM']);
    await first.attach(await slice.nested(first, STE_ABORT));
    expect(reads()).toEqual([null, null]);
  });

  it("does not go behind a guest's stage 1 while one of the devices is bound to nobody", async () => {
    const { vm, devices } = await group(2, 1);
    const slice = await vm.slice(devices[0]!);
    await slice.setVirtualId(devices[0]!, 0x10);
    const contexts = new ContextTable(vm.ram);
    contexts.set(0, new Stage1(vm.ram, 7));
    expect(await devices[0]!.attachErr(await slice.nested(devices[0]!, contexts.ste()))).toBe('ENOENT');
    expect(await devices[0]!.attachErr(await slice.nested(devices[0]!, STE_ABORT))).toBe('');
  });

  it('changes for all or for none, whichever allocation fails, with and without a PASID', async () => {
    const { machine, vm, devices, page, reads } = await group(3);
    const first = devices[0]!;
    const points = new FailurePoints();
    const blocked = [null, null, null];
    const open = blocked.map(() => 'guest RAM');
    const empty = (await vm.program.ok(vm.iommufd, IOMMU_IOAS_ALLOC, IoasAlloc)).outIoasId;
    const hwpt = { flags: 8, devId: first.id, ptId: vm.ioasId };
    const { outHwptId: pasidHwpt } = await vm.program.ok(vm.iommufd, IOMMU_HWPT_ALLOC, HwptAlloc, hwpt);
    const layout = vfio.DeviceAttachIommufdPt;
    const attach = (ptId: number, pasid = 0) => {
      const values = { argsz: pasid ? 16 : 12, flags: pasid ? 1 : 0, pasid, ptId };
      return vm.program.err(first.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, layout, values);
    };
    const withPasid = () => devices.map((device) => new Probe(device).read(page, 5));
    const sweep = async (call: () => Promise<string>, seen: () => unknown, before: unknown): Promise<number> => {
      for (let n = 1; ; n++) {
        points.failNth(n);
        const answer = await points.during(call);
        if (points.failed === null) {
          points.failNth(0);
          expect(answer).toBe('');
          return n;
        }
        expect([n, answer, seen()]).toEqual([n, 'ENOMEM', before]);
      }
    };
    expect(await sweep(() => attach(pasidHwpt), reads, blocked)).toBeGreaterThan(3);
    expect(await sweep(() => attach(pasidHwpt, 5), withPasid, blocked)).toBeGreaterThan(3);
    expect([reads(), withPasid()]).toEqual([open, open]);
    await vm.program.ok(first.fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt, {
      argsz: 12,
      flags: 1,
      pasid: 5,
    });
    expect(await sweep(() => attach(empty), reads, open)).toBeGreaterThan(3);
    expect(reads()).toEqual(blocked);
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });
});
