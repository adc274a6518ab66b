/** The rules of attaching: which domain an IOAS gives, what a new one needs, what reservations and PASIDs forbid. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import { alignmentOf, outside, pagesOf, realign, reservable } from './mapping-rules.ts';
import {
  type Device,
  type Hwpt,
  type Ioas,
  PAGE,
  type Paging,
  pagingOf,
  type Span,
  type Thing,
  type Traits,
  type VirtualId,
} from './model.ts';
import type { World } from './world.ts';

/** Geometry of a paging domain. */
export interface Geometry {
  readonly alignment: bigint;
  readonly aperture: Span;
}

const MOCK: Geometry = { alignment: 0x800n, aperture: { start: 0x100_0000n, last: 0x7fff_ffffn } };
export const MOCK_HUGE: Geometry = { alignment: PAGE, aperture: { start: 0n, last: 2n ** 38n - 1n } };
/** Either stage, in the presets. */
const SMMU: Geometry = { alignment: PAGE, aperture: { start: 0n, last: 2n ** 48n - 1n } };

export const geometryOf = (world: World): Geometry => (world.isMock ? MOCK : SMMU);

/** What filling a new domain of `ioas` is answered. */
export function fillable(world: World, ioas: Ioas, { alignment, aperture }: Geometry): ErrnoName | '' {
  const now = alignmentOf(ioas.context, ioas);
  if (alignment > now) {
    const errno = realign(ioas, alignment);
    if (errno) return errno;
  }
  const refused = reservable(ioas, outside(aperture));
  if (refused || ioas.context.hwptsOf(ioas).length) return refused;
  return world.pins().tryAll(ioas.areas.map((area) => pagesOf(area)));
}

export const reserveFor = (ioas: Ioas, owner: object, spans: readonly Span[]): void => {
  ioas.reserved.push(...spans.map((span) => ({ ...span, owner })));
};

/** One of the devices that are attached together: bound or not. */
interface Member extends Traits {
  readonly iommu: number;
  readonly virtual: VirtualId | null;
}

function membersOf(world: World, device: Device): readonly Member[] {
  const { members } = device.group;
  if (members.length === 0) return [device];
  return members.map((index) => {
    const virtual = world.boundAs(index)?.virtual ?? null;
    return { ...world.traitsOf(index), iommu: world.iommuOf(index), virtual };
  });
}

/** What attaching the group of `device` to one HWPT is answered, reservations aside. */
function suits(world: World, device: Device, hwpt: Hwpt, pasid: number): ErrnoName | '' {
  const { attachments } = device.group;
  const besides = [...attachments].filter(([other]) => (other === 0) !== (pasid === 0)).map(([, other]) => other.hwpt);
  const compatible = hwpt.pasid && (pasid === 0 || besides.every((other) => other.pasid));
  if ((pasid !== 0 || besides.length) && !compatible) return 'EINVAL';
  for (const member of membersOf(world, device)) {
    const refused = takes(world, member, hwpt, pasid);
    if (refused) return refused;
  }
  return '';
}

function takes(world: World, device: Member, hwpt: Hwpt, pasid: number): ErrnoName | '' {
  const { behaviour } = world.machine.dialect;
  const faultsNeedRequests = !world.isMock && behaviour.smmuv3FaultsNeedRequests;
  if (faultsNeedRequests && hwpt.fault && !device.asksBy) return 'EINVAL';
  // A device without PASIDs takes all of them: nobody asks it.
  if (pasid !== 0) return device.pasidBits && pasid >= 2 ** device.pasidBits ? 'EINVAL' : '';
  if (hwpt.kind === 'hwpt-paging') return hwpt.dirty && !device.tracksDirty ? 'EINVAL' : '';
  if (hwpt.iommu !== device.iommu) return 'EINVAL';
  const { base, config } = hwpt;
  const rule = world.isMock ? 'always' : behaviour.nestedAttachNeedsVdevice;
  const needsVdevice = rule === 'always' || (rule === 'translating' && config === 'stage1');
  return base.kind === 'viommu' && needsVdevice && device.virtual?.viommu !== base ? 'ENOENT' : '';
}

export interface Attaching {
  readonly expected: ErrnoName | '';
  /** Null: a new automatic domain. */
  readonly hwpt: Hwpt | null;
}

/** Attaches `device` to what `pt` is, or replaces what it is attached to: the answer, and the HWPT that is found. */
export function attaching(world: World, device: Device, pt: Thing | null, pasid: number, replace: boolean): Attaching {
  const refuse = (expected: ErrnoName): Attaching => ({ expected, hwpt: null });
  if (!pt) return refuse('ENOENT');
  const present = device.group.attachments.get(pasid);
  const isAttached = present?.devices.has(device) ?? false;
  const one = (hwpt: Hwpt): ErrnoName | '' => {
    if (replace !== isAttached) return replace ? 'EINVAL' : 'EBUSY';
    if (replace && hwpt === present!.hwpt) return '';
    // Where the group is attached already, another of its devices can only join.
    if (!replace && present && hwpt !== present.hwpt) return 'EINVAL';
    const { ioas } = pagingOf(hwpt);
    const moves = pasid === 0 && !(replace && pagingOf(present!.hwpt).ioas === ioas);
    const refused = moves && reservable(ioas, device.reserves);
    return refused || (!replace && present ? '' : suits(world, device, hwpt, pasid));
  };
  if (pt.kind === 'hwpt-paging' || pt.kind === 'hwpt-nested') return { expected: one(pt), hwpt: pt };
  if (pt.kind !== 'ioas') return refuse('EINVAL');
  for (const hwpt of pt.context.hwptsOf(pt).filter(({ auto }) => auto)) {
    const expected = one(hwpt);
    if (expected !== 'EINVAL') return { expected, hwpt };
  }
  const geometry = geometryOf(world);
  const fresh = { kind: 'hwpt-paging', ioas: pt, pasid: false, dirty: false, fault: null as Paging['fault'] } as Paging;
  const attach = (): ErrnoName | '' => one(fresh);
  const fill = (): ErrnoName | '' => fillable(world, pt, geometry);
  return { expected: replace ? fill() || attach() : attach() || fill(), hwpt: null };
}

/** The model after it. @returns the HWPT */
export function attached(world: World, device: Device, pt: Thing, pasid: number, { hwpt }: Attaching): Hwpt {
  const { context, group } = device;
  const present = group.attachments.get(pasid);
  let next = hwpt;
  if (!next) {
    const geometry = geometryOf(world);
    const ioas = pt as Ioas;
    const made: Paging = {
      kind: 'hwpt-paging',
      id: context.freeId(),
      context,
      ioas,
      nestParent: false,
      dirty: false,
      pasid: false,
      fault: null,
      auto: true,
      dirtied: new Set(),
      unsure: new Set(),
      tracking: false,
      ...geometry,
    };
    reserveFor(ioas, made, outside(geometry.aperture));
    next = context.add(made);
  }
  const { ioas } = pagingOf(next);
  if (!present?.devices.has(device)) {
    if (present) present.devices.add(device);
    else group.attachments.set(pasid, { hwpt: next, devices: new Set([device]), spokesman: device });
    if (pasid === 0) reserveFor(ioas, device, device.reserves);
    return next;
  }
  const old = present.hwpt;
  if (old === next) return next;
  if (pasid === 0 && pagingOf(old).ioas !== ioas) {
    for (const each of present.devices) {
      world.unreserve(each, old);
      reserveFor(ioas, each, each.reserves);
    }
  }
  world.abandon(present);
  present.hwpt = next;
  present.spokesman = device;
  world.put(old);
  return next;
}
