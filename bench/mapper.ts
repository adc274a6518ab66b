/** A program inside this process, with an IOAS, an HWPT, and memory that is everywhere but never touched. */
import { dialect } from '../src/abi/dialects.ts';
import * as uapi from '../src/abi/iommufd.ts';
import type { AnyStruct } from '../src/abi/struct.ts';
import * as vfio from '../src/abi/vfio.ts';
import { NO_SUBSTREAM, TRANSLATED, WRITE } from '../src/hardware/iommu.ts';
import { Machine } from '../src/host/machine.ts';
import { parseMachine } from '../src/host/machine-description.ts';
import { preset } from '../src/host/presets.ts';
import type { OpenFile } from '../src/iommufd/file.ts';
import { BufferMemory, TestProcess } from '../src/iommufd/testing.ts';
import { ownPages } from '../src/memory/process-memory.ts';

/** Where structs are, and behind them a bitmap for 2^28 pages. */
const STRUCT = 0x1000;
const BITMAP = 0x2000;
const BITMAP_BYTES = 2 ** 25;

const FIXED_READ_WRITE = 7;
/** Of 0000:01:00.0, the first function of every preset. */
const STREAM = 0x100;

/** Memory that is there, but only where structs are: pages are mapped, never touched. */
class Sparse extends BufferMemory {
  override resolve(address: number, length: number) {
    return ownPages(this, address, length);
  }
}

export class Mapper {
  readonly machine: Machine;
  readonly hwptId: number;
  /** Address of room for a bitmap. */
  readonly bitmap = BITMAP;
  private readonly memory = new Sparse(STRUCT, BITMAP + BITMAP_BYTES - STRUCT);
  private readonly program = new TestProcess(this.memory);
  private readonly iommufd: { file: OpenFile; fd: number };
  private readonly device: { file: OpenFile; fd: number };
  private readonly ioasId: number;

  /** @param flags of HWPT_ALLOC */
  constructor(presetName: string, flags = 0) {
    this.machine = new Machine(parseMachine(preset(presetName).machine), { dialect: dialect('linux-7.1') });
    this.iommufd = this.open('/dev/iommu');
    this.device = this.open('/dev/vfio/devices/vfio0');
    const bind = { argsz: vfio.DeviceBindIommufd.size, iommufd: this.iommufd.fd };
    const bound = this.callOn(this.device.file, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, bind);
    this.ioasId = this.call(uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc, {}).outIoasId;
    const hwpt = { devId: bound.outDevid, ptId: this.ioasId, flags };
    this.hwptId = this.call(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, hwpt).outHwptId;
    const attach = { argsz: 12, ptId: this.hwptId };
    this.callOn(this.device.file, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, attach);
  }

  call<S extends AnyStruct>(command: number, layout: S, values: object): InstanceType<S> {
    return this.callOn(this.iommufd.file, command, layout, { size: layout.size, ...values });
  }

  map(iova: number, length: number, address: number): void {
    this.call(uapi.IOMMU_IOAS_MAP, uapi.IoasMap, {
      flags: FIXED_READ_WRITE,
      ioasId: this.ioasId,
      userVa: BigInt(address),
      length: BigInt(length),
      iova: BigInt(iova),
    });
  }

  unmap(iova: number, length: number): void {
    const values = { ioasId: this.ioasId, iova: BigInt(iova), length: BigInt(length) };
    this.call(uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, values);
  }

  copy(iova: number, source: number, length: number): void {
    this.call(uapi.IOMMU_IOAS_COPY, uapi.IoasCopy, {
      flags: FIXED_READ_WRITE,
      dstIoasId: this.ioasId,
      srcIoasId: this.ioasId,
      length: BigInt(length),
      dstIova: BigInt(iova),
      srcIova: BigInt(source),
    });
  }

  /** The device writes to [iova, iova + length), once to every `step` bytes. */
  write(iova: number, length: number, step: number): void {
    const { smmu } = this.machine.iommus[0]!;
    for (let at = iova; at < iova + length; at += step) {
      const outcome = smmu.translate(STREAM, NO_SUBSTREAM, at / 4096, 0, WRITE);
      if (outcome !== TRANSLATED) throw new Error(`a write to 0x${at.toString(16)} is refused`);
    }
  }

  close(): void {
    this.program.closeFd(this.device.fd);
    this.program.closeFd(this.iommufd.fd);
  }

  private open(path: string): { file: OpenFile; fd: number } {
    const file = this.machine.open(path);
    return { file, fd: this.program.openFd(file) as number };
  }

  private callOn<S extends AnyStruct>(file: OpenFile, command: number, layout: S, values: object): InstanceType<S> {
    const s = Object.assign(new layout(), values);
    this.memory.write(STRUCT, s.bytes);
    file.ioctl(this.program, command, BigInt(STRUCT));
    this.memory.read(STRUCT, s.bytes);
    return s as InstanceType<S>;
  }
}
