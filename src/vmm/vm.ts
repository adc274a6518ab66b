/**
 * A VM: guest RAM in an IOAS under nesting parents, functions of the host behind virtual SMMUs. One iommufd for all of it.
 * Opening is asynchronous, as it opens descriptors; what the guest does afterwards is done when it returns.
 */
import * as uapi from '../abi/iommufd.ts';
import type { Machine } from '../host/machine.ts';
import { SILENT, type Tracer } from '../trace/events.ts';
import { Client, Refused } from './client.ts';
import { VirtualCmdqv } from './cmdqv/virtual-cmdqv.ts';
import type { Faults } from './faults.ts';
import { GUEST_BASE, GuestRam, PAGE } from './guest/ram.ts';
import { HostSlice, type HostSlicePort } from './host-slice.ts';
import { MainlineCalls } from './mainline-calls.ts';
import { Passthrough } from './passthrough.ts';
import { difference, virtualSettings } from './smmu/identity.ts';
import { VirtualSmmu } from './smmu/virtual-smmu.ts';
import { Teardown } from './teardown.ts';
import { Threads } from './threads.ts';
import { V2Calls } from './v2-calls.ts';

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
  /** Milliseconds after which event threads look whether they are to end; without, they are woken up for that. */
  readonly eventTimeout?: number;
  /** Each virtual SMMU comes with command queues that the hardware reads, if the host's has them to give. */
  readonly cmdqv?: boolean;
  /** Bytes of a page of what is behind guest RAM: so much of it is contiguous. */
  readonly pageBytes?: number;
  readonly tracer?: Tracer;
  /** An iommufd that is open already, in this process. */
  readonly within?: Vm;
  readonly pid?: number;
}

/** A virtual SMMU with the functions behind it. */
export interface VmSmmu {
  readonly mmio: VirtualSmmu;
  readonly cmdqv: VirtualCmdqv | null;
  readonly slice: HostSlice;
  readonly functions: readonly Passthrough[];
  /** The guest's handler of its interrupt. */
  handler: (() => void) | null;
  /** The same of its command queues. */
  cmdqvHandler: (() => void) | null;
}

const DEFAULT_RAM = 4 * 2 ** 20;
const DEFAULT_DEPTH = 64;
/** A device's memory has no pages; the release has no dma-bufs. */
const CANNOT_SHARE: readonly string[] = ['EFAULT', 'ENOTTY'];
const MAP_FLAGS = uapi.IOMMU_IOAS_MAP_FIXED_IOVA | uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE;

export class Vm {
  readonly client: Client;
  readonly iommufd: number;
  readonly ram: GuestRam;
  readonly ioasId: number;
  readonly smmus: VmSmmu[];
  readonly teardown: Teardown;
  readonly threads: Threads;
  private readonly faults: Faults;
  private readonly tracer: Tracer;
  private readonly parents: number[];
  private readonly options: VmOptions;
  /** Where BARs of devices are mapped for the others. */
  private readonly shared: Set<bigint>;

  private constructor(machine: Machine, options: VmOptions) {
    const { ramBytes = DEFAULT_RAM, faults = {}, tracer = SILENT, within, pid = 42 } = options;
    this.client = within?.client ?? new Client(machine, ramBytes, pid);
    this.faults = faults;
    this.tracer = tracer;
    this.smmus = [];
    this.parents = [];
    this.options = options;
    this.shared = new Set();
    this.threads = new Threads(this.client.process);
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
      await vm.addSmmu(`vsmmu${index}`, functions);
    }
    return vm;
  }

  /** Maps memory of the process for devices of the guest. */
  map(gpa: bigint, userVa: bigint, length: number): void {
    const values = { flags: MAP_FLAGS, ioasId: this.ioasId, userVa, length: BigInt(length), iova: gpa };
    this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
  }

  /**
   * Makes the first `length` bytes of a function's BAR reachable for the others, at `gpa`, as often as that is asked for: a
   * reset takes it away. Where the host cannot, the guest loses DMA between its devices and nothing else.
   * @returns whether they can be reached
   */
  async shareBar(fn: Passthrough, gpa: bigint, length: number): Promise<boolean> {
    if (this.shared.has(gpa)) {
      if (this.faults.trustSharedBars) return true;
      this.unmap(gpa, length);
      this.shared.delete(gpa);
    }
    try {
      if (this.faults.peersByAddress) this.map(gpa, fn.mapBar(length), length);
      else await this.mapBar(gpa, fn, length);
    } catch (error) {
      if (this.faults.insistOnPeers || !(error instanceof Refused && CANNOT_SHARE.includes(error.code))) throw error;
      return false;
    }
    this.shared.add(gpa);
    return true;
  }

  /** As though the guest's machine had been switched off and on. */
  reset(): void {
    for (const { mmio, cmdqv, functions } of this.smmus) {
      if (!this.faults.skipDeviceReset) for (const fn of functions) this.teardown.attempt(() => fn.reset());
      cmdqv?.reset();
      mmio.reset();
    }
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

  /** By a dma-buf: registers have no pages that could be mapped by their address. */
  private async mapBar(iova: bigint, fn: Passthrough, length: number): Promise<void> {
    const { client, iommufd, ioasId } = this;
    const fd = await fn.exportBar(length);
    const values = { flags: MAP_FLAGS, ioasId, fd, start: 0n, length: BigInt(length), iova };
    try {
      client.ioctl(iommufd, uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, values);
    } finally {
      client.close(fd);
    }
  }

  private unmap(iova: bigint, length: number): void {
    const values = { ioasId: this.ioasId, iova, length: BigInt(length) };
    this.client.ioctl(this.iommufd, uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, values);
  }

  private async addSmmu(name: string, choices: readonly FunctionChoice[]): Promise<void> {
    const { client, iommufd, faults, tracer, ram } = this;
    const { eventDepth = DEFAULT_DEPTH, pageBytes = PAGE } = this.options;
    const functions = choices.map(({ vfio, sid }) =>
      Passthrough.open(client, iommufd, `/dev/vfio/devices/vfio${vfio}`, sid, faults),
    );
    const [first] = functions;
    if (!first) throw new Error(`${name} has no functions: which SMMU of the host is it to be?`);
    for (const fn of functions) if (!faults.mixHosts) checkSame(first, fn);
    const port = this.slicePort();
    const slice = this.slice(port, first);
    const mmio = new VirtualSmmu({
      name,
      settings: virtualSettings(first.idr, faults, pageBytes),
      memory: ram.space,
      clock: client.machine.clock,
      tracer,
      streams: slice,
      faults,
      interrupt: () => made.handler?.(),
    });
    await slice.passFaults(name, mmio.events, eventDepth);
    const cmdqv =
      slice.queues &&
      new VirtualCmdqv({
        info: port.calls.cmdqvInfo(first.devId),
        host: slice.queues,
        faults,
        interrupt: () => made.cmdqvHandler?.(),
      });
    if (cmdqv) await slice.passQueueErrors(`${name}'s command queues`, cmdqv, eventDepth);
    const made: VmSmmu = { mmio, cmdqv, slice, functions, handler: null, cmdqvHandler: null };
    this.smmus.push(made);
    for (const fn of functions) {
      slice.add(fn);
      mmio.plugged(fn.sid);
    }
  }

  private slicePort(): HostSlicePort {
    const { client, iommufd, faults, teardown, threads } = this;
    const { cmdqv = false, eventTimeout = null } = this.options;
    const isV2 = client.machine.dialect.name === 'viommu-v2';
    const calls = isV2 ? new V2Calls({ client, iommufd }) : new MainlineCalls({ client, iommufd });
    return { client, iommufd, faults, teardown, threads, timeout: eventTimeout, calls, cmdqv };
  }

  /** On the first parent that suits the SMMU of the host: VMs share one stage 2 among theirs where they can. */
  private slice(port: HostSlicePort, device: Passthrough): HostSlice {
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
