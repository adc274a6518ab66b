/** A function of the host that the guest has: its VFIO file, what the guest does with it, what it is attached to. */
import { HwInfo, HwInfoArmSmmuv3, IOMMU_GET_HW_INFO, IOMMU_HW_INFO_TYPE_ARM_SMMUV3 } from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';
import {
  CAP_PM,
  CAPABILITY_POINTER,
  COMMAND,
  COMMAND_MEMORY,
  PMCSR_POWER_STATE,
  POWER_D3HOT,
} from '../hardware/pci/spec/config-space.ts';
import { type Client, Refused } from './client.ts';
import type { Faults } from './faults.ts';
import type { GuestFunction } from './guest/function.ts';

const REGION_SHIFT = 40n;
const CONFIG = BigInt(vfio.VFIO_PCI_CONFIG_REGION_INDEX) << REGION_SHIFT;
/** What a guest reads where nothing answers. */
const NOBODY = 0xffff_ffff;
const ATTACH_BYTES = 12;
const DETACH_BYTES = 8;
const BIND_BYTES = 16;

/** COMMAND is the lower half of its word; the upper one is write-1-to-clear. */
const word = (value: number): Uint8Array<ArrayBuffer> => new Uint8Array(Uint32Array.of(value).buffer);

export class Passthrough implements GuestFunction {
  readonly fd: number;
  readonly devId: number;
  sid: number;
  /** IDR0 to IDR5 of the SMMU that it is behind. */
  readonly idr: readonly number[];
  /** What it is attached to; null: its DMA is blocked. */
  attached: number | null;
  private readonly client: Client;
  private readonly faults: Faults;
  private readonly powerControl: number;
  /** COMMAND, as the guest has written it. */
  private command: number;
  private powerState: number;
  private readonly barMappings: bigint[];

  private constructor(client: Client, fd: number, devId: number, idr: readonly number[], sid: number, faults: Faults) {
    this.client = client;
    this.fd = fd;
    this.devId = devId;
    this.idr = idr;
    this.sid = sid;
    this.faults = faults;
    this.attached = null;
    this.powerControl = this.findPowerControl();
    this.command = this.readConfig(COMMAND) & 0xffff;
    this.powerState = 0;
    this.barMappings = [];
  }

  /** Opens a device of the host and binds it. */
  static open(client: Client, iommufd: number, path: string, sid: number, faults: Faults): Passthrough {
    const fd = client.open(path);
    const bind = { argsz: BIND_BYTES, iommufd };
    const { outDevid } = client.ioctl(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, bind);
    return new Passthrough(client, fd, outDevid, hostIdentity(client, iommufd, outDevid), sid, faults);
  }

  attach(ptId: number): void {
    const values = { argsz: ATTACH_BYTES, ptId };
    this.client.ioctl(this.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, values);
    this.attached = ptId;
  }

  detach(): void {
    const values = { argsz: DETACH_BYTES };
    this.client.ioctl(this.fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt, values);
    this.attached = null;
  }

  reset(): void {
    this.client.bare(this.fd, vfio.VFIO_DEVICE_RESET, 'VFIO_DEVICE_RESET');
    this.setCommand(0);
    this.powerState = 0;
  }

  /** Has `handler` called when the function asserts its pin, until acknowledgePin(). */
  async connectPin(handler: () => void): Promise<void> {
    const fd = this.client.process.makeEventFd(handler);
    const flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER;
    const values = { flags, index: vfio.VFIO_PCI_INTX_IRQ_INDEX, count: 1 };
    await this.client.ioctlLater(this.fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values, word(fd));
  }

  /** The guest has served the interrupt: the next one may come. */
  acknowledgePin(): void {
    const flags = vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_UNMASK;
    const values = { flags, index: vfio.VFIO_PCI_INTX_IRQ_INDEX, count: 1 };
    this.client.ioctl(this.fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values);
  }

  /** Maps the first `length` bytes of BAR0 into the process. @returns their address there */
  mapBar(length: number): bigint {
    const address = this.client.process.mapRegisters(this.fd, length, 0n);
    this.barMappings.push(address);
    return address;
  }

  /** The first `length` bytes of BAR0 behind a descriptor, for DMA of others. */
  exportBar(length: number): Promise<number> {
    const range = new vfio.RegionDmaRange();
    Object.assign(range, { offset: 0n, length: BigInt(length) });
    const what = new vfio.FeatureDmaBuf();
    Object.assign(what, { regionIndex: vfio.VFIO_PCI_BAR0_REGION_INDEX, nrRanges: 1 });
    const tail = new Uint8Array([...what.bytes, ...range.bytes]);
    const flags = vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF;
    return this.client.ioctlForDescriptor(this.fd, vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, { flags }, tail);
  }

  close(): void {
    for (const address of this.barMappings) this.client.process.unmapRegisters(address);
    this.client.close(this.fd);
  }

  readBar(offset: number): number {
    return this.answers ? this.load(BigInt(offset)) : NOBODY;
  }

  writeBar(offset: number, value: number): void {
    if (this.answers) this.client.write(this.fd, word(value), BigInt(offset));
  }

  readConfig(offset: number): number {
    return this.load(CONFIG + BigInt(offset));
  }

  setCommand(value: number): void {
    this.client.write(this.fd, word(value).subarray(0, 2), CONFIG + BigInt(COMMAND));
    this.command = value;
  }

  setPowerState(state: number): void {
    this.client.write(this.fd, word(state).subarray(0, 2), CONFIG + BigInt(this.powerControl));
    this.powerState = state & PMCSR_POWER_STATE;
  }

  /** Accesses to BARs reach the function. Where they do not, the host says EIO, or kills who has the BAR mapped. */
  private get answers(): boolean {
    if (this.faults.openBarsAlways) return true;
    return this.powerState < POWER_D3HOT && (this.command & COMMAND_MEMORY) !== 0;
  }

  private load(position: bigint): number {
    return new DataView(this.client.read(this.fd, 4, position).buffer).getUint32(0, true);
  }

  private findPowerControl(): number {
    for (let at = this.readConfig(CAPABILITY_POINTER) & 0xfc; at !== 0; ) {
      const header = this.readConfig(at);
      if ((header & 0xff) === CAP_PM) return at + 4;
      at = (header >>> 8) & 0xfc;
    }
    throw new Error(`the function at StreamID ${this.sid} has no power management capability`);
  }
}

function hostIdentity(client: Client, iommufd: number, devId: number): readonly number[] {
  const dataUptr = client.put(new Uint8Array(HwInfoArmSmmuv3.size));
  const values = { devId, dataLen: HwInfoArmSmmuv3.size, dataUptr };
  const { outDataType } = client.ioctl(iommufd, IOMMU_GET_HW_INFO, HwInfo, values);
  if (outDataType !== IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
    throw new Refused('EOPNOTSUPP', 'iommu_hw_info', `type ${outDataType} is no SMMUv3 that nests`);
  }
  return new HwInfoArmSmmuv3(client.data(HwInfoArmSmmuv3.size)).idr;
}
