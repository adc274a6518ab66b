/** Sets of addresses as sorted lists of spans that neither overlap nor touch. For the few that an IOAS reserves or allows. */

import { max, min } from './u64.ts';

/** Both bounds inclusive. */
export interface Span {
  readonly start: bigint;
  readonly last: bigint;
}

/** The union of `spans`, in order. */
export function merge(spans: readonly Span[]): Span[] {
  const merged: Array<{ start: bigint; last: bigint }> = [];
  for (const { start, last } of [...spans].sort((a, b) => (a.start < b.start ? -1 : 1))) {
    const previous = merged.at(-1);
    if (!previous || start > previous.last + 1n) merged.push({ start, last });
    else if (last > previous.last) previous.last = last;
  }
  return merged;
}

/** What of [start, last] is in none of `spans` (merged ones), in order. */
export function* holes(spans: readonly Span[], start: bigint, last: bigint): Generator<Span> {
  let from = start;
  for (const span of spans) {
    if (span.start > last) break;
    if (span.start > from) yield { start: from, last: span.start - 1n };
    if (span.last >= from) from = span.last + 1n;
  }
  if (from <= last) yield { start: from, last };
}

/** What of [start, last] is in `spans` (merged ones), in order. */
export function* within(spans: readonly Span[], start: bigint, last: bigint): Generator<Span> {
  for (const span of spans) {
    if (span.last < start) continue;
    if (span.start > last) break;
    yield { start: max(span.start, start), last: min(span.last, last) };
  }
}

export const overlaps = (spans: readonly Span[], start: bigint, last: bigint): boolean =>
  spans.some((span) => span.start <= last && span.last >= start);
