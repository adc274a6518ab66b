/** The dialect of the design thread, against the release that its series stood on and the one that took the idea in. */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import * as v2 from '../../src/abi/iommufd-viommu-v2.ts';
import { CmdqvSlice, withCmdqv } from '../host/cmdqv.ts';
import { commandBytes, commands, STE_BYPASS } from '../host/guest.ts';
import { MIB, type MutableMachine, testMachine } from '../host/program.ts';
import { bringUp, type Device, GUEST_BASE, V2, Vm } from '../host/vm.ts';

type Values = Record<string, number | bigint>;

const start = (abi: string): Promise<Vm> => Vm.start(testMachine({ abi }).machine);

/** A device, and its slice of an SMMU. */
async function sliced(abi: string) {
  const vm = await start(abi);
  const device = await vm.device(0);
  return { vm, device, slice: await vm.slice(device) };
}

/** HWPT_ALLOC of a bypassing nested HWPT on `ptId`. */
function nested(vm: Vm, device: Device, ptId: number) {
  const dataUptr = vm.program.put(new Uint8Array(BigUint64Array.from(STE_BYPASS).buffer));
  const values = { size: 40, devId: device.id, ptId, dataType: 2, dataLen: 16, dataUptr };
  return vm.program.call(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
}

describe('the dialect of the design thread', () => {
  it('viommu-v2: number 0x91 takes the virtual ID back where linux-6.13 allocates a vDEVICE', async () => {
    const ask = async (abi: string) => {
      const { vm, device, slice } = await sliced(abi);
      const values = { viommuId: slice.id, devId: device.id, vdevId: 0x10n };
      const layout = v2.ViommuUnsetVdevId;
      const { errno, s } = await vm.program.call(vm.iommufd, v2.IOMMU_VIOMMU_UNSET_VDEV_ID, layout, values);
      return { errno, id: s.reserved };
    };
    expect(await ask(V2)).toEqual({ errno: 'ENOENT', id: 0 });
    expect(await ask('linux-6.13')).toEqual({ errno: '', id: expect.any(Number) });
    expect((await ask('linux-6.13')).id).toBeGreaterThan(0);
  });

  it('viommu-v2: number 0x8f is VIOMMU_ALLOC, which linux-6.12 does not know and linux-6.13 takes for IOAS_MAP_FILE', async () => {
    const ask = async (abi: string) => {
      const vm = await start(abi);
      return vm.program.err(vm.iommufd, v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, { type: 0 });
    };
    expect([await ask(V2), await ask('linux-6.12'), await ask('linux-6.13')]).toEqual(['ENOENT', 'ENOTTY', 'EINVAL']);
  });

  it('viommu-v2: a vIOMMU of type 0 is managed by the core, and linux-6.13 refuses the type', async () => {
    const { vm, device, slice } = await sliced(V2);
    expect(slice.id).toBeGreaterThan(0);
    const parent = await vm.parent(device);
    const values: Values = { devId: device.id, hwptId: parent };
    const alloc = (type: number) =>
      vm.program.err(vm.iommufd, v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, { ...values, type });
    expect([await alloc(0), await alloc(2)]).toEqual(['', 'EOPNOTSUPP']);
    const mainline = await sliced('linux-6.13');
    const type0 = { size: 24, type: 0, devId: mainline.device.id, hwptId: await mainline.vm.parent(mainline.device) };
    const { program, iommufd } = mainline.vm;
    expect(await program.err(iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, type0)).toBe('EOPNOTSUPP');
  });

  it('viommu-v2: SET_VDEV_ID makes no object, refuses a second ID (EEXIST) and an ID in use (EBUSY)', async () => {
    const vm = await Vm.start(testMachine({ abi: V2, preset: 'one-smmu' }).machine);
    const [one, two] = [await vm.device(0), await vm.device(1)];
    const slice = await vm.slice(one);
    const set = ({ id: devId }: Device, vdevId: bigint) =>
      vm.program.err(vm.iommufd, v2.IOMMU_VIOMMU_SET_VDEV_ID, v2.ViommuSetVdevId, {
        viommuId: slice.id,
        devId,
        vdevId,
      });
    const unset = ({ id: devId }: Device, vdevId: bigint) =>
      vm.program.err(vm.iommufd, v2.IOMMU_VIOMMU_UNSET_VDEV_ID, v2.ViommuUnsetVdevId, {
        viommuId: slice.id,
        devId,
        vdevId,
      });
    expect([await set(one, 0x10n), await set(one, 0x11n), await set(two, 0x10n)]).toEqual(['', 'EEXIST', 'EBUSY']);
    expect([await unset(one, 0x11n), await unset(one, 0x10n), await unset(one, 0x10n)]).toEqual([
      'EINVAL',
      '',
      'ENOENT',
    ]);
    expect(await vm.destroy(slice.id)).toBe('');
  });

  it('viommu-v2: a nested HWPT can stand on a parent without a vIOMMU, and takes TLBI commands; linux-7.1 refuses', async () => {
    const vm = await start(V2);
    const device = await vm.device(0);
    const { errno, s } = await nested(vm, device, await vm.parent(device));
    expect(errno).toBe('');
    const invalidate = (...list: [bigint, bigint][]) => {
      const dataUptr = vm.program.put(commandBytes(list));
      const values = { hwptId: s.outHwptId, dataUptr, dataType: 1, entryLen: 16, entryNum: list.length };
      return vm.program.err(vm.iommufd, uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate, values);
    };
    expect([await invalidate(commands.nhAsid(7)), await invalidate(commands.cfgiCd(0x10))]).toEqual(['', 'EIO']);

    const mainline = await start('linux-7.1');
    const there = await mainline.device(0);
    expect((await nested(mainline, there, await mainline.parent(there))).errno).toBe('EOPNOTSUPP');
  });

  it('viommu-v2: a device without a virtual ID can be attached to any nested HWPT, as in linux-6.13', async () => {
    for (const abi of [V2, 'linux-6.13']) {
      const { device, slice } = await sliced(abi);
      expect(await device.attachErr(await slice.nested(device, STE_BYPASS))).toBe('');
    }
  });

  it('viommu-v2: a VIRQ gives 32 bytes an event where the vEVENTQ of linux-7.1 gives 40, with a header', async () => {
    const bytes = async (abi: string) => {
      const guest = await bringUp(await start(abi));
      const queue = await guest.slice.events();
      guest.engine.copy(0x6000_0000n, 0x6000_0000n);
      return guest.vm.program.read(queue.fd, 4096).length;
    };
    expect([await bytes(V2), await bytes('linux-7.1')]).toEqual([32, 40]);
  });

  it('viommu-v2: VQUEUE_ALLOC where linux-6.17 has HW_QUEUE_ALLOC; for an SMMU without a CMDQV it is EOPNOTSUPP', async () => {
    const { vm, slice } = await sliced(V2);
    const ask = (values: Values) => vm.program.err(vm.iommufd, v2.IOMMU_VQUEUE_ALLOC, v2.VqueueAlloc, values);
    expect(await ask({ viommuId: slice.id, dataType: 1, dataLen: 16 })).toBe('EOPNOTSUPP');
    expect([await ask({ flags: 1 }), await ask({}), await ask({ dataLen: 16 })]).toEqual([
      'EOPNOTSUPP',
      'EINVAL',
      'ENOENT',
    ]);
    expect(await vm.program.err(vm.iommufd, uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc)).toBe('ENOTTY');
  });

  it('viommu-v2: a queue is not pinned and its pages need not lie together, unlike those of linux-6.17', async () => {
    const ask = async (abi: string) => {
      const change = (machine: MutableMachine) => {
        withCmdqv(machine);
        machine.memory = { fragmentSeed: 1 };
      };
      const vm = await Vm.start(testMachine({ abi, change }).machine);
      const queues = await CmdqvSlice.open(vm, await vm.device(0));
      const two = await queues.queueAt(0, vm.ram.allocate(2), 2);
      const one = await queues.queueAt(1, vm.ram.allocate());
      return [typeof two === 'number', one, await vm.unmap(GUEST_BASE, 8 * MIB)];
    };
    expect(await ask(V2)).toEqual([true, expect.any(Number), '']);
    expect(await ask('linux-6.17')).toEqual([false, 'EIO', '']);
  });

  it('viommu-v2: the page of a vIOMMU is mapped by its ID, and does not keep it; that of linux-6.17 does', async () => {
    const ask = async (abi: string) => {
      const vm = await Vm.start(testMachine({ abi, change: withCmdqv }).machine);
      const queues = await CmdqvSlice.open(vm, await vm.device(0));
      queues.map();
      return [queues.offset === BigInt(queues.id) * 4096n, await vm.destroy(queues.id)];
    };
    expect([await ask(V2), await ask('linux-6.17')]).toEqual([
      [true, ''],
      [false, 'EBUSY'],
    ]);
  });
});
