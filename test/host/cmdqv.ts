/** A VMM's and a guest's use of a CMDQV: a slice with a virtual interface, its page mapped, and queues in guest RAM. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as v2 from '../../src/abi/iommufd-viommu-v2.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import { type MappedRegisters, type Mapping, mappedRegisters } from '../../src/iommufd/file.ts';
import { commandBytes, commands, type GuestCommand } from './guest.ts';
import type { MutableMachine } from './program.ts';
import { type Device, Slice, type Vm } from './vm.ts';

/** A change of a machine: each of its SMMUs has a CMDQV. */
export function withCmdqv({ iommus }: MutableMachine): void {
  for (const [i, smmu] of iommus.entries()) smmu.cmdqv = { address: `0x${(0x2c + i).toString(16)}000000` };
}

export const VINTF_PAGE = 0x10000n;
const READ_WRITE = 3;
const SHARED = 1;

/** Registers of a queue in the page. */
export const QUEUE = { CONS: 0x0, PROD: 0x4, CONFIG: 0x8, STATUS: 0xc, GERROR: 0x10, GERRORN: 0x14 };
const QUEUE_BYTES = 0x80;
const COMMAND_BYTES = 16n;

/** A slice with a virtual interface. */
export class CmdqvSlice extends Slice {
  readonly device: Device;
  readonly offset: bigint;

  private constructor(vm: Vm, device: Device, id: number, offset: bigint) {
    super(vm, id);
    this.device = device;
    this.offset = offset;
  }

  static async open(vm: Vm, device: Device): Promise<CmdqvSlice> {
    const made = await CmdqvSlice.tryOpen(vm, device);
    if (made instanceof CmdqvSlice) return made;
    throw new Error(`no vIOMMU with a virtual interface: ${made}`);
  }

  static async tryOpen(vm: Vm, device: Device): Promise<CmdqvSlice | ErrnoName> {
    const values = { devId: device.id, hwptId: await vm.parent(device) };
    if (vm.isV2) {
      const asked = { ...values, type: v2.V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV };
      const { errno, s } = await vm.program.call(vm.iommufd, v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, asked);
      return errno || new CmdqvSlice(vm, device, s.outViommuId, BigInt(s.outViommuId) * 4096n);
    }
    const layout = uapi.ViommuTegra241Cmdqv;
    const dataUptr = vm.program.put(new layout().bytes);
    const asked = { ...values, type: uapi.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, dataLen: layout.size, dataUptr };
    const { errno, s } = await vm.program.call(vm.iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, asked);
    const { outVintfMmapOffset } = new layout(vm.program.get(0x1000, layout.size));
    return errno || new CmdqvSlice(vm, device, s.outViommuId, outVintfMmapOffset);
  }

  map(): Mapping {
    const { program, iommufd } = this.vm;
    return program.file(iommufd).mmap(program.process, VINTF_PAGE, READ_WRITE, SHARED, this.offset);
  }

  /** A queue of `pages` at `base`: its ID, or why there is none. */
  async queueAt(index: number, base: bigint, pages = 1): Promise<number | ErrnoName> {
    const { program, iommufd, isV2 } = this.vm;
    const call = async <S extends AnyStruct>(command: number, layout: S, values: Record<string, number | bigint>) =>
      program.call(iommufd, command, layout, { viommuId: this.id, ...values });
    if (isV2) {
      const data = Object.assign(new v2.VqueueTegra241Cmdqv(), {
        vcmdqId: index,
        vcmdqLog2size: 8 + Math.log2(pages),
        vcmdqBase: base,
      });
      const values = { dataType: 1, dataLen: data.bytes.length, dataUptr: program.put(data.bytes) };
      const { errno, s } = await call(v2.IOMMU_VQUEUE_ALLOC, v2.VqueueAlloc, values);
      return errno || s.outVqueueId;
    }
    const type = uapi.IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV;
    const values = { type, index, nestingParentIova: base, length: BigInt(pages) * 4096n };
    const { errno, s } = await call(uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc, values);
    return errno || s.outHwQueueId;
  }

  /** A queue of fresh guest RAM, enabled. */
  async queue(mapping: Mapping, index = 0): Promise<GuestQueue> {
    const base = this.vm.ram.allocate();
    const id = await this.queueAt(index, base);
    if (typeof id !== 'number') throw new Error(`no queue: ${id}`);
    return new GuestQueue(this.vm, mappedRegisters(mapping)!, id, index, base).enable();
  }
}

/** A guest's driver of its queue, which has a page of commands. */
export class GuestQueue {
  readonly id: number;
  readonly base: bigint;
  private readonly vm: Vm;
  private readonly page: MappedRegisters;
  private readonly start: number;

  constructor(vm: Vm, page: MappedRegisters, id: number, index: number, base: bigint) {
    this.vm = vm;
    this.page = page;
    this.id = id;
    this.base = base;
    this.start = index * QUEUE_BYTES;
  }

  enable(): this {
    this.store(QUEUE.CONFIG, 1);
    return this;
  }

  load(register: number): number {
    const bytes = new Uint8Array(4);
    this.page.load(this.start + register, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  store(register: number, value: number): void {
    this.page.store(this.start + register, new Uint8Array(Uint32Array.of(value).buffer));
  }

  /** Writes commands and a CMD_SYNC, and rings. @returns CONS.ERR: 0 when all were consumed */
  submit(...list: GuestCommand[]): number {
    const all = [...list, commands.sync()];
    const first = this.load(QUEUE.PROD);
    for (const [i, one] of all.entries()) {
      const at = this.base + BigInt((first + i) % 256) * COMMAND_BYTES;
      this.vm.ram.at(at, 16).set(commandBytes([one]));
    }
    const end = (first + all.length) % 512;
    this.store(QUEUE.PROD, end);
    const failed = this.load(QUEUE.GERROR) !== this.load(QUEUE.GERRORN);
    if (!failed && (this.load(QUEUE.CONS) & 0xfffff) !== end)
      throw new Error('the queue stands still without an error');
    return failed ? this.load(QUEUE.CONS) >>> 24 : 0;
  }
}
