/**
 * A machine from its description: memory, IOMMUs with their drivers, PCI functions, and the device nodes that programs
 * open. One dialect and one tracer for all of it.
 */
import { DEFAULT_DIALECT, type Dialect, dialect } from '../abi/dialects.ts';
import { fail } from '../abi/errno.ts';
import { ArmSmmuV3 } from '../drivers/arm-smmu-v3/driver.ts';
import { FrameAllocator } from '../drivers/frame-allocator.ts';
import type { DriverDevice } from '../drivers/iommu-driver.ts';
import { Clock } from '../hardware/clock.ts';
import { Cmdqv } from '../hardware/cmdqv/cmdqv.ts';
import { cmdqvBytes } from '../hardware/cmdqv/settings.ts';
import type { InterruptLine } from '../hardware/iommu.ts';
import { MessageBypass } from '../hardware/message-bypass.ts';
import { MSI_DOORBELL_BYTES, MsiDoorbell } from '../hardware/msi-doorbell.ts';
import { FUNCTION_KINDS } from '../hardware/pci/function-kinds.ts';
import { PciFunction } from '../hardware/pci/pci-function.ts';
import { DEFAULT_SETTINGS } from '../hardware/smmuv3/settings.ts';
import { Smmu } from '../hardware/smmuv3/smmu.ts';
import { STALL_MODEL_STALL } from '../hardware/smmuv3/spec/registers.ts';
import { IommufdContext } from '../iommufd/context.ts';
import type { OpenFile } from '../iommufd/file.ts';
import { PhysicalMemory, SLOT_FRAMES } from '../memory/physical-memory.ts';
import { PinnedMemory } from '../memory/pinned-memory.ts';
import { SILENT, type Tracer } from '../trace/events.ts';
import { VfioDevice } from '../vfio/device.ts';
import { VfioGroup } from '../vfio/group.ts';
import { type Attribute, AttributeFile, modeOf, textFile } from './attribute-file.ts';
import { configAttributes } from './config-attributes.ts';
import { disksOf, type OpenDisk } from './disks.ts';
import { groupNumbers, isMultifunction } from './iommu-groups.ts';
import {
  type FunctionDescription,
  type MachineDescription,
  type SmmuDescription,
  smmuName,
  streamOf,
} from './machine-description.ts';
import { DOORBELL_ADDRESS, type MessageWindow, messageWindow } from './message-window.ts';
import { MmioWindow } from './mmio-window.ts';
import { OpenContexts } from './open-contexts.ts';
import { parseBdf, requesterOf } from './pci-address.ts';
import { VfioPciDriver } from './pci-driver.ts';
import { physicalLayout } from './physical-layout.ts';
import { cmdqvSettings, SMMU_BYTES } from './register-blocks.ts';
import { type PlacedPort, rootPorts, WINDOW_BYTES } from './root-ports.ts';
import { drivenPaths, type SysfsEntry, type SysfsFunction, sysfsEntries, sysfsRoots } from './sysfs.ts';

export interface MachineOptions {
  /** The newest release's when absent. */
  readonly dialect?: Dialect;
  readonly tracer?: Tracer;
  /** Opens the files of namespaces; without it there are none. */
  readonly openDisk?: OpenDisk;
}

export interface DeviceNode {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  /** Permission bits; 0o600 when absent. */
  readonly mode?: number;
  /** A regular file that lives: one of sysfs. */
  readonly regular?: boolean;
  /** Bytes, as stat(2) shows it; 0 when absent. */
  readonly size?: number;
}

/** An SMMU and its driver. */
export interface MachineIommu {
  readonly name: string;
  readonly smmu: Smmu;
  readonly cmdqv: Cmdqv | null;
  readonly driver: ArmSmmuV3;
  readonly messages: MessageWindow;
}

const FIRST_BAR = 0x1000_0000;

/** Kernels give these out at run time; a machine's are always the same. */
const IOMMU_NODE: DeviceNode = { path: '/dev/iommu', major: 10, minor: 127 };
/** An iommufd too, as with CONFIG_IOMMUFD_VFIO_CONTAINER; but BARs can be mapped into it, as with CONFIG_VFIO_CONTAINER. */
const CONTAINER_NODE: DeviceNode = { path: '/dev/vfio/vfio', major: 10, minor: 196, mode: 0o666 };
const VFIO_MAJOR = 511;
const GROUP_MAJOR = 510;
const FIRST_INTERRUPT_LINE = 32;

export class Machine {
  readonly dialect: Dialect;
  readonly memory: PhysicalMemory;
  readonly pinned: PinnedMemory;
  readonly clock: Clock;
  readonly iommus: readonly MachineIommu[];
  readonly groups: readonly VfioGroup[];
  readonly devices: readonly VfioDevice[];
  readonly deviceNodes: readonly DeviceNode[];
  readonly sysfs: readonly SysfsEntry[];
  readonly ownedRoots: readonly string[];
  readonly vfioPci: VfioPciDriver;
  private readonly attributes: readonly Attribute[];
  private readonly groupNumbers: readonly number[];
  private readonly description: MachineDescription;
  private readonly tracer: Tracer;
  private readonly openDisk: OpenDisk | undefined;
  private readonly registers: MmioWindow;
  private readonly doorbell: MsiDoorbell;
  private readonly frames: FrameAllocator;
  private readonly contexts: OpenContexts;
  /** Table frames that the drivers' probes took. */
  private readonly probedFrames: number;

  constructor(description: MachineDescription, options: MachineOptions = {}) {
    this.description = description;
    this.dialect = options.dialect ?? dialect(DEFAULT_DIALECT);
    this.tracer = options.tracer ?? SILENT;
    this.openDisk = options.openDisk;
    this.clock = new Clock();
    this.memory = new PhysicalMemory();
    this.registers = new MmioWindow(FIRST_BAR);
    this.memory.placeBacking(0, 1, this.registers);
    this.doorbell = new MsiDoorbell(this.clock);
    this.registers.place(DOORBELL_ADDRESS, MSI_DOORBELL_BYTES, this.doorbell);
    this.contexts = new OpenContexts();
    const { ram, window } = physicalLayout(description);
    const { fragmentSeed, pageKiB } = description.memory;
    this.memory.addRam(ram.firstSlot * SLOT_FRAMES, ram.slots * SLOT_FRAMES);
    this.frames = new FrameAllocator(this.memory, ram.firstSlot * SLOT_FRAMES, ram.slots * SLOT_FRAMES);
    const fragmented = fragmentSeed === undefined ? {} : { fragmentSeed, log2PageFrames: Math.log2(pageKiB / 4) };
    this.pinned = new PinnedMemory(this.memory, { ...window, ...fragmented });

    this.iommus = description.iommus.map((smmu) => this.makeIommu(smmu));
    const functions = this.placeBars(description.functions.map((fn, index) => this.makeFunction(fn, index)));
    this.probedFrames = this.frames.used;
    this.groupNumbers = groupNumbers(description.functions);
    this.groups = [...new Set(this.groupNumbers)].map((number) => new VfioGroup(number, GROUP_MAJOR, this.tracer));
    this.devices = this.makeDevices(functions);
    const ports = rootPorts(functions.map(belowPort));
    const shown = functions.map((made, index) => this.show(made, ports[index]!, index));
    const names = this.iommus.map(({ name }) => name);
    const nodes = [...this.groups, ...this.devices.filter(({ hasNode }) => hasNode)];
    this.vfioPci = new VfioPciDriver(shown.map((fn, index) => ({ device: this.devices[index]!, ...drivenPaths(fn) })));
    this.attributes = [...this.vfioPci.attributes.map(textFile), ...configAttributes(shown, this.devices)];
    this.deviceNodes = [
      IOMMU_NODE,
      CONTAINER_NODE,
      ...nodes.map(({ path, node }) => ({ path, ...node })),
      ...this.attributes.map(attributeNode),
    ];
    this.sysfs = sysfsEntries(names, shown);
    this.ownedRoots = [IOMMU_NODE.path, '/dev/vfio', ...sysfsRoots(names, shown)];
  }

  /** Opens a device node. ENOENT when there is none of that name. */
  open(path: string): OpenFile {
    const node = this.deviceNodes.find((candidate) => candidate.path === path);
    if (!node) throw fail('ENOENT', `${path} is not a device of this machine`);
    if (node === IOMMU_NODE || node === CONTAINER_NODE) return this.openIommufd(node);
    const attribute = this.attributes.find((candidate) => candidate.path === path);
    if (attribute) return new AttributeFile(attribute);
    return [...this.groups, ...this.devices].find((candidate) => candidate.path === path)!.open();
  }

  /** Set by a server: has paths of `sysfs` and `deviceNodes` vanish and come back. */
  set onVisible(set: ((path: string, visible: boolean) => void) | null) {
    this.vfioPci.onVisible = set;
  }

  /** The same: has files of `sysfs` hold something else. */
  set onContent(set: ((path: string, content: string) => void) | null) {
    this.vfioPci.onContent = set;
  }

  /** Runs what is queued on the clock: interrupts, for one. `most` and the answer are Clock.settle's. */
  settle(most?: number): boolean {
    return this.clock.settle(most);
  }

  /** What the machine holds for programs. All zero when none is left. */
  leftovers(): Record<string, number> {
    const counts: Record<string, number> = {
      objects: this.contexts.objects,
      bindings: this.devices.filter(({ binding }) => binding !== null).length,
      pinnedFrames: this.pinned.pinnedFrames,
      windows: this.pinned.windowsInUse,
      tableFrames: this.frames.used - this.probedFrames,
    };
    for (const { name, driver } of this.iommus) {
      for (const [resource, count] of Object.entries(driver.resources)) counts[`${name} ${resource}`] = count;
    }
    return counts;
  }

  /** Through /dev/vfio/vfio what is pinned is accounted for as VFIO does: to the process. */
  private openIommufd(node: DeviceNode): IommufdContext {
    const { dialect: spoken, pinned, tracer } = this;
    const { oneViommuPerPiommu, memlock } = this.description.policy;
    const context = new IommufdContext({
      dialect: spoken,
      host: { pinned, tracer, oneViommuPerPiommu, enforceMemlock: memlock === 'enforced' },
      path: node.path,
      device: node,
      rlimitMode: node === CONTAINER_NODE ? 1 : 0,
      isContainer: node === CONTAINER_NODE,
    });
    return this.contexts.add(context);
  }

  private makeIommu(description: SmmuDescription): MachineIommu {
    const { memory, clock, tracer, frames } = this;
    const { type: _type, address, vmidBits, msiWindow, cmdqv: _cmdqv, ...settings } = description;
    const { vmid, vmidOverride } = this.description.policy;
    const name = smmuName(description);
    const irq = {
      eventq: () => driver.handleEventInterrupt(),
      priq: () => driver.handlePageRequestInterrupt(),
      gerror: () => driver.handleGlobalErrorInterrupt(),
      cmdqSync: () => {},
    };
    const smmu = new Smmu({ name, memory, settings: { ...DEFAULT_SETTINGS, ...settings }, clock, tracer, irq });
    this.registers.place(Number(address), SMMU_BYTES, smmu);
    const cmdqv = this.makeCmdqv(description, smmu, () => driver.handleCmdqvInterrupt());
    const policy = {
      vmid,
      ...(vmidOverride === undefined ? {} : { vmidOverride }),
      ...(vmidBits === undefined ? {} : { vmidBits }),
    };
    const { behaviour } = this.dialect;
    const messages = messageWindow(msiWindow);
    const messageRegion = messages.region;
    const parts = { name, mmio: smmu, memory, frames, tracer, policy, behaviour, messageRegion };
    const driver = new ArmSmmuV3(cmdqv ? { ...parts, cmdqv: { mmio: cmdqv } } : parts);
    driver.probe();
    return { name, smmu, cmdqv, driver, messages };
  }

  private makeCmdqv({ cmdqv }: SmmuDescription, smmu: Smmu, irq: InterruptLine): Cmdqv | null {
    if (!cmdqv) return null;
    const { memory, clock, tracer } = this;
    const settings = cmdqvSettings(cmdqv);
    const { executor, name } = smmu;
    const commandQueueLog2 = smmu.settings.cmdqs;
    const made = new Cmdqv({ name, memory, settings, executor, commandQueueLog2, clock, tracer, irq });
    this.registers.place(Number(cmdqv.address), cmdqvBytes(settings), made);
    return made;
  }

  private makeFunction(description: FunctionDescription, index: number): MadeFunction {
    const { memory, clock, tracer } = this;
    const { bdf, model, ats, pri, pasidBits, canStall, msi, acs } = description;
    const iommu = this.iommus.findIndex(({ name }) => name === description.iommu);
    const { smmu, driver, messages } = this.iommus[iommu]!;
    const stream = streamOf(description);
    const kind = FUNCTION_KINDS[model]!;
    const fn = new PciFunction({
      name: bdf,
      kind,
      iommu: messages.bypass ? new MessageBypass(smmu, messages.bypass) : smmu,
      stream,
      requester: requesterOf(parseBdf(bdf)),
      memory,
      clock,
      tracer,
      ats,
      pri,
      pasidBits,
      msi,
      acs,
      multifunction: isMultifunction(description, this.description.functions),
      disks: disksOf(description, `functions[${index}]`, this.openDisk),
      // Where the SMMU knows nothing but stalls, everything behind it has to bear them.
      canStall: canStall || smmu.settings.stallModel === STALL_MODEL_STALL,
    });
    smmu.attachAtc(stream, fn.dma);
    fn.enableAcs();
    const device = driver.probeDevice({
      streamId: stream,
      name: bdf,
      ats: ats ? { enable: (on) => fn.enableAts(on) } : null,
      pri: pri ? { enable: (on) => fn.enablePri(on) } : null,
      canStall,
      pasid: pasidBits ? { bits: pasidBits, enable: (on) => fn.enablePasid(on) } : null,
    });
    return { fn, device, iommu };
  }

  /** Bus by bus, as each port passes one range of addresses on. */
  private placeBars(functions: readonly MadeFunction[]): PlacedFunction[] {
    const addresses = new Map<MadeFunction, number>();
    let bus = '';
    for (const made of functions.toSorted((one, other) => busOf(one.fn).localeCompare(busOf(other.fn)))) {
      if (busOf(made.fn) !== bus) this.registers.alignBars(WINDOW_BYTES);
      bus = busOf(made.fn);
      addresses.set(made, this.registers.placeBar(made.fn.kind.identity.bar0Bytes, made.fn));
    }
    return functions.map((made) => {
      const barAddress = addresses.get(made)!;
      made.fn.writeConfig(made.fn.config.offsetOf('BAR0'), 4, barAddress);
      return { ...made, barAddress };
    });
  }

  private makeDevices(functions: readonly PlacedFunction[]): VfioDevice[] {
    const buses = new Map<string, VfioDevice[]>();
    return functions.map(({ fn, device, iommu, barAddress }, index) => {
      const address = parseBdf(fn.name);
      const key = `${address.segment}:${address.bus}`;
      const bus = buses.get(key) ?? [];
      buses.set(key, bus);
      const { dialect: spoken, tracer, doorbell } = this;
      const { busAddress } = this.iommus[iommu]!.messages;
      const options = {
        index,
        major: VFIO_MAJOR,
        fn,
        address,
        driver: device,
        group: this.groupOf(index),
        barAddress,
        barsMappable: this.description.functions[index]!.mmap,
        dialect: spoken,
        messages: { doorbell, requester: requesterOf(address), busAddress },
        bus,
        tracer,
      };
      const made = new VfioDevice(options);
      bus.push(made);
      made.group.devices.push(made);
      return made;
    });
  }

  private groupOf(index: number): VfioGroup {
    return this.groups[this.groupNumbers[index]!]!;
  }

  private show({ fn, device, iommu, barAddress }: PlacedFunction, port: PlacedPort, index: number): SysfsFunction {
    return {
      fn,
      address: parseBdf(fn.name),
      vfio: this.devices[index]!.hasNode ? { index, major: VFIO_MAJOR } : null,
      group: this.groupOf(index),
      iommu,
      port,
      barAddress,
      interruptLine: FIRST_INTERRUPT_LINE + index,
      reserved: device.reservedRegions(),
    };
  }
}

const attributeNode = (attribute: Attribute): DeviceNode => ({
  path: attribute.path,
  major: 0,
  minor: 0,
  mode: modeOf(attribute),
  regular: true,
  size: attribute.size,
});

interface MadeFunction {
  readonly fn: PciFunction;
  readonly device: DriverDevice;
  /** Index into the machine's IOMMUs. */
  readonly iommu: number;
}

interface PlacedFunction extends MadeFunction {
  readonly barAddress: number;
}

/** '0000:01' */
const busOf = ({ name }: PciFunction): string => name.slice(0, name.lastIndexOf(':'));

const belowPort = ({ fn, barAddress }: PlacedFunction) => ({
  address: parseBdf(fn.name),
  barAddress,
  barBytes: fn.kind.identity.bar0Bytes,
});
