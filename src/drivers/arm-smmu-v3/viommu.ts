/** The driver's half of a vIOMMU: a slice of one SMMU with a VMID, and the virtual StreamIDs in it. */
import { fail } from '../../abi/errno.ts';
import { IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 } from '../../abi/iommufd.ts';
import { EVENT, EVENT_BYTES } from '../../hardware/smmuv3/spec/events.ts';
import { put } from '../../hardware/smmuv3/spec/field.ts';
import { mayFail } from '../failure-points.ts';
import type {
  DriverDevice,
  DriverViommu,
  EventSink,
  InvalidateResult,
  UserData,
  UserDataArray,
} from '../iommu-driver.ts';
import { issueGuestCommands } from './guest-commands.ts';
import { NestedDomain, readGuestSte } from './nested-domain.ts';
import type { PagingDomain } from './paging-domain.ts';
import type { Tag } from './tag.ts';
import type { Unit } from './unit.ts';

export class Viommu implements DriverViommu {
  readonly parent: PagingDomain;
  readonly unit: Unit;
  readonly tag: Tag;
  readonly eventTypes: readonly number[];
  onEvent: EventSink | null;
  private readonly devices: Map<bigint, DriverDevice>;

  /** ENOSPC when the SMMU has no VMID left. */
  constructor(unit: Unit, parent: PagingDomain, eventTypes: readonly number[] = [IOMMU_VEVENTQ_TYPE_ARM_SMMUV3]) {
    mayFail('a vIOMMU');
    this.unit = unit;
    this.parent = parent;
    this.eventTypes = eventTypes;
    this.onEvent = null;
    this.devices = new Map();
    this.tag = parent.viommuTag(unit);
    unit.counts.viommus++;
  }

  allocNested(flags: number, data: UserData): NestedDomain {
    if (flags) throw fail('EOPNOTSUPP', `nested HWPT flags are 0x${flags.toString(16)}, expected 0`);
    return new NestedDomain(this.unit, this.parent, readGuestSte(data), this);
  }

  invalidate(commands: UserDataArray): InvalidateResult {
    const streamOf = (virtual: number): number => this.devices.get(BigInt(virtual))?.streamId ?? -1;
    return issueGuestCommands(this.unit.queue, this.tag.vmid, streamOf, commands);
  }

  setVirtualDevice(device: DriverDevice, virtualId: bigint): void {
    if (device.driver.name !== this.unit.name) {
      throw new Error(`stream ${device.streamId} of ${device.driver.name} is not behind ${this.unit.name}`);
    }
    this.devices.set(virtualId, device);
  }

  /** Events of the device stop at once, even while it stays attached. */
  unsetVirtualDevice(device: DriverDevice, virtualId: bigint): void {
    if (this.devices.get(virtualId) === device) this.devices.delete(virtualId);
  }

  /** vSID of a device, or null when it has no vDEVICE here. */
  virtualIdOf(device: DriverDevice): bigint | null {
    for (const [virtualId, one] of this.devices) if (one === device) return virtualId;
    return null;
  }

  /** Passes an event record on, under the name that the guest knows the device by. */
  report(virtualId: bigint, event: Uint32Array): void {
    const record = event.slice();
    put(record, 0, EVENT.StreamID, Number(virtualId & 0xffffffffn));
    this.onEvent?.(IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, new Uint8Array(record.buffer, 0, EVENT_BYTES));
  }

  free(): void {
    this.parent.releaseTag(this.tag);
    this.unit.counts.viommus--;
  }
}
