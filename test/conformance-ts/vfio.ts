/** What cases of VFIO begin with: devices that are attached, or opened through a group, and what they show of themselves. */
import type { Iommufd, VfioDevice, VfioGroup } from '../../src/client/index.ts';
import type { Need } from './program.ts';
import { ALLOC_PASID, IOVA, type Setting } from './setting.ts';
import { bound, CopyEngine } from './smmu.ts';

export const SMMU: readonly Need[] = ['smmuv3'];
export const GROUPS: readonly Need[] = ['smmuv3', 'groups'];

/** Where regions begin in a device's file. */
export const CONFIG = 7n << 40n;
export const regionAt = (index: number): bigint => BigInt(index) << 40n;

export const COMMAND = CONFIG + 4n;
export const MEMORY_AND_MASTER = Uint8Array.of(6, 0);
/** Of the setting's memory. */
export const MEMORY_BYTES = 0x10_0000n;

export const CLOSED = 123_456;

export const u32s = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
export const u64s = (...values: bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(values).buffer);
export const u32At = (bytes: Uint8Array, at = 0): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

export interface AttachedDevice {
  readonly vfio: VfioDevice;
  readonly devId: number;
  readonly ioasId: number;
  readonly engine: CopyEngine;
}

/** vfioN, a copy engine, attached to an IOAS with the setting's memory at IOVA. */
export async function attached(t: Setting, index = 0): Promise<AttachedDevice> {
  const { vfio, devId } = await bound(t, index);
  const ioasId = await t.ioas();
  await t.map(ioasId, IOVA, MEMORY_BYTES);
  await vfio.attachIommufdPt({ ptId: ioasId });
  return { vfio, devId, ioasId, engine: new CopyEngine(t, vfio) };
}

/** A device that touches what it is told to: vfio2, vfio3 and vfio4 are. */
export class Probe {
  readonly vfio: VfioDevice;
  readonly devId: number;

  constructor(vfio: VfioDevice, devId: number) {
    this.vfio = vfio;
    this.devId = devId;
  }

  static async bound(t: Setting, index: number): Promise<Probe> {
    const { vfio, devId } = await bound(t, index);
    return new Probe(vfio, devId);
  }

  /** @returns whether it can read 16 bytes there */
  async reaches(iova: bigint, pasid?: number): Promise<boolean> {
    const { vfio } = this;
    await vfio.write(MEMORY_AND_MASTER, COMMAND);
    await vfio.write(u64s(iova), 0x08n);
    await vfio.write(u32s(pasid === undefined ? 0 : (0x8000_0000 | pasid) >>> 0, 16, 1), 0x10n);
    return u32At(await vfio.read(4, 0x1cn)) === 1;
  }

  /** Makes a register, which a reset clears, hold something, or tells whether it does. */
  async mark(): Promise<void> {
    await this.vfio.write(u64s(0x1234n), 0x08n);
  }

  async isMarked(): Promise<boolean> {
    return u32At(await this.vfio.read(4, 0x08n)) === 0x1234;
  }
}

/** A HWPT that goes with PASIDs, of an IOAS with the setting's memory at IOVA. */
export async function pasidHwpt(t: Setting, devId: number): Promise<number> {
  const ioasId = await t.ioas();
  await t.map(ioasId, IOVA, MEMORY_BYTES);
  return t.hwpt(devId, ioasId, ALLOC_PASID);
}

export interface Contained {
  readonly container: Iommufd;
  readonly group: VfioGroup;
}

/** A group and its container. */
export async function contained(t: Setting, number = 0, container = t.container()): Promise<Contained> {
  const group = t.group(number);
  await group.setContainer(container.fd);
  return { container, group };
}

export const nameOf = (index: number): string => (index < 2 ? `0000:0${index + 1}:00.0` : `0000:03:00.${index - 2}`);

/** vfioN through its group. */
export async function inGroup(t: Setting, group: VfioGroup, index = 0): Promise<VfioDevice> {
  return t.file(await group.device(nameOf(index)));
}
