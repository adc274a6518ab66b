/**
 * What a vIOMMU knows a device by: a virtual StreamID, RID or DeviceID. Later dialects have an object for it, the vDEVICE;
 * viommu-v2 sets and unsets it.
 */
import { type ErrnoName, fail } from '../abi/errno.ts';
import { VdeviceAlloc } from '../abi/iommufd.ts';
import { ViommuSetVdevId, ViommuUnsetVdevId } from '../abi/iommufd-viommu-v2.ts';
import { mayFail } from '../drivers/failure-points.ts';
import type { Command } from './command.ts';
import { IommufdDevice } from './device.ts';
import { hex } from './format.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { Viommu } from './viommu.ts';

/** One entry of a vIOMMU's list of devices. */
export class VirtualId {
  readonly viommu: Viommu;
  readonly device: IommufdDevice;
  readonly id: bigint;
  /** The object that stands for it, in the dialects that have one. */
  vdevice: Vdevice | null;

  private constructor(viommu: Viommu, device: IommufdDevice, id: bigint) {
    this.viommu = viommu;
    this.device = device;
    this.id = id;
    this.vdevice = null;
  }

  /** EINVAL when the device is behind another pIOMMU, EEXIST when it has a virtual ID, `taken` when another one has this. */
  static set(viommu: Viommu, device: IommufdDevice, id: bigint, taken: ErrnoName): VirtualId {
    viommu.checkDevice(device);
    const [present] = device.virtualIds;
    if (present && device.context.dialect.behaviour.oneVirtualIdPerDevice) {
      throw fail('EEXIST', `dev_id ${device.id} has the virtual ID ${hex(present.id)} already`);
    }
    const other = viommu.virtualIds.get(id);
    if (other) throw fail(taken, `virtual ID ${hex(id)} of vIOMMU ${viommu.id} names dev_id ${other.device.id}`);
    mayFail('a virtual ID');
    viommu.driver.setVirtualDevice(device.physical, id);
    const virtualId = new VirtualId(viommu, device, id);
    viommu.virtualIds.set(id, virtualId);
    device.virtualIds.add(virtualId);
    return virtualId;
  }

  unset(): void {
    this.viommu.driver.unsetVirtualDevice(this.device.physical, this.id);
    this.viommu.virtualIds.delete(this.id);
    this.device.virtualIds.delete(this);
  }
}

/** vDEVICE. */
export class Vdevice extends IommufdObject {
  private readonly viommu: Viommu;
  /** Null when the device went first. */
  private virtualId: VirtualId | null;

  constructor(virtualId: VirtualId) {
    super();
    this.virtualId = virtualId;
    virtualId.vdevice = this;
    this.viommu = use(virtualId.viommu);
    use(virtualId.device);
  }

  get kind(): 'vdevice' {
    return 'vdevice';
  }

  /** The device is being unbound. The vDEVICE goes with it and leaves its ID taken; before Linux 6.17 it stayed. */
  deviceGoes(): void {
    const { objects, dialect } = this.virtualId!.device.context;
    if (dialect.behaviour.vdeviceTombstone) objects.entomb(this);
    else this.leaveDevice();
  }

  destroy(): void {
    if (this.virtualId) this.leaveDevice();
    unuse(this.viommu);
  }

  private leaveDevice(): void {
    const { device } = this.virtualId!;
    this.virtualId!.unset();
    this.virtualId = null;
    unuse(device);
  }
}

/** IOMMU_VDEVICE_ALLOC */
export function vdeviceAlloc(command: Command): void {
  const { objects } = command.context;
  const c = new VdeviceAlloc(command.bytes);
  const viommu = objects.get(c.viommuId, Viommu, 'viommu_id');
  const device = objects.get(c.devId, IommufdDevice, 'dev_id');
  c.outVdeviceId = command.create(new Vdevice(VirtualId.set(viommu, device, c.virtId, 'EEXIST'))).id;
  command.respond();
}

/** IOMMU_VIOMMU_SET_VDEV_ID */
export function viommuSetVdevId(command: Command): void {
  const { objects } = command.context;
  const c = new ViommuSetVdevId(command.bytes);
  const viommu = objects.get(c.viommuId, Viommu, 'viommu_id');
  VirtualId.set(viommu, objects.get(c.devId, IommufdDevice, 'dev_id'), c.vdevId, 'EBUSY');
}

/** IOMMU_VIOMMU_UNSET_VDEV_ID */
export function viommuUnsetVdevId(command: Command): void {
  const { objects } = command.context;
  const c = new ViommuUnsetVdevId(command.bytes);
  const viommu = objects.get(c.viommuId, Viommu, 'viommu_id');
  const [virtualId] = objects.get(c.devId, IommufdDevice, 'dev_id').virtualIds;
  if (!virtualId) throw fail('ENOENT', `dev_id ${c.devId} has no virtual ID`);
  if (virtualId.viommu !== viommu || virtualId.id !== c.vdevId) {
    const asked = `${hex(c.vdevId)} of vIOMMU ${c.viommuId}`;
    throw fail('EINVAL', `dev_id ${c.devId} is ${hex(virtualId.id)} of vIOMMU ${virtualId.viommu.id}, not ${asked}`);
  }
  virtualId.unset();
}
