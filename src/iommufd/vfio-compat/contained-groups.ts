/**
 * Groups that are in VFIO's own container. A kernel's attaches a group as it comes in; here, as in iommufd's compatibility
 * mode, a device is attached when it is opened. But what it cannot use of the IOVAs is told from the start, to programs
 * that ask before they open anything (QEMU's nvme:// driver, libvfn), and refused to those that do not ask.
 */
import { Errno, fail } from '../../abi/errno.ts';
import type { DriverDevice } from '../../drivers/iommu-driver.ts';
import type { IommufdContext } from '../context.ts';
import type { IommuGroup } from '../group.ts';
import type { Span } from '../spans.ts';
import { U64_MAX } from '../u64.ts';
import { compatIoas } from './compat-ioas.ts';

/** EINVAL when something is mapped where one of its devices cannot have it; ENOMEM when no domain can be had to look at. */
export function addGroup(context: IommufdContext, group: IommuGroup): void {
  if (!context.isContainer) return;
  const { table } = compatIoas(context);
  try {
    for (const device of group.members) {
      for (const { start, last } of unusable(device)) table.reserve(start, last, group);
    }
  } catch (error) {
    table.unreserve(group);
    throw error instanceof Errno && error.code === 'EADDRINUSE' ? fail('EINVAL', error.reason) : error;
  }
  context.containedGroups.set(group, table);
}

export function removeGroup({ containedGroups }: IommufdContext, group: IommuGroup): void {
  containedGroups.get(group)?.unreserve(group);
  containedGroups.delete(group);
}

/** Bit n set: all devices, open or not, have leaves of 2^n bytes. */
export function commonPageSizes(context: IommufdContext): bigint {
  const devices = [...context.containedGroups.keys()].flatMap(({ members }) => members);
  return devices.reduce(
    (sizes, device) => sizes & limitsOf(device).pageSizes,
    compatIoas(context).table.commonPageSizes,
  );
}

function unusable(device: DriverDevice): Span[] {
  const { start, last } = limitsOf(device).aperture;
  return [
    ...(start === 0n ? [] : [{ start: 0n, last: start - 1n }]),
    ...(last === U64_MAX ? [] : [{ start: last + 1n, last: U64_MAX }]),
    ...device.reservedRegions().filter(({ type }) => type !== 'direct-relaxable'),
  ];
}

/** What a domain for the device would be like. */
function limitsOf(device: DriverDevice): { readonly pageSizes: bigint; readonly aperture: Span } {
  const domain = device.allocPaging(0, null);
  const { pageSizes, aperture } = domain;
  domain.free();
  return { pageSizes, aperture };
}
