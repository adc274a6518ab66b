/** A machine with processes on it, the model beside it, and the calls that change both. */
import { dialect } from '../../src/abi/dialects.ts';
import { Errno, type ErrnoName } from '../../src/abi/errno.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import { FailurePoints } from '../../src/drivers/failure-points.ts';
import { Machine } from '../../src/host/machine.ts';
import { type MachineInput, parseMachine } from '../../src/host/machine-description.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { preset } from '../../src/host/presets.ts';
import type { IommufdContext } from '../../src/iommufd/context.ts';
import type { Mapping, OpenFile } from '../../src/iommufd/file.ts';
import type { MemoryObject } from '../../src/memory/process-memory.ts';
import { withCmdqv } from '../host/cmdqv.ts';
import type { MutableMachine } from '../host/program.ts';
import { Channel } from './channel.ts';
import { forgetWritten, Pins } from './mapping-rules.ts';
import {
  type Attachment,
  attachedOf,
  Context,
  type Descriptor,
  type Device,
  type Group,
  type Hwpt,
  type Kind,
  type Of,
  pagingOf,
  pasidsOf,
  type Traits,
  type Transfer,
} from './model.ts';
import { GraphProcess, MarkedFile } from './process.ts';

type Values = Readonly<Record<string, number | bigint | Uint8Array>>;

/** Limits of pinned pages, by process: the second may pin a huge page and little more. */
const LIMITS = [Infinity, 600];
const MOST_PROCESSES = 2;
/** Of a device: one for accesses that are over at once, and others for those that may wait. */
const CHANNELS = 3;

export interface Answer<S> {
  readonly errno: ErrnoName | '';
  readonly s: S;
}

/** A command, the numbers that its choices are made of, and which of its allocations fails (0: none). */
export type StepText = readonly [name: string, numbers: readonly number[], fails?: number];

/** A call that is to be made. */
export interface Plan {
  readonly text: string;
  /** '' when it is to succeed. */
  readonly expected: ErrnoName | '';
  /** Makes it; the errno. */
  call(): Promise<ErrnoName | ''>;
  /** What the model becomes when it succeeded; checks of its answers. */
  apply(): void;
  /** What the model becomes when it was refused; by default nothing. */
  refused?(): void;
  /** Allocations of it may be made to fail without a trace. */
  readonly undone?: boolean;
  /** What of it is counted besides, as it has to happen now and then. */
  readonly counts?: readonly string[];
}

/** What a process opens to have an iommufd: of its own, or as a container. */
export const IOMMUFD_PATHS = ['/dev/iommu', '/dev/vfio/vfio'] as const;

/** Changes of a preset, by what stands behind its name. */
const CHANGES: Readonly<Record<string, (machine: MutableMachine) => void>> = {
  ' with CMDQVs': withCmdqv,
  ' with groups': withGroup,
};

/** Its functions are those of one device, which no IOMMU can tell apart; and the bus has another device like the last. */
function withGroup(machine: MutableMachine): void {
  const last = machine.functions.at(-1)!;
  const alike = machine.functions.map((fn, n) => ({ ...fn, bdf: `0000:01:00.${n}`, acs: false }));
  machine.functions = [...alike, { ...last, bdf: '0000:01:01.0' }];
}

const descriptions = new Map<string, MachineInput>();

/** A preset, or one with a change. */
function described(name: string): MachineInput {
  let machine = descriptions.get(name);
  if (machine) return machine;
  const change = Object.keys(CHANGES).find((words) => name.endsWith(words));
  machine = structuredClone(preset(change ? name.replace(change, '') : name).machine) as MachineInput & MutableMachine;
  if (change) CHANGES[change]!(machine as MachineInput & MutableMachine);
  descriptions.set(name, machine);
  return machine;
}

/** Groups of functions, by number: functions of one device are together, unless they have ACS. */
function groupsOf({ functions }: MachineInput): Group[] {
  const groups = new Map<string, number[]>();
  for (const [index, { bdf, acs }] of functions.entries()) {
    const key = acs === false ? bdf.slice(0, -1) : bdf;
    groups.set(key, [...(groups.get(key) ?? []), index]);
  }
  return Array.from(groups.values(), (members) => ({ members, attachments: new Map() }));
}

export class World {
  private readonly name: string;
  readonly machine: Machine | MockMachine;
  /** By number. */
  readonly groups: readonly Group[];
  readonly release: string;
  readonly processes: GraphProcess[];
  readonly user: { lockedPages: number };
  readonly contexts: Context[];
  readonly descriptors: Descriptor[];
  readonly memfd: MarkedFile;
  /** No memory of processes is mapped, so that all of it may change hands. */
  filesOnly: boolean;
  /** Guests have a context for their second PASID: all of them or none, as an SMMU may keep it when their memory changes. */
  private hasSecondContext: boolean;
  /** BARs that are dma-bufs, by the binding that has made them so. */
  readonly exports: { readonly owner: Device; readonly object: MemoryObject }[];
  /** dma-bufs that their exporter has taken back. */
  readonly revoked: Set<MemoryObject>;
  /** Regions of vIOMMUs that are mapped. */
  readonly mappings: Map<Of<'viommu'>, Mapping>;
  /** DMA that waits for a page. */
  transfers: Transfer[];
  /** Every step so far, and what it was. */
  readonly log: { readonly step: StepText; readonly what: string }[];
  /** How the next call is made to fail. */
  readonly failures: FailurePoints;
  private readonly channels: Map<number, Channel[]>;
  private readonly atRest: Record<string, number>;
  private everyProcess: GraphProcess[];

  constructor(name: string, abi: string) {
    this.name = name;
    this.release = abi;
    this.machine =
      name === 'mock'
        ? new MockMachine({ dialect: dialect(abi) })
        : new Machine(parseMachine({ ...described(name), policy: { memlock: 'enforced' } }), {
            dialect: dialect(abi),
          });
    this.groups = name === 'mock' ? [] : groupsOf(described(name));
    this.processes = [];
    this.user = { lockedPages: 0 };
    this.contexts = [];
    this.descriptors = [];
    this.memfd = new MarkedFile();
    this.filesOnly = false;
    this.hasSecondContext = true;
    this.exports = [];
    this.revoked = new Set();
    this.mappings = new Map();
    this.transfers = [];
    this.channels = new Map();
    this.log = [];
    this.failures = new FailurePoints();
    this.atRest = this.machine.leftovers();
    this.everyProcess = [];
    this.spawn();
    this.openIommufd(this.processes[0]!, IOMMUFD_PATHS[0]);
  }

  get isMock(): boolean {
    return this.machine instanceof MockMachine;
  }

  get smmus(): Machine {
    if (this.machine instanceof MockMachine) throw new Error('the machine mock has no SMMUs');
    return this.machine;
  }

  get hasCmdqvs(): boolean {
    return !this.isMock && this.smmus.iommus.some(({ cmdqv }) => cmdqv !== null);
  }

  /** Which IOMMU is in front of vfioN: in the presets every device has one of its own, or all have the same. */
  iommuOf(index: number): number {
    return this.smmus.iommus.length > 1 ? index : 0;
  }

  get hasPasids(): boolean {
    return !this.isMock && this.smmus.devices.some((_, index) => this.traitsOf(index).pasidBits > 0);
  }

  /** PCI address of vfioN. */
  addressOf(index: number): string {
    return described(this.name).functions[index]!.bdf;
  }

  /** What the machine's description says of vfioN. */
  traitsOf(index: number): Traits {
    const { iommus, functions } = described(this.name);
    const fn = functions[index]!;
    const asksBy = fn.canStall ? 'stalls' : fn.pri ? 'requests' : null;
    const tracksDirty = iommus[this.iommuOf(index)]!.httu === 2;
    return { pasidBits: fn.pasidBits ?? 0, asksBy, tracksDirty, hasAts: fn.ats ?? false };
  }

  groupOf(index: number): Group {
    return this.groups.find(({ members }) => members.includes(index))!;
  }

  /** vfioN of an iommufd, if it is bound. */
  boundAs(index: number): Device | null {
    return this.descriptorsOf('vfio').find(({ what }) => what.index === index && what.bound)?.what.bound ?? null;
  }

  /** Devices on the bus of vfioN, itself too. */
  busOf(index: number): number[] {
    const busOf = (bdf: string): string => bdf.slice(0, 'ssss:bb'.length);
    const { functions } = described(this.name);
    return functions.flatMap(({ bdf }, other) => (busOf(bdf) === busOf(functions[index]!.bdf) ? [other] : []));
  }

  /** The iommufd that has devices of the group. */
  ownerOf({ members }: Group): Context | null {
    for (const index of members) {
      const bound = this.boundAs(index);
      if (bound) return bound.context;
    }
    return null;
  }

  /** The `n`-th channel of vfioN. */
  channel(index: number, n: number): Channel {
    let channels = this.channels.get(index);
    if (!channels) {
      const { fn } = this.smmus.devices[index]!;
      channels = Array.from({ length: CHANNELS }, () => new Channel(fn, () => void this.machine.settle()));
      this.channels.set(index, channels);
    }
    return channels[n]!;
  }

  /** A channel of vfioN that waits for nothing. */
  idleChannel(index: number): Channel | null {
    for (let n = 1; n < CHANNELS; n++) if (!this.channel(index, n).waiting) return this.channel(index, n);
    return null;
  }

  /** Has the dialect this command, by its name? */
  speaks(name: string): boolean {
    return [...this.machine.dialect.commands.values()].some((command) => command.name === name);
  }

  canSpawn(): boolean {
    return this.processes.length < MOST_PROCESSES;
  }

  spawn(): void {
    const pid = 10 + this.everyProcess.length;
    const limit = LIMITS[this.everyProcess.length % LIMITS.length]!;
    const process = new GraphProcess(pid, limit, this.user);
    process.memoryFiles.set(100, this.memfd);
    if (!this.hasSecondContext) process.memory.image.toggleSecond();
    this.processes.push(process);
    this.everyProcess.push(process);
  }

  /** Guests take their second PASID away, or give it. */
  toggleSecondContext(): void {
    this.hasSecondContext = !this.hasSecondContext;
    for (const { memory } of this.processes) memory.image.toggleSecond();
  }

  openIommufd(process: GraphProcess, path: (typeof IOMMUFD_PATHS)[number]): Context {
    const file = this.open(process, path);
    const context = new Context(file.file as IommufdContext, path === '/dev/vfio/vfio');
    this.contexts.push(context);
    this.descriptors.push({ ...file, what: { kind: 'iommufd', context } });
    return context;
  }

  open(process: GraphProcess, path: string): { process: GraphProcess; fd: number; file: OpenFile } {
    const file = this.machine.open(path, 0, process);
    return { process, fd: process.openFd(file) as number, file };
  }

  /** Remembers the descriptor that a call opened in `process`. */
  opened(process: GraphProcess, fd: number, what: Descriptor['what']): void {
    this.descriptors.push({ process, fd, file: process.fileOf(fd)!, what });
  }

  /** All things of a kind, of every iommufd. */
  all<K extends Kind>(...kinds: K[]): Of<K>[] {
    return this.contexts.flatMap((context) => context.all(...kinds));
  }

  descriptorsOf<K extends Descriptor['what']['kind']>(
    ...kinds: K[]
  ): (Descriptor & { what: Extract<Descriptor['what'], { kind: K }> })[] {
    return this.descriptors.filter(({ what }) => kinds.includes(what.kind as K)) as never;
  }

  /** Does anything keep the iommufd? */
  isHeld(context: Context): boolean {
    const byDescriptor = this.descriptors.some(({ what }) => {
      if (what.kind === 'group') return what.container === context;
      return 'context' in what && what.context === context;
    });
    const bound = context.all('device').some(({ index }) => index >= 0);
    return byDescriptor || bound || context.all('viommu').some(({ mapped }) => mapped);
  }

  /** An iommufd that nothing keeps is gone with all that it had. */
  prune(): void {
    for (const context of this.contexts) {
      if (this.isHeld(context)) continue;
      context.things.clear();
      context.tombs.clear();
    }
    this.contexts.splice(0, this.contexts.length, ...this.contexts.filter((context) => this.isHeld(context)));
  }

  pins(): Pins {
    return new Pins(this.contexts);
  }

  /** An ioctl of `process`. */
  async ioctl<S extends AnyStruct>(
    process: GraphProcess,
    file: OpenFile,
    number: number,
    layout: S,
    values: Values,
  ): Promise<Answer<InstanceType<S>>> {
    const s = new layout();
    Object.assign(s, { ['argsz' in layout.fields ? 'argsz' : 'size']: layout.size }, values);
    process.memory.write(process.scratch, s.bytes);
    const errno = await this.errnoOf(() => file.ioctl(process, number, BigInt(process.scratch)));
    process.memory.read(process.scratch, s.bytes);
    return { errno, s: s as InstanceType<S> };
  }

  /** An operation of IOMMU_TEST_CMD, with its payload afterwards. */
  async test<S extends AnyStruct>(
    process: GraphProcess,
    context: Context,
    op: number,
    id: number,
    layout: S,
    values: Values,
  ): Promise<Answer<InstanceType<S>>> {
    const payload = Object.assign(new layout(new Uint8Array(test.TEST_PAYLOAD_BYTES)), values).bytes;
    const { errno, s } = await this.ioctl(process, context.engine, test.IOMMU_TEST_CMD, test.TestCmd, {
      op,
      id,
      payload,
    });
    return { errno, s: new layout(s.payload) as InstanceType<S> };
  }

  /** Whatever is thrown but an Errno is a defect. */
  async errnoOf(call: () => unknown): Promise<ErrnoName | ''> {
    try {
      await this.failures.during(call);
      return '';
    } catch (error) {
      if (error instanceof Errno) return error.code;
      throw error;
    } finally {
      this.machine.settle();
    }
  }

  /** close(2), and what goes with it. */
  close(descriptor: Descriptor): void {
    const { process, fd, what } = descriptor;
    process.closeFd(fd);
    this.machine.settle();
    this.descriptors.splice(this.descriptors.indexOf(descriptor), 1);
    if (what.kind === 'vfio' && what.bound && !this.isOpen(what.bound)) this.unbind(what.bound);
    if (what.kind === 'access') what.context.things.delete(what.id);
    if (what.kind === 'group') this.leaveContainer(what.group);
    this.prune();
  }

  /** What the group could not use of the container's IOVAs can be used again. */
  leaveContainer(group: Group): void {
    for (const ioas of this.all('ioas')) ioas.reserved = ioas.reserved.filter(({ owner }) => owner !== group);
  }

  /** Has a descriptor bound it, or got it from its group? */
  isOpen(device: Device): boolean {
    return this.descriptors.some(({ what }) => what.kind === 'vfio' && what.bound === device);
  }

  /** A device leaves its iommufd, reset: nobody hears of its DMA any more. */
  unbind(device: Device): void {
    const { context } = device;
    this.transfers = this.transfers.filter((transfer) => transfer.device !== device);
    for (const pasid of pasidsOf(device)) this.detach(device, pasid);
    for (const vdevice of context.all('vdevice')) {
      if (vdevice.virtual?.device !== device) continue;
      context.things.delete(vdevice.id);
      if (this.machine.dialect.behaviour.vdeviceTombstone) context.tombs.add(vdevice.id);
      else vdevice.virtual = null;
    }
    device.virtual?.viommu.virtualIds.delete(device.virtual.value);
    device.virtual = null;
    context.things.delete(device.id);
    for (const { owner, object } of this.exports) {
      if (owner !== device) continue;
      if (!this.revoked.has(object)) this.takeBack(object);
      this.revoked.add(object);
    }
  }

  /** Whoever has mapped the dma-buf loses it, for good. */
  takeBack(object: MemoryObject): void {
    for (const ioas of this.all('ioas')) {
      const lost = ioas.areas.filter(({ memory }) => memory.object === object);
      for (const { memory } of lost) memory.revoked = true;
      forgetWritten(ioas.context, ioas, lost);
    }
  }

  /** A device leaves an attachment, and the last one ends it: its requests are answered, an automatic domain goes. */
  detach(device: Device, pasid: number): void {
    const { attachments } = device.group;
    const attachment = attachments.get(pasid);
    if (!attachment?.devices.delete(device)) return;
    const [other] = attachment.devices;
    if (other && attachment.spokesman === device) attachment.spokesman = other;
    if (!other) {
      attachments.delete(pasid);
      this.abandon(attachment);
    }
    if (pasid === 0) this.unreserve(device, attachment.hwpt);
    this.put(attachment.hwpt);
  }

  /** What is asked for an attachment that ends or moves is answered: DMA that waits for it is refused. */
  abandon(attachment: Attachment): void {
    const { fault } = attachment.hwpt;
    if (!fault) return;
    const ended = [...fault.pending, ...fault.delivered.values()].filter(
      (request) => request.attachment === attachment,
    );
    fault.pending = fault.pending.filter((request) => !ended.includes(request));
    for (const [cookie, request] of fault.delivered) if (ended.includes(request)) fault.delivered.delete(cookie);
    for (const { transfer } of ended) if (transfer && this.transfers.includes(transfer)) this.over(transfer, 'refused');
  }

  /** An automatic domain that nothing is attached to any more goes. */
  put(hwpt: Hwpt): void {
    if (hwpt.kind !== 'hwpt-paging' || !hwpt.auto) return;
    const users = hwpt.context.all('device').filter((device) => {
      return pasidsOf(device).some((pasid) => attachedOf(device, pasid) === hwpt);
    });
    if (users.length === 0) this.removePaging(hwpt);
  }

  /** DMA that waited is over. */
  over(transfer: Transfer, outcome: 'done' | 'refused'): void {
    this.transfers = this.transfers.filter((other) => other !== transfer);
    const found = transfer.channel.waiting ? 'waiting' : transfer.channel.outcome;
    if (found !== outcome)
      throw new Error(`DMA at 0x${transfer.iova.toString(16)} that waited is ${found}, not ${outcome}`);
  }

  removePaging(hwpt: Of<'hwpt-paging'>): void {
    hwpt.ioas.reserved = hwpt.ioas.reserved.filter(({ owner }) => owner !== hwpt);
    hwpt.context.things.delete(hwpt.id);
  }

  unreserve(device: Device, hwpt: Hwpt): void {
    const { ioas } = pagingOf(hwpt);
    ioas.reserved = ioas.reserved.filter(({ owner }) => owner !== device);
  }

  /** The process is gone: its memory at once, its descriptors one by one in some order. */
  exit(process: GraphProcess, order: (descriptors: Descriptor[]) => Descriptor[], closed = (): void => {}): void {
    process.memory.gone = true;
    this.processes.splice(this.processes.indexOf(process), 1);
    for (const descriptor of order(this.descriptors.filter((each) => each.process === process))) {
      this.close(descriptor);
      closed();
    }
  }

  /** What is left when everybody has gone; nothing should be. */
  remains(): Record<string, number> {
    const now = { ...this.machine.leftovers(), user: this.user.lockedPages, memfd: this.memfd.holders };
    for (const { pid, account, files } of this.everyProcess) {
      Object.assign(now, { [`pinned by ${pid}`]: account.pinnedPages, [`locked by ${pid}`]: account.lockedPages });
      Object.assign(now, { [`files of ${pid}`]: files.size });
    }
    return Object.fromEntries(Object.entries(now).filter(([name, count]) => count !== (this.atRest[name] ?? 0)));
  }
}
