/** HWPT_ALLOC in its three ways, DESTROY, GET_HW_INFO, invalidation. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import { fillable, geometryOf, MOCK_HUGE, reserveFor } from './attach-rules.ts';
import { type Command, caller, hex, target } from './command.ts';
import { SSIDS, steWords } from './guest-image.ts';
import { filled, outside } from './mapping-rules.ts';
import { type FaultQueue, holders, type Nested, type Paging, type Viommu } from './model.ts';
import type { Picker } from './picker.ts';
import type { World } from './world.ts';

const { IOMMU_HWPT_ALLOC_NEST_PARENT: NEST_PARENT, IOMMU_HWPT_ALLOC_PASID: PASID } = uapi;
const { IOMMU_HWPT_ALLOC_DIRTY_TRACKING: DIRTY, IOMMU_HWPT_FAULT_ID_VALID: FAULT } = uapi;
const ARM_SMMUV3 = uapi.IOMMU_HWPT_DATA_ARM_SMMUV3;
/** What STEs of guests say: V, and Config abort or bypass. */
type GuestSte = Pick<Nested, 'config' | 'ats' | 'ssids'> & { readonly words: readonly bigint[] };
const stage1 = (ats: boolean, ssids = 0): GuestSte => ({ config: 'stage1', ats, ssids, words: steWords(ats, ssids) });
const BYPASS: GuestSte = { config: 'bypass', ats: false, ssids: 0, words: [9n, 0n] };
const ABORT: GuestSte = { config: 'abort', ats: false, ssids: 0, words: [1n, 0n] };
const STES = [BYPASS, stage1(false), stage1(true), ABORT, stage1(true)];
const withPasids = [stage1(true, SSIDS), stage1(true, SSIDS), stage1(false, SSIDS), stage1(true, SSIDS)];
const STES_WITH_PASIDS = [...withPasids, ...STES];

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

/** Flags that the machine can have, seldom ones that it cannot. */
function pagingFlags(world: World, pick: Picker): number {
  const { hwptAllocFlags } = world.machine.dialect.accepted;
  const flags = world.isMock
    ? pick.from([
        0,
        NEST_PARENT,
        NEST_PARENT | PASID,
        PASID,
        DIRTY,
        DIRTY | PASID,
        FAULT,
        FAULT | PASID,
        FAULT | NEST_PARENT,
      ])
    : pick.from([0, NEST_PARENT, PASID, NEST_PARENT, ...specialFlags(world)]);
  return flags & hwptAllocFlags;
}

/** Those that only some machines are good for, and others refuse. */
function specialFlags(world: World): number[] {
  const { asksBy, tracksDirty } = world.traitsOf(0);
  if (asksBy) return [FAULT, FAULT | PASID, FAULT, FAULT | PASID];
  return tracksDirty ? [DIRTY, DIRTY | PASID, DIRTY, PASID] : [FAULT, DIRTY];
}

/** A fault queue, if the flags ask for one: 'ENOENT' when the ID is of something else. */
function faultOf(pick: Picker, things: readonly FaultQueue[], flags: number): { id: number; queue: FaultQueue | null } {
  const queue = flags & FAULT ? (pick.oneIn(8) ? null : (pick.of(things) ?? null)) : null;
  return { id: queue?.id ?? 0, queue };
}

export const hwptAllocPaging: Command = (world, pick) => {
  const by = caller(world, pick);
  const device = by && pick.of(by.context.all('device'));
  const ioas = by && pick.of(by.context.all('ioas'));
  if (!device || !ioas || by.context.all('hwpt-paging').length >= 6) return null;
  const { context, process } = by;
  const flags = pagingFlags(world, pick);
  const huge = world.isMock && world.release === 'linux-7.1' && pick.oneIn(4);
  const fault = faultOf(pick, context.all('fault-queue'), flags);
  const nestParent = (flags & NEST_PARENT) !== 0;
  const geometry = huge ? MOCK_HUGE : geometryOf(world);
  let expected: ErrnoName | '' = '';
  if (nestParent && flags & FAULT) expected = 'EOPNOTSUPP';
  else if (flags & DIRTY && !device.tracksDirty) expected = 'EOPNOTSUPP';
  else expected = fillable(world, ioas, geometry) || (flags & FAULT && !fault.queue ? 'ENOENT' : '');
  let id = 0;
  return {
    text: `HWPT_ALLOC of IOAS ${ioas.id} for device ${device.id}, flags ${hex(flags)}${huge ? ', huge' : ''}`,
    expected,
    undone: true,
    call: async () => {
      const dataUptr = process.put(words(0, 1));
      const data = huge ? { dataType: test.IOMMU_HWPT_DATA_SELFTEST, dataLen: 8, dataUptr } : {};
      const values = { flags, devId: device.id, ptId: ioas.id, faultId: fault.id, ...data };
      const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
      id = s.outHwptId;
      return errno;
    },
    apply: () => {
      if (id !== context.freeId()) throw new Error(`ID ${id}, not ${context.freeId()}`);
      const rights = { nestParent, dirty: (flags & DIRTY) !== 0, pasid: (flags & PASID) !== 0, fault: fault.queue };
      const written = { dirtied: new Set<bigint>(), unsure: new Set<bigint>(), tracking: false };
      const hwpt: Paging = { kind: 'hwpt-paging', id, context, ioas, ...rights, auto: false, ...geometry, ...written };
      reserveFor(ioas, hwpt, outside(geometry.aperture));
      filled(hwpt, ioas.areas, world.isMock);
      context.add(hwpt);
    },
  };
};

export const hwptAllocNested: Command = (world, pick) => {
  const by = caller(world, pick);
  const device = by && pick.of(by.context.all('device'));
  if (!device || by.context.all('hwpt-nested').length >= 5) return null;
  const { context, process } = by;
  const onParent = world.isMock || world.release === 'viommu-v2';
  const viommus: (Viommu | Paging)[] = context.all('viommu');
  const parents = context.all('hwpt-paging').filter(({ nestParent }) => nestParent || pick.oneIn(8));
  const base = pick.of(onParent ? [...viommus, ...parents] : viommus);
  if (!base) return null;
  const possible = world.isMock ? [0, 0, PASID, FAULT] : [0, FAULT];
  const flags = pick.from(possible) & world.machine.dialect.accepted.nestedHwptAllocFlags;
  const fault = faultOf(pick, context.all('fault-queue'), flags);
  const possibleStes = world.hasPasids ? STES_WITH_PASIDS : STES;
  const { words: ste, ...guest } = world.isMock ? BYPASS : pick.from(possibleStes);
  let expected: ErrnoName | '' = '';
  if (base.kind === 'viommu' && base.iommu !== device.iommu) expected = 'EINVAL';
  else if (base.kind === 'hwpt-paging' && !base.nestParent) expected = 'EINVAL';
  else if (flags & FAULT && !fault.queue) expected = 'ENOENT';
  let id = 0;
  return {
    text: `HWPT_ALLOC on ${base.kind} ${base.id} for device ${device.id}, flags ${hex(flags)}, ${guest.config} ${guest.ssids}`,
    expected,
    undone: true,
    call: async () => {
      const data = world.isMock ? words(7, 0) : new Uint8Array(BigUint64Array.from(ste).buffer);
      const dataType = world.isMock ? test.IOMMU_HWPT_DATA_SELFTEST : ARM_SMMUV3;
      const dataLen = world.isMock && world.release !== 'linux-7.1' ? 4 : data.length;
      const given = { dataType, dataLen, dataUptr: process.put(data) };
      const values = { flags, devId: device.id, ptId: base.id, faultId: fault.id, ...given };
      const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
      id = s.outHwptId;
      return errno;
    },
    apply: () => {
      if (id !== context.freeId()) throw new Error(`ID ${id}, not ${context.freeId()}`);
      const parent = base.kind === 'viommu' ? base.parent : base;
      const rights = { pasid: (flags & PASID) !== 0, fault: fault.queue, ...guest, iommu: device.iommu };
      const hwpt: Nested = { kind: 'hwpt-nested', id, context, base, parent, ...rights };
      context.add(hwpt);
    },
  };
};

/** Anything: refused while it is held. */
export const destroy: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by) return null;
  const { context, process } = by;
  const all = [...context.things.values()];
  const held = holders(context, world.descriptors);
  const free = all.filter((thing) => held.get(thing)!.length === 0);
  const thing = pick.oneIn(3) ? pick.of(all) : (pick.of(free) ?? pick.of(all));
  const id = pick.oneIn(12) ? pick.below(20) : (thing?.id ?? 1);
  const meant = context.things.get(id);
  const users = meant ? held.get(meant)! : [];
  return {
    text: `DESTROY ${id} (${meant ? `${meant.kind}, held by ${users.join(', ') || 'nothing'}` : 'nothing'})`,
    expected: !meant ? 'ENOENT' : users.length ? 'EBUSY' : '',
    undone: true,
    call: async () => (await world.ioctl(process, context.engine, uapi.IOMMU_DESTROY, uapi.Destroy, { id })).errno,
    apply: () => {
      if (context.vfioIoas === meant) context.vfioIoas = null;
      if (meant!.kind === 'mock-device') world.unbind(meant.device);
      if (meant!.kind === 'hwpt-paging') world.removePaging(meant);
      if (meant!.kind === 'vdevice' && meant.virtual) {
        meant.viommu.virtualIds.delete(meant.virtual.value);
        meant.virtual.device.virtual = null;
      }
      if (meant!.kind === 'viommu') for (const { device } of meant.virtualIds.values()) device.virtual = null;
      if (meant!.kind === 'hw-queue') context.things.delete(meant.access.id);
      context.things.delete(id);
    },
  };
};

export const getHwInfo: Command = (world, pick) => {
  const by = caller(world, pick);
  const meant = by && target(by.context, pick, 'device');
  if (!meant || !world.speaks('IOMMU_GET_HW_INFO')) return null;
  const { context, process } = by;
  return {
    text: `GET_HW_INFO of ${meant.id}`,
    expected: meant.thing ? '' : 'ENOENT',
    undone: true,
    call: async () => {
      const values = { devId: meant.id, dataLen: 64, dataUptr: process.put(new Uint8Array(64)) };
      return (await world.ioctl(process, context.engine, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, values)).errno;
    },
    apply: () => {},
  };
};

/** To a nested HWPT or a vIOMMU: drops caches, and changes nothing else. */
export const hwptInvalidate: Command = (world, pick) => {
  const by = caller(world, pick);
  const hwpt = by && pick.of([...by.context.all('hwpt-nested'), ...by.context.all('viommu')]);
  if (!hwpt || !world.speaks('IOMMU_HWPT_INVALIDATE')) return null;
  const { context, process } = by;
  const ids = hwpt.kind === 'viommu' ? [...hwpt.virtualIds.keys()] : [];
  const virtualId = pick.of(ids);
  const onNested = world.isMock || world.release === 'viommu-v2';
  let expected: ErrnoName | '' = hwpt.kind === 'viommu' || onNested ? '' : 'EOPNOTSUPP';
  if (world.isMock && hwpt.kind === 'viommu' && virtualId === undefined) expected = 'EINVAL';
  return {
    text: `HWPT_INVALIDATE of ${hwpt.kind} ${hwpt.id}`,
    expected,
    undone: true,
    call: async () => {
      // Mock: everything of the device; SMMUv3: CMD_TLBI_NH_ALL.
      const mock = hwpt.kind === 'viommu' ? words(1, Number(virtualId ?? 0n), 0) : words(1, 0);
      const bytes = world.isMock ? mock : new Uint8Array(BigUint64Array.of(0x10n, 0n).buffer);
      const dataType = world.isMock ? 0xdeadbeef : 1;
      const entry = { entryLen: bytes.length, entryNum: 1 };
      const values = { hwptId: hwpt.id, dataUptr: process.put(bytes), dataType, ...entry };
      return (await world.ioctl(process, context.engine, uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate, values))
        .errno;
    },
    apply: () => {},
  };
};
