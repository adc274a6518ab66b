/** Dirty tracking: switched, fed by tests where no device writes, and read; what is reported is what was written. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import { type Command, caller, hex } from './command.ts';
import { lengthOf, pagesIn } from './mapping-rules.ts';
import { type Area, PAGE, type Paging } from './model.ts';
import type { Picker } from './picker.ts';
import type { World } from './world.ts';

const BLOCK = 2n ** 21n;

/** Do whole pages of it start and end it? */
export const isWhole = ({ start, last }: Area): boolean => (start | (last + 1n)) % PAGE === 0n;

/** Could one leaf have both pages? Hardware has pages and blocks, the mock table every power of two. */
function mayShare({ start, last }: Area, a: bigint, b: bigint, isMock: boolean): boolean {
  let size = isMock ? PAGE : BLOCK;
  while (a / size !== b / size) size *= 2n;
  const first = a - (a % size);
  return (isMock || size === BLOCK) && first >= start && first + size - 1n <= last;
}

/**
 * Which pages of the area are reported, against those that were written: all of these, and beside them only what has a
 * leaf in common with one. The mock table leaves the second MiB of a leaf of two out, as the kernel's does.
 */
export function checkReported(
  world: World,
  { dirtied, ioas }: Paging,
  area: Area,
  reported: ReadonlySet<bigint>,
): void {
  const { start } = area;
  const written = [...dirtied].filter((page) => page >= start && page <= area.last);
  const isLeftOut = (page: bigint): boolean => world.isMock && lengthOf(area) >= BLOCK && page % BLOCK >= BLOCK / 2n;
  for (const page of written) {
    if (!reported.has(page) && !isLeftOut(page)) throw new Error(`${hex(page)} was written and is not reported`);
  }
  for (const page of reported) {
    if (dirtied.has(page)) continue;
    const explained = ioas.huge && written.some((other) => mayShare(area, page, other, world.isMock));
    if (!explained) throw new Error(`${hex(page)} is reported and was not written`);
  }
}

/** A domain that tracks, seldom one that does not, and an area of whole pages that it translates. */
function tracked(world: World, pick: Picker) {
  const by = world.speaks('IOMMU_HWPT_GET_DIRTY_BITMAP') ? caller(world, pick) : null;
  const all = by?.context.all('hwpt-paging') ?? [];
  const hwpt = pick.of(pick.oneIn(6) ? all : all.filter(({ dirty }) => dirty));
  const area = hwpt && pick.of(hwpt.ioas.areas.filter(isWhole));
  return by && hwpt ? { ...by, hwpt, area } : null;
}

export const setDirtyTracking: Command = (world, pick) => {
  const found = tracked(world, pick);
  if (!found) return null;
  const { context, process, hwpt } = found;
  const flags = pick.oneIn(4) ? 0 : 1;
  return {
    text: `HWPT_SET_DIRTY_TRACKING ${flags} of HWPT ${hwpt.id}`,
    expected: hwpt.dirty ? '' : 'EOPNOTSUPP',
    undone: true,
    call: async () => {
      const { IOMMU_HWPT_SET_DIRTY_TRACKING: number, HwptSetDirtyTracking: layout } = uapi;
      return (await world.ioctl(process, context.engine, number, layout, { flags, hwptId: hwpt.id })).errno;
    },
    apply: () => {
      hwpt.tracking = flags === 1;
      if (flags) hwpt.dirtied.clear();
    },
  };
};

/** Areas of whole pages from `area` on, each directly behind the one before it. */
function runFrom({ ioas }: Paging, area: Area): Area[] {
  const run = [area];
  for (const next of ioas.areas) if (next.start === run.at(-1)!.last + 1n && isWhole(next)) run.push(next);
  return run;
}

export const getDirtyBitmap: Command = (world, pick) => {
  const found = tracked(world, pick);
  if (!found?.area) return null;
  const { context, process, hwpt } = found;
  const keep = pick.oneIn(3);
  const runs = hwpt.ioas.areas.filter(isWhole).map((area) => runFrom(hwpt, area));
  const long = runs.filter(({ length }) => length > 1);
  const run = (pick.oneIn(3) ? undefined : pick.of(long)) ?? runFrom(hwpt, found.area);
  const pages = run.flatMap((each) => [...pagesIn(each)]);
  let bitmap: Uint8Array = new Uint8Array(0);
  return {
    text: `HWPT_GET_DIRTY_BITMAP of HWPT ${hwpt.id} at ${hex(run[0]!.start)}${keep ? ', NO_CLEAR' : ''}`,
    expected: hwpt.dirty ? '' : 'EOPNOTSUPP',
    counts: run.length > 1 ? ['bitmap of areas in a row'] : [],
    undone: true,
    call: async () => {
      const { IOMMU_HWPT_GET_DIRTY_BITMAP: number, HwptGetDirtyBitmap: layout } = uapi;
      const range = { iova: run[0]!.start, length: BigInt(pages.length) * PAGE, pageSize: PAGE };
      const flags = keep ? uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR : 0;
      const data = process.put(new Uint8Array(Math.ceil(pages.length / 8)));
      const values = { hwptId: hwpt.id, flags, ...range, data };
      const { errno } = await world.ioctl(process, context.engine, number, layout, values);
      bitmap = process.get(Math.ceil(pages.length / 8));
      return errno;
    },
    apply: () => {
      const reported = pages.filter((_, n) => bitmap[n >> 3]! & (1 << (n & 7)));
      for (const each of run) {
        const inside = reported.filter((page) => page >= each.start && page <= each.last);
        checkReported(world, hwpt, each, new Set(inside));
      }
      if (!keep) for (const page of pages) hwpt.dirtied.delete(page);
    },
  };
};

/** Writes of a mock device. */
export const mockDirty: Command = (world, pick) => {
  const found = world.isMock ? tracked(world, pick) : null;
  if (!found?.area) return null;
  const { context, process, hwpt, area } = found;
  const chosen = 1 + pick.below(255);
  const skip = BigInt(pick.below(4)) * 16n * PAGE;
  const start = area.start + (skip < lengthOf(area) ? skip : 0n);
  const near = [...pagesIn({ start, last: area.last })].slice(0, 8);
  const bits = chosen & (2 ** near.length - 1);
  const length = BigInt(near.length) * PAGE;
  const expected: ErrnoName | '' = hwpt.tracking ? '' : 'EINVAL';
  return {
    text: `DIRTY ${hex(bits)} of HWPT ${hwpt.id} at ${hex(start)}`,
    expected,
    call: async () => {
      const { IOMMU_TEST_OP_DIRTY: op, TestDirty: layout } = test;
      const uptr = process.put(Uint8Array.of(bits));
      return (await world.test(process, context, op, hwpt.id, layout, { iova: start, length, pageSize: PAGE, uptr }))
        .errno;
    },
    apply: () => {
      if (area.memory.revoked) return;
      for (const [n, page] of near.entries()) if (bits & (1 << n)) hwpt.dirtied.add(page);
    },
  };
};
