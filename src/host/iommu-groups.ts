/**
 * Which functions no IOMMU can tell apart (IOMMU groups). Each root port isolates its bus. On one device, functions
 * without ACS may reach each other without passing the IOMMU, so these are one group.
 */
import type { FunctionDescription } from './machine-description.ts';

type Place = Pick<FunctionDescription, 'bdf' | 'acs'>;

/** Segment, bus and device: '0000:01:00' */
const deviceOf = ({ bdf }: Place): string => bdf.slice(0, bdf.lastIndexOf('.'));

/** Whether `fn` is one of several functions of its device. */
export const isMultifunction = (fn: Place, functions: readonly Place[]): boolean =>
  functions.some((other) => other !== fn && deviceOf(other) === deviceOf(fn));

export const sharesGroup = (one: Place, other: Place): boolean =>
  one === other || (deviceOf(one) === deviceOf(other) && !one.acs && !other.acs);

/** The number of each function's group. A group has its place in the row where its first function has. */
export function groupNumbers(functions: readonly Place[]): number[] {
  const leaders = functions.map((fn) => functions.findIndex((other) => sharesGroup(other, fn)));
  const groups = [...new Set(leaders)];
  return leaders.map((leader) => groups.indexOf(leader));
}
