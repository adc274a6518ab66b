/** The rules of attaching: which domain an IOAS gives, what a new one needs, what reservations and PASIDs forbid. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import { alignmentOf, outside, pagesOf, realign, reservable } from './mapping-rules.ts';
import { type Device, type Hwpt, type Ioas, PAGE, type Paging, pagingOf, type Span, type Thing } from './model.ts';
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

/** What attaching to one HWPT is answered, reservations aside. */
function suits(world: World, device: Device, hwpt: Hwpt, pasid: number): ErrnoName | '' {
  const besides = [...device.attached].filter(([other]) => (other === 0) !== (pasid === 0)).map(([, other]) => other);
  const compatible = hwpt.pasid && (pasid === 0 || besides.every((other) => other.pasid));
  if ((pasid !== 0 || besides.length) && !compatible) return 'EINVAL';
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
  const old = device.attached.get(pasid);
  const one = (hwpt: Hwpt): ErrnoName | '' => {
    if (replace && !old) return 'EINVAL';
    if (replace && hwpt === old) return '';
    if (!replace && old) return 'EBUSY';
    const { ioas } = pagingOf(hwpt);
    const moves = pasid === 0 && !(old && pagingOf(old).ioas === ioas);
    return (moves && reservable(ioas, device.reserves)) || suits(world, device, hwpt, pasid);
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
  const { context } = device;
  const old = device.attached.get(pasid);
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
      tracking: false,
      ...geometry,
    };
    reserveFor(ioas, made, outside(geometry.aperture));
    next = context.add(made);
  }
  if (old === next) return next;
  device.attached.set(pasid, next);
  const { ioas } = pagingOf(next);
  if (pasid === 0 && !(old && pagingOf(old).ioas === ioas)) {
    if (old) world.unreserve(device, old);
    reserveFor(ioas, device, device.reserves);
  }
  if (old) world.leave(device, old, pasid);
  return next;
}
