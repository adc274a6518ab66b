/**
 * A VMM in a few lines: one iommufd, guest RAM in an IOAS under a nesting parent, a vIOMMU on each SMMU that has a device
 * of the VM, and the devices' engines driven as a guest driver would. In both dialects.
 */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as v2 from '../../src/abi/iommufd-viommu-v2.ts';
import * as vfio from '../../src/abi/vfio.ts';
import type { Machine } from '../../src/host/machine.ts';
import { ContextTable, commandBytes, type GuestCommand, GuestRam, Stage1 } from './guest.ts';
import { MIB, Program } from './program.ts';

export const V2 = 'viommu-v2';
export const GUEST_BASE = 0x4000_0000n;
const GUEST_BYTES = 8 * MIB;

const bar0 = (offset: number): bigint => BigInt(offset);
const config = (offset: number): bigint => (7n << 40n) + BigInt(offset);

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u16 = (value: number): Uint8Array => new Uint8Array(Uint16Array.of(value).buffer);
const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);

/** A device bound to the VM's iommufd. */
export class Device {
  readonly vm: Vm;
  readonly fd: number;
  readonly id: number;

  constructor(vm: Vm, fd: number, id: number) {
    this.vm = vm;
    this.fd = fd;
    this.id = id;
  }

  async attach(ptId: number): Promise<number> {
    const done = await this.vm.program.ok(this.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, {
      argsz: 12,
      ptId,
    });
    return done.ptId;
  }

  attachErr(ptId: number): Promise<ErrnoName | ''> {
    const layout = vfio.DeviceAttachIommufdPt;
    return this.vm.program.err(this.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, layout, { argsz: 12, ptId });
  }

  async detach(): Promise<void> {
    const layout = vfio.DeviceDetachIommufdPt;
    await this.vm.program.ok(this.fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, layout, { argsz: 8 });
  }

  writeBar(offset: number, bytes: Uint8Array): void {
    this.vm.program.pwrite(this.fd, bar0(offset), bytes);
  }

  readBar(offset: number, length: number): Uint8Array {
    return this.vm.program.pread(this.fd, bar0(offset), length) as Uint8Array;
  }

  setCommand(value: number): void {
    this.vm.program.pwrite(this.fd, config(4), u16(value));
  }
}

/** What the engine did. */
export type Outcome = 'done' | 'halted';

/** A guest's driver of the IOAT engine, with a page of guest RAM for its descriptor. */
export class Engine {
  readonly device: Device;
  private readonly descriptorIova: bigint;
  private readonly descriptorGpa: bigint;

  constructor(device: Device, descriptorIova: bigint) {
    this.device = device;
    this.descriptorIova = descriptorIova;
    this.descriptorGpa = device.vm.ram.allocate();
    device.setCommand(0x406);
    this.reset();
  }

  mapDescriptor(stage1: Stage1): void {
    stage1.map(this.descriptorIova, this.descriptorGpa);
  }

  reset(): void {
    this.device.writeBar(0xa8, u32(0xffff_ffff));
    this.device.writeBar(0x84, Uint8Array.of(0x20));
  }

  /** Has the device copy `size` bytes from one IOVA to another. */
  copy(source: bigint, destination: bigint, size = 16, control = 0): Outcome {
    const descriptor = this.device.vm.ram.at(this.descriptorGpa, 64);
    const view = new DataView(descriptor.buffer, descriptor.byteOffset, 64);
    view.setUint32(0, size, true);
    view.setUint32(4, control, true);
    view.setBigUint64(8, source, true);
    view.setBigUint64(16, destination, true);
    view.setBigUint64(24, this.descriptorIova, true);
    this.device.writeBar(0x90, u64(this.descriptorIova));
    this.device.writeBar(0x80, u16(0x0009));
    this.device.writeBar(0x86, u16(1));
    const state = this.device.readBar(0x88, 1)[0]! & 7;
    if (state === 3) this.reset();
    return state === 1 ? 'done' : 'halted';
  }
}

/** A device with a DMA probe: any PASID. */
export class Probe {
  readonly device: Device;

  constructor(device: Device) {
    this.device = device;
    device.setCommand(0x6);
  }

  /** Reads 16 bytes as text; null when refused. */
  read(iova: bigint, pasid?: number): string | null {
    this.device.writeBar(0x08, u64(iova));
    this.device.writeBar(0x10, u32(pasid === undefined ? 0 : (0x8000_0000 | pasid) >>> 0));
    this.device.writeBar(0x14, u32(16));
    this.device.writeBar(0x18, u32(1));
    if (this.device.readBar(0x1c, 1)[0] !== 1) return null;
    return new TextDecoder().decode(this.device.readBar(0x100, 16)).trimEnd();
  }
}

/** A vIOMMU with its event queue not yet made. */
export class Slice {
  readonly vm: Vm;
  readonly id: number;

  constructor(vm: Vm, id: number) {
    this.vm = vm;
    this.id = id;
  }

  /** A device's virtual StreamID. */
  async setVirtualId(device: Device, sid: number): Promise<number> {
    const { program, iommufd, isV2 } = this.vm;
    const values = { viommuId: this.id, devId: device.id };
    if (isV2) {
      await program.ok(iommufd, v2.IOMMU_VIOMMU_SET_VDEV_ID, v2.ViommuSetVdevId, { ...values, vdevId: BigInt(sid) });
      return 0;
    }
    const made = await program.ok(iommufd, uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, {
      ...values,
      virtId: BigInt(sid),
    });
    return made.outVdeviceId;
  }

  /** A nested HWPT from the guest's STE. */
  async nested(device: Device, ste: readonly [bigint, bigint]): Promise<number> {
    const { program, iommufd } = this.vm;
    const dataUptr = program.put(new Uint8Array(BigUint64Array.from(ste).buffer));
    const values = { devId: device.id, ptId: this.id, dataType: 2, dataLen: 16, dataUptr };
    return (await program.ok(iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).outHwptId;
  }

  /** @returns the errno, and how many commands were done */
  async invalidate(...list: GuestCommand[]): Promise<{ errno: ErrnoName | ''; done: number }> {
    const { program, iommufd } = this.vm;
    const dataUptr = program.put(commandBytes(list));
    const values = { hwptId: this.id, dataUptr, dataType: 1, entryLen: 16, entryNum: list.length };
    const { errno, s } = await program.call(iommufd, uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate, values);
    return { errno, done: s.entryNum };
  }

  /** A vEVENTQ or VIRQ. */
  async events(depth = 16): Promise<{ id: number; fd: number }> {
    const { program, iommufd, isV2 } = this.vm;
    if (isV2) {
      const made = await program.ok(iommufd, v2.IOMMU_VIRQ_ALLOC, v2.VirqAlloc, { viommuId: this.id, type: 1 });
      return { id: made.outVirqId, fd: made.outVirqFd };
    }
    const values = { viommuId: this.id, type: 1, veventqDepth: depth };
    const made = await program.ok(iommufd, uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc, values);
    return { id: made.outVeventqId, fd: made.outVeventqFd };
  }
}

export class Vm {
  readonly program: Program;
  readonly isV2: boolean;
  readonly iommufd: number;
  readonly ram: GuestRam;
  readonly ioasId: number;
  parentId: number;

  private constructor(program: Program, iommufd: number, ioasId: number) {
    this.program = program;
    this.isV2 = program.machine.dialect.name === V2;
    this.iommufd = iommufd;
    this.ioasId = ioasId;
    this.ram = new GuestRam(GUEST_BASE, program.memory.bytes.subarray(0, GUEST_BYTES));
    this.parentId = 0;
  }

  /** Opens /dev/iommu and maps guest RAM. */
  static async start(machine: Machine, pid = 42): Promise<Vm> {
    const program = new Program(machine, GUEST_BYTES, pid);
    const iommufd = program.open('/dev/iommu');
    const { outIoasId } = await program.ok(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc);
    const vm = new Vm(program, iommufd, outIoasId);
    await vm.map(GUEST_BASE, 0n, GUEST_BYTES);
    return vm;
  }

  async map(iova: bigint, offset: bigint, length: number): Promise<void> {
    const userVa = this.program.base + offset;
    const values = { flags: 7, ioasId: this.ioasId, userVa, length: BigInt(length), iova };
    await this.program.ok(this.iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
  }

  unmap(iova: bigint, length: number): Promise<ErrnoName | ''> {
    const values = { ioasId: this.ioasId, iova, length: BigInt(length) };
    return this.program.err(this.iommufd, uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, values);
  }

  /** Opens and binds vfioN. */
  async device(index: number): Promise<Device> {
    const fd = this.program.open(`/dev/vfio/devices/vfio${index}`);
    const values = { argsz: 16, iommufd: this.iommufd };
    const bound = await this.program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, values);
    return new Device(this, fd, bound.outDevid);
  }

  /** The nesting parent on the guest's IOAS, made once. */
  async parent(device: Device): Promise<number> {
    if (this.parentId) return this.parentId;
    const values = { flags: 1, devId: device.id, ptId: this.ioasId };
    this.parentId = (await this.program.ok(this.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).outHwptId;
    return this.parentId;
  }

  /** A vIOMMU on the SMMU of `device`. */
  async slice(device: Device): Promise<Slice> {
    const made = await this.trySlice(device);
    if (made instanceof Slice) return made;
    throw new Error(`no vIOMMU: ${made}`);
  }

  /** A vIOMMU, or why there is none. */
  async trySlice(device: Device): Promise<Slice | ErrnoName> {
    const values = { type: this.isV2 ? 0 : 1, devId: device.id, hwptId: await this.parent(device) };
    const { errno, s } = this.isV2
      ? await this.program.call(this.iommufd, v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, values)
      : await this.program.call(this.iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, values);
    return errno || new Slice(this, s.outViommuId);
  }

  destroy(id: number): Promise<ErrnoName | ''> {
    return this.program.err(this.iommufd, uapi.IOMMU_DESTROY, uapi.Destroy, { id });
  }
}

/** A VM with one device in translation: stage 1, context table and engine in place. */
export interface Guest {
  readonly vm: Vm;
  readonly device: Device;
  readonly slice: Slice;
  readonly stage1: Stage1;
  readonly contexts: ContextTable;
  readonly engine: Engine;
  readonly nestedId: number;
  readonly sid: number;
}

export interface GuestOptions {
  readonly asid?: number;
  readonly ats?: boolean;
  readonly sid?: number;
  readonly vfio?: number;
  readonly slice?: Slice;
  readonly stage1?: Stage1;
}

const DESCRIPTOR_IOVA = 0xf000_0000n;

/** Puts vfioN behind a stage 1 of the guest. */
export async function bringUp(vm: Vm, options: GuestOptions = {}): Promise<Guest> {
  const { asid = 7, ats = false, sid = 0x10 } = options;
  const device = await vm.device(options.vfio ?? 0);
  const slice = options.slice ?? (await vm.slice(device));
  await slice.setVirtualId(device, sid);
  const stage1 = options.stage1 ?? new Stage1(vm.ram, asid);
  const contexts = new ContextTable(vm.ram);
  contexts.set(0, stage1);
  const nestedId = await slice.nested(device, contexts.ste(ats));
  await device.attach(nestedId);
  const engine = new Engine(device, DESCRIPTOR_IOVA + BigInt(sid) * 0x1000n);
  engine.mapDescriptor(stage1);
  return { vm, device, slice, stage1, contexts, engine, nestedId, sid };
}
