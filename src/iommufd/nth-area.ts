/** The test driver's way to name an IOVA, for fuzzers: the number of an area in the low half, an offset in the high one. */
import type { Area } from './area.ts';

/** 0 when there is no such area. */
export function nthArea(areas: Iterable<Area>, iova: bigint): bigint {
  let nth = Number(iova & 0xffff_ffffn);
  for (const area of areas) if (nth-- === 0) return area.start + (iova >> 32n);
  return 0n;
}
