/** What most cases begin with: an iommufd, user memory, and objects made in one call. */
import {
  HwptSelftest,
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_TEST_IOTLB_DEFAULT,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from '../../src/abi/iommufd-test.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import {
  FaultQueueFile,
  Iommufd,
  IommufdV2,
  OpenedFile,
  type UserMemory,
  type Values,
  VeventqFile,
  VfioDevice,
  VfioGroup,
} from '../../src/client/index.ts';
import { EventFd } from './event-fd.ts';
import type { Program } from './program.ts';

export const PAGE = 0x1000n;
export const U64_MAX = 2n ** 64n - 1n;
/** The lowest IOVA that every domain has, the mock driver's, too. */
export const IOVA = 0x100_0000n;

export const FIXED = 1;
export const WRITEABLE = 2;
export const READABLE = 4;
export const READ_WRITE = READABLE | WRITEABLE;
export const ALL = FIXED | READ_WRITE;

export const NEST_PARENT = 1;
export const DIRTY_TRACKING = 2;
export const FAULT_ID_VALID = 4;
export const ALLOC_PASID = 8;

const MEMORY_BYTES = 0x10_0000;

/** A mock device, attached. */
export interface MockDevice {
  readonly stdevId: number;
  readonly hwptId: number;
  readonly idevId: number;
}

/** A mock device and what a vIOMMU for it stands on. */
export interface Nesting extends MockDevice {
  readonly ioasId: number;
  readonly parentId: number;
  readonly viommuId: number;
}

export class Setting {
  readonly program: Program;
  private readonly opened: OpenedFile[];
  private present: { iommufd?: Iommufd; v2?: IommufdV2; memory?: UserMemory };

  constructor(program: Program) {
    this.program = program;
    this.opened = [];
    this.present = {};
  }

  get iommufd(): Iommufd {
    return (this.present.iommufd ??= this.file(Iommufd.open(this.program)));
  }

  get v2(): IommufdV2 {
    return (this.present.v2 ??= this.file(IommufdV2.open(this.program)));
  }

  /** 1 MiB to map. */
  get memory(): UserMemory {
    return (this.present.memory ??= this.program.allocate(MEMORY_BYTES));
  }

  get userVa(): bigint {
    return this.memory.address;
  }

  /** Where the program has no memory. */
  get nowhere(): bigint {
    const { address, bytes } = this.program.edge(8);
    return address + BigInt(bytes.length);
  }

  /** Closed with the setting, unless it was closed before. */
  file<T extends OpenedFile>(file: T): T {
    this.opened.push(file);
    return file;
  }

  descriptor(fd: number): OpenedFile {
    return this.file(new OpenedFile(this.program, fd));
  }

  /** Closes a file now. */
  end(file: OpenedFile): void {
    this.opened.splice(this.opened.indexOf(file), 1);
    file.close();
  }

  close(): void {
    for (const file of this.opened.splice(0).reverse()) file.close();
    if (this.present.memory) this.program.release(this.present.memory);
    this.present = {};
  }

  /** Bytes where the program has memory. */
  put(bytes: Uint8Array): bigint {
    const memory = this.program.allocate(Math.max(bytes.length, 1));
    memory.bytes.set(bytes);
    return memory.address;
  }

  /** A struct of a call, where its answer cannot be written. */
  unanswerable<S extends AnyStruct>(layout: S, values: Values<S>): { address: bigint } {
    const sizeField = 'argsz' in layout.fields ? 'argsz' : 'size';
    const struct = Object.assign(new layout(), { [sizeField]: layout.size }, values);
    return { address: this.program.readOnly(struct.bytes).address };
  }

  async ioas(): Promise<number> {
    return (await this.iommufd.ioasAlloc()).outIoasId;
  }

  /** Maps at a fixed IOVA; `offset` into the memory. */
  async map(ioasId: number, iova = IOVA, length = PAGE, offset = 0n, flags = ALL): Promise<void> {
    await this.iommufd.ioasMap({ ioasId, flags, iova, length, userVa: this.userVa + offset });
  }

  /** A mock device that is attached to `ptId`. */
  async device(ptId: number, devFlags = 0): Promise<MockDevice> {
    const made = await this.iommufd.test.mockDomainFlags(ptId, { devFlags });
    return { stdevId: made.outStdevId, hwptId: made.outHwptId, idevId: made.outIdevId };
  }

  /** An IOAS, and a mock device that is attached to it. */
  async ioasWithDevice(devFlags = 0): Promise<MockDevice & { ioasId: number }> {
    const ioasId = await this.ioas();
    return { ioasId, ...(await this.device(ioasId, devFlags)) };
  }

  async hwpt(devId: number, ptId: number, flags = 0): Promise<number> {
    return (await this.iommufd.hwptAlloc({ devId, ptId, flags })).outHwptId;
  }

  /** A vIOMMU for a new mock device. */
  async nesting(): Promise<Nesting> {
    const device = await this.ioasWithDevice();
    const parentId = await this.hwpt(device.idevId, device.ioasId, NEST_PARENT);
    const viommuId = await this.viommu(device.idevId, parentId);
    return { ...device, parentId, viommuId };
  }

  async viommu(devId: number, hwptId: number): Promise<number> {
    const type = IOMMU_VIOMMU_TYPE_SELFTEST;
    return (await this.iommufd.viommuAlloc({ type, devId, hwptId })).outViommuId;
  }

  async vdevice({ viommuId, idevId }: Pick<Nesting, 'viommuId' | 'idevId'>, virtId = 1n): Promise<number> {
    return (await this.iommufd.vdeviceAlloc({ viommuId, devId: idevId, virtId })).outVdeviceId;
  }

  /** The driver's data for a nested HWPT on the mock driver. */
  nestedData(values: Values<typeof HwptSelftest> = {}): { dataType: number; dataLen: number; dataUptr: bigint } {
    const data = Object.assign(new HwptSelftest(), { iotlb: IOMMU_TEST_IOTLB_DEFAULT }, values);
    return { dataType: IOMMU_HWPT_DATA_SELFTEST, dataLen: HwptSelftest.size, dataUptr: this.put(data.bytes) };
  }

  async nestedHwpt(devId: number, ptId: number): Promise<number> {
    return (await this.iommufd.hwptAlloc({ devId, ptId, ...this.nestedData() })).outHwptId;
  }

  async faultQueue(): Promise<{ id: number; file: FaultQueueFile }> {
    const { outFaultId, outFaultFd } = await this.iommufd.faultQueueAlloc();
    return { id: outFaultId, file: this.file(new FaultQueueFile(this.program, outFaultFd)) };
  }

  async veventq(viommuId: number, type: number, veventqDepth = 4): Promise<{ id: number; file: VeventqFile }> {
    const { outVeventqId, outVeventqFd } = await this.iommufd.veventqAlloc({ viommuId, type, veventqDepth });
    return { id: outVeventqId, file: this.file(new VeventqFile(this.program, outVeventqFd)) };
  }

  /** The descriptor of an access to `ioasId`. */
  async access(ioasId: number, flags = 1): Promise<OpenedFile> {
    return this.descriptor((await this.iommufd.test.createAccess(ioasId, { flags })).outAccessFd);
  }

  async dmabuf(length = 0x4000): Promise<OpenedFile> {
    return this.descriptor((await this.iommufd.test.dmabufGet(0, { length })).result);
  }

  memfd(): OpenedFile {
    return this.descriptor(this.program.memfd());
  }

  eventfd(): EventFd {
    return this.file(new EventFd(this.program, this.program.eventfd()));
  }

  /** /dev/vfio/vfio */
  container(): Iommufd {
    return this.file(Iommufd.open(this.program, '/dev/vfio/vfio'));
  }

  /** /dev/vfio/N */
  group(number = 0): VfioGroup {
    return this.file(VfioGroup.open(this.program, `/dev/vfio/${number}`));
  }

  /** vfioN, open and not bound. */
  vfio(index = 0): VfioDevice {
    return this.file(VfioDevice.open(this.program, `/dev/vfio/devices/vfio${index}`));
  }
}
