/** The vIOMMU family: slices, what names devices in them, event and HW queues, regions. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import * as v2 from '../../src/abi/iommufd-viommu-v2.ts';
import type { Mapping } from '../../src/iommufd/file.ts';
import { type Command, caller, hex, target } from './command.ts';
import { IOVAS } from './ioas-commands.ts';
import { byteOf, pageOf, pagesOf, parts, realign } from './mapping-rules.ts';
import { attachedOf, type Device, type EventQueue, type HwQueue, PAGE, type Viommu } from './model.ts';
import type { World } from './world.ts';

const regionBytes = (world: World): bigint => (world.isMock ? 8192n : 0x10000n);

export const viommuAlloc: Command = (world, pick) => {
  const by = caller(world, pick);
  const device = by && pick.of(by.context.all('device'));
  const meant = by && target(by.context, pick, 'hwpt-paging');
  if (!device || !meant || !world.speaks('IOMMU_VIOMMU_ALLOC') || by.context.all('viommu').length >= 4) return null;
  const { context, process } = by;
  const parents = context.all('hwpt-paging').filter(({ nestParent }) => nestParent);
  const isV2 = world.release === 'viommu-v2';
  const parent = pick.oneIn(8) ? meant.thing : (pick.of(parents) ?? meant.thing);
  const hwptId = parent?.id ?? meant.id;
  const withRegion = world.release === 'linux-7.1' && (world.isMock ? pick.oneIn(3) : world.hasCmdqvs && pick.oneIn(2));
  const [regionType, answerType] = world.isMock
    ? [test.IOMMU_VIOMMU_TYPE_SELFTEST, test.ViommuSelftest]
    : [uapi.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, uapi.ViommuTegra241Cmdqv];
  const id = context.freeId();
  let [answer, region] = [0, 0n];
  return {
    text: `VIOMMU_ALLOC on HWPT ${hwptId} for device ${device.id}${withRegion ? ', with data' : ''}`,
    expected: !parent ? 'ENOENT' : parent.nestParent ? '' : 'EINVAL',
    undone: true,
    call: async () => {
      const type = withRegion || world.isMock ? regionType : isV2 ? 0 : 1;
      const dataUptr = process.put(new Uint8Array(answerType.size));
      const data = withRegion ? { dataLen: answerType.size, dataUptr } : {};
      const [number, layout] = isV2
        ? [v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc as never as typeof uapi.ViommuAlloc]
        : [uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc];
      const values = { devId: device.id, hwptId, type, ...data };
      const { errno, s } = await world.ioctl(process, context.engine, number, layout, values);
      answer = s.outViommuId;
      const answered = new answerType(process.get(answerType.size));
      region = 'outMmapOffset' in answered ? answered.outMmapOffset : answered.outVintfMmapOffset;
      return errno;
    },
    apply: () => {
      if (answer !== id) throw new Error(`ID ${answer}, not ${id}`);
      const { iommu } = device;
      const rest = { virtualIds: new Map(), region: withRegion ? region : null, mapped: false };
      context.add<Viommu>({ kind: 'viommu', id, context, parent: parent!, iommu, ...rest });
    },
  };
};

/** VDEVICE_ALLOC, or VIOMMU_SET_VDEV_ID. */
export const vdeviceAlloc: Command = (world, pick) => {
  const by = caller(world, pick);
  const viommu = by && target(by.context, pick, 'viommu');
  const device = by && target(by.context, pick, 'device');
  const isV2 = world.release === 'viommu-v2';
  if (!viommu || !device || !(isV2 || world.speaks('IOMMU_VDEVICE_ALLOC'))) return null;
  const { context, process } = by;
  const value = BigInt(1 + pick.below(3));
  const [slice, named] = [viommu.thing, device.thing];
  let expected: ErrnoName | '' = '';
  if (!slice || !named) expected = 'ENOENT';
  else if (slice.iommu !== named.iommu) expected = 'EINVAL';
  else if (named.virtual) expected = 'EEXIST';
  else if (slice.virtualIds.has(value)) expected = isV2 ? 'EBUSY' : 'EEXIST';
  const id = context.freeId();
  let answer = 0;
  return {
    text: `${isV2 ? 'VIOMMU_SET_VDEV_ID' : 'VDEVICE_ALLOC'} ${value} of vIOMMU ${viommu.id} for device ${device.id}`,
    expected,
    undone: true,
    call: async () => {
      const ids = { viommuId: viommu.id, devId: device.id };
      if (isV2) {
        const { IOMMU_VIOMMU_SET_VDEV_ID: number, ViommuSetVdevId: layout } = v2;
        return (await world.ioctl(process, context.engine, number, layout, { ...ids, vdevId: value })).errno;
      }
      const values = { ...ids, virtId: value };
      const { errno, s } = await world.ioctl(
        process,
        context.engine,
        uapi.IOMMU_VDEVICE_ALLOC,
        uapi.VdeviceAlloc,
        values,
      );
      answer = s.outVdeviceId;
      return errno;
    },
    apply: () => {
      const virtual = { viommu: slice!, device: named!, value };
      slice!.virtualIds.set(value, virtual);
      named!.virtual = virtual;
      if (isV2) return;
      if (answer !== id) throw new Error(`ID ${answer}, not ${id}`);
      context.add({ kind: 'vdevice', id, context, viommu: slice!, virtual });
    },
  };
};

export const unsetVdevId: Command = (world, pick) => {
  const by = caller(world, pick);
  const viommu = by && pick.of(by.context.all('viommu'));
  const device = by && pick.of(by.context.all('device'));
  if (!viommu || !device || world.release !== 'viommu-v2') return null;
  const { context, process } = by;
  const value = device.virtual?.value ?? 1n;
  return {
    text: `VIOMMU_UNSET_VDEV_ID ${value} of vIOMMU ${viommu.id} for device ${device.id}`,
    expected: !device.virtual ? 'ENOENT' : device.virtual.viommu !== viommu ? 'EINVAL' : '',
    undone: true,
    call: async () => {
      const { IOMMU_VIOMMU_UNSET_VDEV_ID: number, ViommuUnsetVdevId: layout } = v2;
      const values = { viommuId: viommu.id, devId: device.id, vdevId: value };
      return (await world.ioctl(process, context.engine, number, layout, values)).errno;
    },
    apply: () => {
      viommu.virtualIds.delete(value);
      device.virtual = null;
    },
  };
};

/** VEVENTQ_ALLOC, or VIRQ_ALLOC. */
export const eventQueueAlloc: Command = (world, pick) => {
  const by = caller(world, pick);
  const viommu = by && target(by.context, pick, 'viommu');
  const isV2 = world.release === 'viommu-v2';
  if (!viommu || !(isV2 || world.speaks('IOMMU_VEVENTQ_ALLOC'))) return null;
  const { context, process } = by;
  const type = world.isMock ? test.IOMMU_VEVENTQ_TYPE_SELFTEST : 1;
  const other = context.all('veventq', 'virq').some((queue) => queue.viommu === viommu.thing);
  const id = context.freeId();
  let [answer, fd] = [0, 0];
  return {
    text: `${isV2 ? 'VIRQ_ALLOC' : 'VEVENTQ_ALLOC'} of vIOMMU ${viommu.id}`,
    expected: !viommu.thing ? 'ENOENT' : other ? 'EEXIST' : '',
    undone: true,
    call: async () => {
      if (isV2) {
        const values = { viommuId: viommu.id, type };
        const { errno, s } = await world.ioctl(process, context.engine, v2.IOMMU_VIRQ_ALLOC, v2.VirqAlloc, values);
        [answer, fd] = [s.outVirqId, s.outVirqFd];
        return errno;
      }
      const { IOMMU_VEVENTQ_ALLOC: number, VeventqAlloc: layout } = uapi;
      const values = { viommuId: viommu.id, type, veventqDepth: 2 };
      const { errno, s } = await world.ioctl(process, context.engine, number, layout, values);
      [answer, fd] = [s.outVeventqId, s.outVeventqFd];
      return errno;
    },
    apply: () => {
      if (answer !== id) throw new Error(`ID ${answer}, not ${id}`);
      const queue: EventQueue = { kind: isV2 ? 'virq' : 'veventq', id, context, viommu: viommu.thing! };
      world.opened(process, fd, context.add(queue));
    },
  };
};

/** The vIOMMU in which the device is attached. */
function sliceOf(device: Device): Viommu | null {
  const hwpt = attachedOf(device);
  return hwpt?.kind === 'hwpt-nested' && hwpt.base.kind === 'viommu' ? hwpt.base : null;
}

/** An event of a device, which the vIOMMU that it is attached in must know. */
export const triggerVevent: Command = (world, pick) => {
  const by = caller(world, pick);
  const devices = by?.context.all('device') ?? [];
  const queues = by?.context.all('veventq', 'virq') ?? [];
  const heard = devices.filter((each) => queues.some(({ viommu }) => viommu === sliceOf(each)));
  const device = pick.of(pick.oneIn(4) ? devices : heard);
  if (!by || !device || !world.isMock || world.release !== 'linux-7.1') return null;
  const { context, process } = by;
  const viommu = sliceOf(device);
  const queue = context.all('veventq', 'virq').some((each) => each.viommu === viommu);
  return {
    text: `TRIGGER_VEVENT of device ${device.id}`,
    expected: !viommu ? 'ENOENT' : queue ? '' : 'EOPNOTSUPP',
    call: async () => {
      const { IOMMU_TEST_OP_TRIGGER_VEVENT: op, TestTriggerVevent: layout } = test;
      return (await world.test(process, context, op, 0, layout, { devId: device.id })).errno;
    },
    apply: () => {},
  };
};

const HW_QUEUES = 2;

export const hwQueueAlloc: Command = (world, pick) => {
  const by = caller(world, pick);
  const viommu = by && pick.of(by.context.all('viommu'));
  if (!viommu || !(world.isMock || world.hasCmdqvs) || !world.speaks('IOMMU_HW_QUEUE_ALLOC')) return null;
  const { context, process } = by;
  const { ioas } = viommu.parent;
  const queues = context.all('hw-queue').filter((queue) => queue.viommu === viommu);
  const index = pick.oneIn(3) ? pick.below(HW_QUEUES + 1) : queues.length;
  const area = pick.oneIn(6) ? undefined : pick.of(ioas.areas);
  const iova = area?.start ?? pick.from(IOVAS);
  // Two pages of a CMDQV would have to lie at an even one in physical memory, of which nothing is known here.
  const length = pick.oneIn(3) ? pick.from(world.isMock ? [PAGE, 2n * PAGE, 3n * PAGE] : [PAGE, 3n * PAGE]) : PAGE;
  const start = iova - (iova % PAGE);
  const pin = { start, last: iova + length - 1n + ((PAGE - ((iova + length) % PAGE)) % PAGE) };
  const found = parts(ioas, pin);
  const has = (n: number): boolean => queues.some((queue) => queue.index === n);
  let expected: ErrnoName | '' = world.isMock || viommu.region !== null ? realign(ioas, PAGE) : 'EOPNOTSUPP';
  if (!expected) expected = firstRefusal(world, ioas, pin) || (found === 'ENOENT' ? 'ENOENT' : '');
  if (!expected && found !== 'ENOENT') expected = contiguous(found) ? '' : 'EFAULT';
  if (!expected && index >= HW_QUEUES) expected = 'EINVAL';
  if (!expected && has(index)) expected = 'EEXIST';
  if (!expected && index === 1 && !has(0)) expected = 'EIO';
  if (!expected && !world.isMock && (length !== PAGE || iova % PAGE)) expected = 'EINVAL';
  const [id, accessId] = [context.freeId(), context.freeId(1)];
  let answer = 0;
  return {
    text: `HW_QUEUE_ALLOC ${index} of vIOMMU ${viommu.id} at ${hex(iova)} + ${hex(length)}`,
    expected,
    undone: true,
    call: async () => {
      const { IOMMU_HW_QUEUE_ALLOC: number, HwQueueAlloc: layout } = uapi;
      const type = world.isMock ? test.IOMMU_HW_QUEUE_TYPE_SELFTEST : uapi.IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV;
      const values = { viommuId: viommu.id, type, index, nestingParentIova: iova, length };
      const { errno, s } = await world.ioctl(process, context.engine, number, layout, values);
      answer = s.outHwQueueId;
      return errno;
    },
    apply: () => {
      if (answer !== id) throw new Error(`ID ${answer}, not ${id}`);
      const items = [{ ...pin, id: 0 }];
      const access = {
        kind: 'access',
        id: accessId,
        context,
        ioas,
        pins: true,
        internal: true,
        items,
        nextItem: 1,
      } as const;
      context.add<HwQueue>({ kind: 'hw-queue', id, context, viommu, index, pin, access: context.add({ ...access }) });
    },
  };
};

/** What pinning for reading is refused with at the first area that refuses it; '' also when there is a gap before. */
export function firstRefusal(
  world: Parameters<Command>[0],
  ioas: Viommu['parent']['ioas'],
  span: { start: bigint; last: bigint },
  write = false,
): ErrnoName | '' {
  const pins = world.pins();
  let at = span.start;
  for (const area of ioas.areas) {
    if (area.last < at || at > span.last) continue;
    if (area.start > at) return '';
    const last = area.last < span.last ? area.last : span.last;
    if (area.memory.kind === 'dma-buf') return 'EINVAL';
    if (!(area.prot & (write ? 2 : 1))) return 'EPERM';
    if (byteOf(area, at) % PAGE) return 'EINVAL';
    const errno = pins.tryAll([pagesOf(area, { start: at, last })]);
    if (errno) return errno;
    at = last + 1n;
  }
  return '';
}

/** Do the parts lie behind one another in one memory object, as its frames then do? */
function contiguous(found: Exclude<ReturnType<typeof parts>, 'ENOENT'>): boolean {
  let next: { object: object; page: number } | null = null;
  for (const { area, start, last } of found) {
    const { object, base } = area.memory;
    const first = base / 4096 + pageOf(byteOf(area, start));
    if (next && (next.object !== object || next.page !== first)) return false;
    next = { object, page: base / 4096 + pageOf(byteOf(area, last)) + 1 };
  }
  return true;
}

/** mmap of a vIOMMU's region, and the end of that. */
export const regionMap: Command = (world, pick) => {
  const by = caller(world, pick);
  const viommu = by && pick.of(by.context.all('viommu').filter(({ region }) => region !== null));
  if (!viommu) return null;
  const { context, process } = by;
  let mapping: Mapping | null = null;
  if (viommu.mapped) {
    return {
      text: `munmap of the region of vIOMMU ${viommu.id}`,
      expected: '',
      call: () => world.errnoOf(() => world.mappings.get(viommu)!.ended()),
      apply: () => {
        viommu.mapped = false;
        world.prune();
      },
    };
  }
  return {
    text: `mmap of the region of vIOMMU ${viommu.id}`,
    expected: '',
    call: () =>
      world.errnoOf(() => {
        mapping = context.engine.mmap(process, regionBytes(world), 3, 1, viommu.region!);
      }),
    apply: () => {
      viommu.mapped = true;
      world.mappings.set(viommu, mapping!);
    },
  };
};
