/** Dirty tracking: switched, fed by tests where no device writes, and read; what is reported is what was written. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import { type Command, caller, hex } from './command.ts';
import { lengthOf, max, min, overlap, pagesIn } from './mapping-rules.ts';
import { type Area, PAGE, type Paging, type Span } from './model.ts';
import type { Picker } from './picker.ts';
import { dirty } from './reach.ts';
import type { World } from './world.ts';

const BLOCK = 2n ** 21n;
/** Bytes behind a bitmap that are looked at. */
const BEYOND = 8;

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
 * Which pages of the area are reported of [start, last], against those that were written: all of these, and beside them
 * only what has a leaf in common with one. The mock table leaves the second MiB of a leaf of two out, as the kernel's does.
 */
export function checkReported(
  world: World,
  { dirtied, unsure, ioas }: Paging,
  area: Area,
  reported: ReadonlySet<bigint>,
  { start, last }: Span,
): void {
  const written = [...dirtied, ...unsure].filter((page) => page >= area.start && page <= area.last);
  const isLeftOut = (page: bigint): boolean => world.isMock && lengthOf(area) >= BLOCK && page % BLOCK >= BLOCK / 2n;
  for (const page of dirtied) {
    if (page < start || page > last || reported.has(page) || isLeftOut(page)) continue;
    throw new Error(`${hex(page)} was written and is not reported`);
  }
  for (const page of reported) {
    if (page < start || page > last) throw new Error(`${hex(page)} is reported and was not asked for`);
    if (dirtied.has(page) || unsure.has(page)) continue;
    const explained = ioas.huge && written.some((other) => mayShare(area, page, other, world.isMock));
    if (!explained) throw new Error(`${hex(page)} is reported and was not written`);
  }
}

/** The model after the bitmap of [start, last] of the area was read and cleared: leaves that it cuts may be all clean. */
function cleaned(world: World, { dirtied, unsure, ioas }: Paging, area: Area, { start, last }: Span): void {
  for (const page of [...dirtied, ...unsure]) {
    if (page < area.start || page > area.last) continue;
    const nearest = page < start ? start : page > last ? last - (last % PAGE) : page;
    if (nearest !== page && !(ioas.huge && mayShare(area, page, nearest, world.isMock))) continue;
    dirtied.delete(page);
    if (nearest !== page) unsure.add(page);
    else unsure.delete(page);
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
  const { dirtied, unsure, ioas } = hwpt;
  // What was written before counts for nothing. An SMMU's table is read only as far as it goes.
  const hole = world.isMock ? undefined : ioas.areas.find(({ memory }) => memory.revoked);
  const clean = (): void => {
    if (!flags || !hwpt.dirty) return;
    for (const pages of [dirtied, unsure]) for (const page of pages) if (!hole || page < hole.start) pages.delete(page);
  };
  return {
    text: `HWPT_SET_DIRTY_TRACKING ${flags} of HWPT ${hwpt.id}`,
    expected: !hwpt.dirty ? 'EOPNOTSUPP' : flags && hole ? 'EINVAL' : '',
    undone: true,
    call: async () => {
      const { IOMMU_HWPT_SET_DIRTY_TRACKING: number, HwptSetDirtyTracking: layout } = uapi;
      return (await world.ioctl(process, context.engine, number, layout, { flags, hwptId: hwpt.id })).errno;
    },
    apply: () => {
      hwpt.tracking = flags === 1;
      clean();
    },
    refused: clean,
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
  const holed = long.filter((each) => each.some(({ memory }) => memory.revoked));
  const run = pick.of(pick.from([holed, long, []])) ?? runFrom(hwpt, found.area);
  const { start, pages } = cutOf(world, run, pick);
  const last = start + BigInt(pages) * PAGE - 1n;
  // An SMMU's table is read as far as it goes, and nobody is told.
  const asked = run.filter((area) => overlap(area, { start, last }));
  const hole = asked.findIndex(({ memory }) => !world.isMock && memory.revoked);
  const visited = asked.slice(0, hole < 0 ? asked.length : hole);
  const isCut = start !== run[0]!.start || last !== run.at(-1)!.last;
  const within = (area: Area): Span => ({ start: max(area.start, start), last: min(area.last, last) });
  let bitmap: Uint8Array = new Uint8Array(0);
  return {
    text: `HWPT_GET_DIRTY_BITMAP of HWPT ${hwpt.id}, ${pages} pages at ${hex(start)}${keep ? ', NO_CLEAR' : ''}`,
    expected: hwpt.dirty ? '' : 'EOPNOTSUPP',
    counts: [...(run.length > 1 ? ['bitmap of areas in a row'] : []), ...(isCut ? ['bitmap of parts of areas'] : [])],
    undone: true,
    call: async () => {
      const { IOMMU_HWPT_GET_DIRTY_BITMAP: number, HwptGetDirtyBitmap: layout } = uapi;
      const range = { iova: start, length: BigInt(pages) * PAGE, pageSize: PAGE };
      const flags = keep ? uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR : 0;
      const data = process.put(new Uint8Array(Math.ceil(pages / 8) + BEYOND));
      const values = { hwptId: hwpt.id, flags, ...range, data };
      const { errno } = await world.ioctl(process, context.engine, number, layout, values);
      bitmap = process.get(Math.ceil(pages / 8) + BEYOND);
      return errno;
    },
    apply: () => {
      const reported = [...pagesIn({ start, last })].filter((_, n) => bitmap[n >> 3]! & (1 << (n & 7)));
      if (bitmap.some((bits, n) => bits >> Math.min(Math.max(pages - 8 * n, 0), 8)))
        throw new Error('a bit beyond the end');
      const beside = reported.find((page) => !visited.some((area) => page >= area.start && page <= area.last));
      if (beside !== undefined) throw new Error(`${hex(beside)} is reported and not mapped`);
      for (const area of visited) {
        const inside = reported.filter((page) => page >= area.start && page <= area.last);
        checkReported(world, hwpt, area, new Set(inside), within(area));
      }
      if (!keep) for (const area of visited) cleaned(world, hwpt, area, within(area));
    },
  };
};

/** All of a row of areas, or a part that may cut leaves, or a page more than an SMMU has. */
function cutOf(world: World, run: readonly Area[], pick: Picker): { start: bigint; pages: number } {
  const all = Number((run.at(-1)!.last + 1n - run[0]!.start) / PAGE);
  const front = pick.oneIn(2) ? pick.below(Math.min(all, 100)) : 0;
  const back = pick.oneIn(2) ? pick.below(Math.min(all - front, 100)) - (world.isMock ? 0 : 1) : 0;
  return { start: run[0]!.start + BigInt(front) * PAGE, pages: all - front - back };
}

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
      for (const [n, page] of near.entries()) if (bits & (1 << n)) dirty(hwpt, page);
    },
  };
};
