/**
 * A VM: guest RAM in an IOAS under nesting parents, functions of the host behind virtual SMMUs. One iommufd for all of it.
 * Opening is asynchronous, as it opens descriptors; what the guest does afterwards is done when it returns.
 */
import * as uapi from '../abi/iommufd.ts';
import type { Machine } from '../host/machine.ts';
import { SILENT, type Tracer } from '../trace/events.ts';
import { Client, Refused } from './client.ts';
import type { Faults } from './faults.ts';
import { GUEST_BASE, GuestRam } from './guest/ram.ts';
import { HostSlice, type SlicePort } from './host-slice.ts';
import { Passthrough } from './passthrough.ts';
import { difference, virtualSettings } from './smmu/identity.ts';
import { VirtualSmmu } from './smmu/virtual-smmu.ts';
import { Teardown } from './teardown.ts';

export interface FunctionChoice {
  /** N of /dev/vfio/devices/vfioN. */
  readonly vfio: number;
  readonly sid: number;
}

export interface VmOptions {
  /** The functions behind each virtual SMMU; all of one are behind the same SMMU of the host. */
  readonly smmus: readonly (readonly FunctionChoice[])[];
  readonly faults?: Faults;
  readonly ramBytes?: number;
  /** Of each vEVENTQ. */
  readonly eventDepth?: number;
  readonly tracer?: Tracer;
  /** An iommufd that is open already, in this process. */
  readonly within?: Vm;
  readonly pid?: number;
}

/** A virtual SMMU with the functions behind it. */
export interface VmSmmu {
  readonly mmio: VirtualSmmu;
  readonly slice: HostSlice;
  readonly functions: readonly Passthrough[];
  /** The guest's handler of its interrupt. */
  handler: (() => void) | null;
}

const DEFAULT_RAM = 4 * 2 ** 20;
const DEFAULT_DEPTH = 64;
const MAP_FLAGS = uapi.IOMMU_IOAS_MAP_FIXED_IOVA | uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE;

export class Vm {
  readonly client: Client;
  readonly iommufd: number;
  readonly ram: GuestRam;
  readonly ioasId: number;
  readonly smmus: VmSmmu[];
  readonly teardown: Teardown;
  /** The event loop does not come round: what waits in vEVENTQs stays there. */
  busy: boolean;
  private readonly faults: Faults;
  private readonly tracer: Tracer;
  private readonly parents: number[];

  private constructor(machine: Machine, options: VmOptions) {
    const { ramBytes = DEFAULT_RAM, faults = {}, tracer = SILENT, within, pid = 42 } = options;
    this.client = within?.client ?? new Client(machine, ramBytes, pid);
    this.faults = faults;
    this.tracer = tracer;
    this.smmus = [];
    this.parents = [];
    this.busy = false;
    this.iommufd = within?.iommufd ?? this.client.open('/dev/iommu');
    this.teardown = new Teardown(this.client, this.iommufd, faults.panicOnRefusal === true);
    this.ram = new GuestRam(this.client.process.memory.bytes.subarray(0, ramBytes));
    this.ioasId = this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc).outIoasId;
    this.map(GUEST_BASE, this.client.base, ramBytes);
  }

  /** Starts a VM as far as its guest's first instruction: devices reach guest RAM untranslated. */
  static async start(machine: Machine, options: VmOptions): Promise<Vm> {
    const vm = new Vm(machine, options);
    for (const [index, functions] of options.smmus.entries()) {
      await vm.addSmmu(`vsmmu${index}`, functions, options.eventDepth ?? DEFAULT_DEPTH);
    }
    return vm;
  }

  /** Maps memory of the process for devices of the guest. */
  map(gpa: bigint, userVa: bigint, length: number): void {
    const values = { flags: MAP_FLAGS, ioasId: this.ioasId, userVa, length: BigInt(length), iova: gpa };
    this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
  }

  /**
   * Makes the first `length` bytes of a function's BAR reachable for the others, at `gpa`. Registers cannot be mapped by their
   * address, which costs the guest DMA between its devices and nothing else. @returns whether they can be reached
   */
  shareBar(fn: Passthrough, gpa: bigint, length: number): boolean {
    try {
      this.map(gpa, fn.mapBar(length), length);
      return true;
    } catch (error) {
      if (this.faults.insistOnPeers || !(error instanceof Refused && error.code === 'EFAULT')) throw error;
      return false;
    }
  }

  /** As though the guest's machine had been switched off and on. */
  reset(): void {
    for (const { mmio, functions } of this.smmus) {
      if (!this.faults.skipDeviceReset) for (const fn of functions) this.teardown.attempt(() => fn.reset());
      mmio.reset();
    }
  }

  /** Passes on what waits in the vEVENTQs. */
  handleEvents(): void {
    for (const { mmio, slice } of this.smmus) mmio.events.drain((length) => slice.readEvents(length));
    this.client.machine.settle();
  }

  /** Ends the VM: objects go in the order of who uses whom, descriptors last. */
  stop(): void {
    for (const { slice } of this.smmus) slice.close();
    if (!this.faults.destroyParentFirst) for (const id of this.parents) this.teardown.destroy(id);
    if (!this.faults.keepDeviceOpen) {
      for (const { functions } of this.smmus) for (const fn of functions) fn.close();
    }
    if (!this.faults.keepIoas) this.teardown.destroy(this.ioasId);
  }

  /** The process of the VMM ends, with whatever is open. */
  exit(): void {
    for (const fd of this.client.process.descriptors) this.client.close(fd);
  }

  private async addSmmu(name: string, choices: readonly FunctionChoice[], eventDepth: number): Promise<void> {
    const { client, iommufd, faults, teardown, tracer, ram } = this;
    const { machine } = client;
    const functions = choices.map(({ vfio, sid }) =>
      Passthrough.open(client, iommufd, `/dev/vfio/devices/vfio${vfio}`, sid, faults),
    );
    const [first] = functions;
    if (!first) throw new Error(`${name} has no functions: which SMMU of the host is it to be?`);
    for (const fn of functions) if (!faults.mixHosts) checkSame(first, fn);
    const slice = this.slice({ client, iommufd, faults, teardown }, first);
    await slice.openEvents(eventDepth);
    const mmio = new VirtualSmmu({
      name,
      settings: virtualSettings(first.idr, faults),
      memory: ram.space,
      clock: machine.clock,
      tracer,
      streams: slice,
      faults,
      interrupt: () => made.handler?.(),
    });
    const made: VmSmmu = { mmio, slice, functions, handler: null };
    slice.onEvents(() => machine.clock.defer(() => !this.busy && this.handleEvents()));
    this.smmus.push(made);
    for (const fn of functions) {
      slice.add(fn);
      mmio.plugged(fn.sid);
    }
  }

  /** On the first parent that suits the SMMU of the host: VMs share one stage 2 among theirs where they can. */
  private slice(port: SlicePort, device: Passthrough): HostSlice {
    for (const parentId of this.parents) {
      try {
        return new HostSlice(port, parentId, device);
      } catch (error) {
        if (!(error instanceof Refused && error.code === 'EINVAL')) throw error;
      }
    }
    return new HostSlice(port, this.makeParent(device), device);
  }

  private makeParent(device: Passthrough): number {
    const dirty = this.faults.trackDirtyParent ? uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING : 0;
    const flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | dirty;
    const values = { flags, devId: device.devId, ptId: this.ioasId };
    const { outHwptId } = this.client.ioctl(this.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
    this.parents.push(outHwptId);
    return outHwptId;
  }
}

function checkSame(first: Passthrough, other: Passthrough): void {
  const names = difference(first.idr, other.idr);
  if (names) throw new Error(`StreamID ${other.sid} is behind another kind of SMMU: ${names} differ`);
}
