/**
 * Devices whose group is in VFIO's own container. A kernel's attaches a group as it comes in; here, as in iommufd's
 * compatibility mode, a device is attached when it is opened. Programs ask for the usable IOVAs before they open anything
 * (QEMU's nvme:// driver, libvfn), so what will limit them is told from the start.
 */
import type { DriverDevice } from '../../drivers/iommu-driver.ts';
import type { IoPageTable } from '../io-pagetable.ts';
import { holes, merge, type Span } from '../spans.ts';
import { U64_MAX } from '../u64.ts';

export interface IovaLimits {
  /** Bit n set: leaves of 2^n bytes exist. */
  readonly pageSizes: bigint;
  readonly usable: readonly Span[];
}

/** Of `table` as it is now, and as it will be with `devices` attached. ENOMEM when no domain can be had to look at. */
export function iovaLimits(table: IoPageTable, devices: Iterable<DriverDevice>): IovaLimits {
  let pageSizes = table.commonPageSizes;
  const reserved: Span[] = [];
  for (const device of devices) {
    const domain = device.allocPaging(0, null);
    const { start, last } = domain.aperture;
    pageSizes &= domain.pageSizes;
    domain.free();
    if (start !== 0n) reserved.push({ start: 0n, last: start - 1n });
    if (last !== U64_MAX) reserved.push({ start: last + 1n, last: U64_MAX });
    reserved.push(...device.reservedRegions().filter(({ type }) => type !== 'direct-relaxable'));
  }
  const merged = merge(reserved);
  return { pageSizes, usable: table.usableRanges().flatMap(({ start, last }) => [...holes(merged, start, last)]) };
}
