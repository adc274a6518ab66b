/** A program with a fault queue, and a device whose DMA faults are answered through it: by stalls, or by page requests. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { type MachineChoice, testMachine } from './program.ts';
import { type Device, Probe, Vm } from './vm.ts';

export const FAULT_ID_VALID = 4;
export const ALLOC_PASID = 8;

/** Where the program's memory is mapped first; nothing else is. */
export const MAPPED = 0x4000_0000n;
export const MISSING = 0x9000_0000n;

/** IOMMU_PGFAULT_FLAGS_* and PERM_* */
export const LAST = 2;
export const PASID_VALID = 1;
export const READ = 1;
export const WRITE = 2;

export const SUCCESS = 0;
export const INVALID = 1;

/** STATUS of the probe. */
export const DONE = 1;
export const REFUSED = 2;
export const WAITING = 4;

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);

/** How the device's faults come to the host. */
export type Kind = 'stall' | 'pri';

/** One of the probes of the preset, alone. */
export function faultingMachine(kind: Kind, change: MachineChoice['change'] = () => {}) {
  return testMachine({
    preset: 'page-faults',
    change: (machine) => {
      machine.functions = [machine.functions[kind === 'stall' ? 0 : 1]!];
      change(machine);
    },
  });
}

export class FaultProgram {
  readonly vm: Vm;
  readonly device: Device;
  readonly faultId: number;
  readonly faultFd: number;

  private constructor(vm: Vm, device: Device, faultId: number, faultFd: number) {
    this.vm = vm;
    this.device = device;
    this.faultId = faultId;
    this.faultFd = faultFd;
  }

  static async start({ machine }: ReturnType<typeof faultingMachine>): Promise<FaultProgram> {
    const vm = await Vm.start(machine);
    const device = await vm.device(0);
    new Probe(device);
    const queue = await vm.program.ok(vm.iommufd, uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc);
    return new FaultProgram(vm, device, queue.outFaultId, queue.outFaultFd);
  }

  /** An HWPT of the program's IOAS, or of `ioasId`; with the fault queue unless `flags` say otherwise. */
  async hwpt(flags = FAULT_ID_VALID, ioasId = this.vm.ioasId): Promise<number> {
    const { vm, device, faultId } = this;
    const values = { flags, devId: device.id, ptId: ioasId, faultId };
    return (await vm.program.ok(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).outHwptId;
  }

  async ioas(): Promise<number> {
    return (await this.vm.program.ok(this.vm.iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc)).outIoasId;
  }

  attachPasid(pasid: number, ptId: number): Promise<ErrnoName | ''> {
    const { DeviceAttachIommufdPt, VFIO_DEVICE_ATTACH_IOMMUFD_PT } = vfio;
    const values = { argsz: 16, flags: vfio.VFIO_DEVICE_ATTACH_PASID, pasid, ptId };
    return this.vm.program.err(this.device.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, DeviceAttachIommufdPt, values);
  }

  detachPasid(pasid: number): Promise<ErrnoName | ''> {
    const { DeviceDetachIommufdPt, VFIO_DEVICE_DETACH_IOMMUFD_PT } = vfio;
    const values = { argsz: 12, flags: vfio.VFIO_DEVICE_DETACH_PASID, pasid };
    return this.vm.program.err(this.device.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, DeviceDetachIommufdPt, values);
  }

  /** Maps a page of the program's memory, `offset` into it. */
  async map(iova: bigint, offset = 0n, ioasId = this.vm.ioasId): Promise<void> {
    const { vm } = this;
    const userVa = vm.program.base + offset;
    const values = { flags: 7, ioasId, userVa, length: 0x1000n, iova };
    await vm.program.ok(vm.iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
  }

  /** Starts a read or write of 16 bytes. @returns STATUS right after */
  start(iova: bigint, { write = false, pasid = -1, length = 16 } = {}): number {
    const { device } = this;
    device.writeBar(0x08, u64(iova));
    device.writeBar(0x10, u32(pasid < 0 ? 0 : (0x8000_0000 | pasid) >>> 0));
    device.writeBar(0x14, u32(length));
    device.writeBar(0x18, u32(write ? 2 : 1));
    return this.status;
  }

  get status(): number {
    return this.device.readBar(0x1c, 1)[0]!;
  }

  set window(text: string) {
    this.device.writeBar(0x100, new TextEncoder().encode(text.padEnd(16)));
  }

  get window(): string {
    return new TextDecoder().decode(this.device.readBar(0x100, 16)).trimEnd();
  }

  /** What waits in the fault queue. */
  faults() {
    const { size } = uapi.HwptPgfault;
    const bytes = this.vm.program.read(this.faultFd, 16 * size);
    return Array.from({ length: bytes.length / size }, (_, i) => {
      const { flags, devId, pasid, grpid, perm, addr, cookie } = new uapi.HwptPgfault(
        bytes.slice(i * size, (i + 1) * size),
      );
      return { flags, devId, pasid, grpid, perm, addr, cookie };
    });
  }

  answer(cookie: number, code: number): number | ErrnoName {
    const response = new uapi.HwptPageResponse();
    response.cookie = cookie;
    response.code = code;
    return this.vm.program.write(this.faultFd, response.bytes);
  }
}
