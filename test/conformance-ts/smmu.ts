/** Devices behind SMMUv3s, and their copy engine (the machine's is an IOAT), which shows what is translated. */
import { HwptArmSmmuv3, IOMMU_HWPT_DATA_ARM_SMMUV3, IOMMU_VIOMMU_TYPE_ARM_SMMUV3 } from '../../src/abi/iommufd.ts';
import type { VfioDevice } from '../../src/client/index.ts';
import { IOVA, NEST_PARENT, type Setting } from './setting.ts';

/** vfioN, bound. */
export interface BoundDevice {
  readonly vfio: VfioDevice;
  readonly devId: number;
}

export async function bound(t: Setting, index = 0): Promise<BoundDevice> {
  const vfio = t.vfio(index);
  const { outDevid } = await vfio.bindIommufd({ iommufd: t.iommufd.fd });
  return { vfio, devId: outDevid };
}

export interface Slice extends BoundDevice {
  readonly ioasId: number;
  readonly parentId: number;
  readonly viommuId: number;
}

/** A vIOMMU on the SMMU of vfio0. */
export async function slice(t: Setting): Promise<Slice> {
  const device = await bound(t);
  const ioasId = await t.ioas();
  const parentId = await t.hwpt(device.devId, ioasId, NEST_PARENT);
  const type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3;
  const { outViommuId } = await t.iommufd.viommuAlloc({ type, devId: device.devId, hwptId: parentId });
  return { ...device, ioasId, parentId, viommuId: outViommuId };
}

/** What HWPT_ALLOC takes for a guest's STE. */
export function steData(t: Setting, ste: readonly bigint[]): { dataType: number; dataLen: number; dataUptr: bigint } {
  const { bytes } = Object.assign(new HwptArmSmmuv3(), { ste });
  return { dataType: IOMMU_HWPT_DATA_ARM_SMMUV3, dataLen: bytes.length, dataUptr: t.put(bytes) };
}

const CONFIG = 7n << 40n;
const le = (value: bigint, bytes: number): Uint8Array =>
  new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, bytes);

/** Offset of the engine's descriptor in the setting's memory: its last page. */
const DESCRIPTOR = 0xf_f000;

/** Copies by DMA. The setting's memory is at `base` in the IOVAs of the device, unless `descriptor` says where that is. */
export class CopyEngine {
  private readonly t: Setting;
  private readonly vfio: VfioDevice;
  private readonly descriptorIova: bigint;

  constructor(t: Setting, vfio: VfioDevice, descriptorIova = IOVA + BigInt(DESCRIPTOR)) {
    this.t = t;
    this.vfio = vfio;
    this.descriptorIova = descriptorIova;
  }

  /** Has it interrupt when a copy is done that asks for it. */
  async enableInterrupt(): Promise<void> {
    await this.vfio.write(le(0x1n, 1), 0x3n);
  }

  /** Takes its interrupt back, which lowers the pin. */
  async acknowledge(): Promise<void> {
    await this.vfio.read(4, 0x4n);
  }

  /** Copies, and then interrupts once. */
  copyAndInterrupt(): Promise<boolean> {
    return this.copy(IOVA, IOVA + 0x1000n, 16, 1);
  }

  /** @returns whether the device could read and write */
  async copy(source: bigint, destination: bigint, length = 16, control = 0): Promise<boolean> {
    const { vfio, descriptorIova } = this;
    await vfio.write(le(0x6n, 2), CONFIG + 4n);
    await vfio.write(le(0xffff_ffffn, 4), 0xa8n);
    await vfio.write(le(0x20n, 1), 0x84n);
    const words = [BigInt(length) | (BigInt(control) << 32n), source, destination, descriptorIova];
    this.t.memory.bytes.set(new Uint8Array(BigUint64Array.from(words).buffer), DESCRIPTOR);
    await vfio.write(le(descriptorIova, 8), 0x90n);
    await vfio.write(le(0x0009n, 2), 0x80n);
    await vfio.write(le(1n, 2), 0x86n);
    return ((await vfio.read(1, 0x88n))[0]! & 7) === 1;
  }
}

/** Puts text into the setting's memory, or reads it. */
export function text(t: Setting, offset: number, value?: string): string {
  const at = t.memory.bytes.subarray(offset, offset + 16);
  if (value !== undefined) at.fill(0).set(new TextEncoder().encode(value));
  return new TextDecoder().decode(at).replace(/\0+$/, '');
}
