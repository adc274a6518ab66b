/**
 * VFIO calls, those for command queues of guests, and those of the design thread's dialect, on a machine with SMMUs that
 * have CMDQVs: every allocation inside a call fails once.
 * The answer is ENOMEM, nothing is lost, and the call works the next time. src/iommufd/failure-sweep.test.ts has the rest.
 */
import { describe, expect, it } from 'vitest';
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as v2 from '../../src/abi/iommufd-viommu-v2.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { FailurePoints } from '../../src/drivers/failure-points.ts';
import type { IommufdContext } from '../../src/iommufd/context.ts';
import { CmdqvSlice, withCmdqv } from './cmdqv.ts';
import { STE_BYPASS } from './guest.ts';
import { leftovers, testMachine } from './program.ts';
import { type Device, GUEST_BASE, type Slice, V2, Vm } from './vm.ts';

interface World {
  readonly vm: Vm;
  readonly device: Device;
  readonly slice: Slice;
  /** vfio1, open and not bound. */
  readonly other: number;
}

async function world(abi: string): Promise<World> {
  const { machine } = testMachine({ abi, change: withCmdqv });
  const vm = await Vm.start(machine);
  const device = await vm.device(0);
  const slice = await vm.slice(device);
  return { vm, device, slice, other: vm.program.open('/dev/vfio/devices/vfio1') };
}

/** A call: the errno. It is made at once, since failures are counted no further than its first await. */
type Call = (world: World) => Promise<ErrnoName | ''>;

interface Scenario {
  readonly given?: (world: World) => Promise<unknown>;
  readonly call: Call;
  /** It allocates nothing. */
  readonly free?: true;
}

type Values = Readonly<Record<string, number | bigint>>;
const iommufdCall =
  (command: number, layout: AnyStruct, values: (world: World) => Values): Call =>
  (w) =>
    w.vm.program.err(w.vm.iommufd, command, layout, values(w));
const attachTo =
  (table: (world: World) => number): Call =>
  (w) =>
    w.device.attachErr(table(w));
const nested = (w: World): Promise<number> => w.slice.nested(w.device, STE_BYPASS);
const setVirtualId = (w: World): Promise<unknown> => w.slice.setVirtualId(w.device, 7);
let nestedId = 0;
const withNested = async (w: World): Promise<void> => {
  await setVirtualId(w);
  nestedId = await nested(w);
};

const VFIO_CALLS: Readonly<Record<string, Scenario>> = {
  BIND_IOMMUFD: {
    call: ({ vm, other }) => {
      const values = { argsz: 16, iommufd: vm.iommufd };
      return vm.program.err(other, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, values);
    },
  },
  'ATTACH_IOMMUFD_PT to an IOAS': { call: attachTo(({ vm }) => vm.ioasId) },
  'ATTACH_IOMMUFD_PT to a nesting parent': { call: attachTo(({ vm }) => vm.parentId) },
  'ATTACH_IOMMUFD_PT to a nested HWPT': { given: withNested, call: attachTo(() => nestedId) },
  'ATTACH_IOMMUFD_PT that replaces': {
    given: async (w) => {
      await withNested(w);
      await w.device.attach(w.vm.ioasId);
    },
    call: attachTo(() => nestedId),
  },
  DETACH_IOMMUFD_PT: {
    given: ({ device, vm }) => device.attach(vm.ioasId),
    call: ({ vm, device }) => {
      const layout = vfio.DeviceDetachIommufdPt;
      return vm.program.err(device.fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, layout, { argsz: 8 });
    },
    free: true,
  },
  GET_INFO: {
    call: ({ vm, device }) =>
      vm.program.err(device.fd, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo, { argsz: vfio.DeviceInfo.size }),
    free: true,
  },
  RESET: { call: ({ vm, device }) => vm.program.bare(device.fd, vfio.VFIO_DEVICE_RESET), free: true },
};

const V2_CALLS: Readonly<Record<string, Scenario>> = {
  VIOMMU_ALLOC: {
    call: iommufdCall(v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, (w) => ({
      devId: w.device.id,
      hwptId: w.vm.parentId,
    })),
  },
  VIOMMU_SET_VDEV_ID: {
    call: iommufdCall(v2.IOMMU_VIOMMU_SET_VDEV_ID, v2.ViommuSetVdevId, (w) => ({
      viommuId: w.slice.id,
      devId: w.device.id,
      vdevId: 7n,
    })),
  },
  VIOMMU_UNSET_VDEV_ID: {
    given: setVirtualId,
    call: iommufdCall(v2.IOMMU_VIOMMU_UNSET_VDEV_ID, v2.ViommuUnsetVdevId, (w) => ({
      viommuId: w.slice.id,
      devId: w.device.id,
      vdevId: 7n,
    })),
    free: true,
  },
  VIRQ_ALLOC: {
    call: iommufdCall(v2.IOMMU_VIRQ_ALLOC, v2.VirqAlloc, (w) => ({
      viommuId: w.slice.id,
      type: v2.IOMMU_VIRQ_TYPE_ARM_SMMUV3,
    })),
  },
  'HWPT_ALLOC on a nesting parent': {
    call: (w) => {
      const dataUptr = w.vm.program.put(new Uint8Array(BigUint64Array.from(STE_BYPASS).buffer));
      const data = { dataType: uapi.IOMMU_HWPT_DATA_ARM_SMMUV3, dataLen: 16, dataUptr };
      const values = { devId: w.device.id, ptId: w.vm.parentId, ...data };
      return w.vm.program.err(w.vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
    },
  },
};

let queues: CmdqvSlice;
const withQueues = async (w: World): Promise<void> => {
  queues = await CmdqvSlice.open(w.vm, w.device);
};
/** From linux-6.19 on. */
const DMA_BUF_CALLS: Readonly<Record<string, Scenario>> = {
  DEVICE_FEATURE_DMA_BUF: {
    call: ({ vm, device }) => {
      const words = Uint32Array.of(40, vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF, 0, 0, 0, 1);
      const range = Uint32Array.of(0, 0, 0x1000, 0);
      const at = vm.program.put(new Uint8Array(Uint32Array.of(...words, ...range).buffer));
      return vm.program.bare(device.fd, vfio.VFIO_DEVICE_FEATURE, at);
    },
  },
};

const CMDQV_CALLS: Readonly<Record<string, Scenario>> = {
  'VIOMMU_ALLOC with a virtual interface': {
    call: iommufdCall(uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, (w) => {
      const data = { dataLen: 16, dataUptr: w.vm.program.put(new Uint8Array(16)) };
      return { type: 2, devId: w.device.id, hwptId: w.vm.parentId, ...data };
    }),
  },
  'VDEVICE_ALLOC in a virtual interface': {
    given: withQueues,
    call: (w) => {
      const values = { viommuId: queues.id, devId: w.device.id, virtId: 7n };
      return w.vm.program.err(w.vm.iommufd, uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, values);
    },
  },
  HW_QUEUE_ALLOC: {
    given: withQueues,
    call: ({ vm }) => {
      const values = { viommuId: queues.id, type: 1, nestingParentIova: GUEST_BASE, length: 4096n };
      return vm.program.err(vm.iommufd, uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc, values);
    },
  },
};

const VQUEUE_CALLS: Readonly<Record<string, Scenario>> = {
  'VIOMMU_ALLOC with a virtual interface': {
    call: iommufdCall(v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, (w) => ({
      type: v2.V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
      devId: w.device.id,
      hwptId: w.vm.parentId,
    })),
  },
  VQUEUE_ALLOC: {
    given: withQueues,
    call: (w) => {
      const data = Object.assign(new v2.VqueueTegra241Cmdqv(), { vcmdqLog2size: 8, vcmdqBase: GUEST_BASE });
      const values = { viommuId: queues.id, dataType: 1, dataLen: 16, dataUptr: w.vm.program.put(data.bytes) };
      return w.vm.program.err(w.vm.iommufd, v2.IOMMU_VQUEUE_ALLOC, v2.VqueueAlloc, values);
    },
  },
};

/** What the machine and the iommufd hold. */
function holdings({ vm: { program, iommufd } }: World): object {
  const { objects } = program.file(iommufd) as IommufdContext;
  const users = objects.all().map(({ kind, id, users: count }) => [kind, id, count]);
  return { ...program.machine.leftovers(), users, ids: objects.size, files: program.process.files.size };
}

/** @returns how many allocations the call makes */
async function sweep(abi: string, { given, call }: Scenario): Promise<number> {
  for (let n = 1; ; n++) {
    const w = await world(abi);
    await given?.(w);
    const before = holdings(w);
    const failures = new FailurePoints();
    failures.failNth(n);
    const errno = await failures.during(() => call(w));
    const { failed } = failures;
    failures.failNth(0);
    if (failed) {
      expect([failed, errno]).toEqual([failed, 'ENOMEM']);
      expect([failed, holdings(w)]).toEqual([failed, before]);
      expect([failed, await call(w)]).toEqual([failed, '']);
    } else {
      expect(errno).toBe('');
    }
    w.vm.program.die();
    expect(leftovers(w.vm.program.machine)).toEqual({});
    if (!failed) return n - 1;
  }
}

describe.each([
  ['linux-7.1', { ...VFIO_CALLS, ...DMA_BUF_CALLS, ...CMDQV_CALLS }],
  [V2, { ...VFIO_CALLS, ...V2_CALLS, ...VQUEUE_CALLS }],
] as const)('when an allocation fails, the call is refused with ENOMEM and loses nothing, %s', (abi, calls) => {
  it.each(Object.entries<Scenario>(calls))('%s', async (_name, scenario) => {
    expect((await sweep(abi, scenario)) > 0).toBe(!scenario.free);
  });
});

describe('open of /dev/iommu', () => {
  it('is refused with ENOMEM when there is no memory for it', async () => {
    const { vm } = await world('linux-7.1');
    const failures = new FailurePoints();
    failures.failNth(1);
    expect(() => failures.during(() => vm.program.open('/dev/iommu'))).toThrow('ENOMEM');
    vm.program.die();
    expect(leftovers(vm.program.machine)).toEqual({});
  });
});
