/**
 * The object graph as a kernel has it: what there is, what holds what, and what each IOAS says. Commands change it by the
 * rules of the uAPI; invariants.ts compares the engine with it. It shares no code with src/iommufd.
 */

import type { PciFunction } from '../../src/hardware/pci/pci-function.ts';
import type { IommufdContext } from '../../src/iommufd/context.ts';
import type { OpenFile } from '../../src/iommufd/file.ts';
import type { MemoryObject } from '../../src/memory/process-memory.ts';
import type { Channel } from './channel.ts';
import type { GraphProcess } from './process.ts';

export const PAGE = 4096n;
export const U64_LAST = 2n ** 64n - 1n;

/** Both bounds inclusive. */
export interface Span {
  readonly start: bigint;
  readonly last: bigint;
}

/** Who answers for pinned pages, and whether a limit holds. */
export interface Payer {
  process: GraphProcess;
  readonly mode: 'none' | 'user' | 'process';
}

/** Pages of a device's BAR0. */
export interface Bar {
  readonly fn: PciFunction;
  /** Byte of the BAR with which they begin. */
  readonly start: number;
  /** Physical address of that. */
  readonly address: number;
}

/** Memory that one mapping brought in; copies share it. */
export interface Memory {
  readonly kind: 'user' | 'file' | 'dma-buf';
  readonly object: MemoryObject;
  /** Byte of `object` that byte 0 of it is: page-aligned. */
  readonly base: number;
  readonly writable: boolean;
  /** Registers, which are never pinned; null: RAM. */
  readonly bar: Bar | null;
  /** Null for memory that nobody is charged for. */
  readonly payer: Payer | null;
  revoked: boolean;
}

export interface Area extends Span {
  readonly memory: Memory;
  /** Byte of `memory` that `start` maps. */
  readonly startByte: bigint;
  readonly prot: number;
}

interface Base {
  readonly id: number;
  readonly context: Context;
}

export interface Ioas extends Base {
  readonly kind: 'ioas';
  areas: Area[];
  huge: boolean;
  allowed: readonly Span[];
  reserved: (Span & { readonly owner: object })[];
}

export interface Paging extends Base {
  readonly kind: 'hwpt-paging';
  readonly ioas: Ioas;
  readonly nestParent: boolean;
  readonly dirty: boolean;
  readonly pasid: boolean;
  readonly fault: FaultQueue | null;
  readonly auto: boolean;
  /** Smallest leaf, and what it can translate. */
  readonly alignment: bigint;
  readonly aperture: Span;
  /** With `dirty`: IOVAs of the pages that GET_DIRTY_BITMAP has to report. */
  readonly dirtied: Set<bigint>;
  /** Those that it may not report: a bitmap of a part of their leaf has been read since, which clears all of the leaf. */
  readonly unsure: Set<bigint>;
  /** SET_DIRTY_TRACKING is on. */
  tracking: boolean;
}

export interface Nested extends Base {
  readonly kind: 'hwpt-nested';
  readonly base: Paging | Viommu;
  readonly parent: Paging;
  /** Of the device that it was made for. */
  readonly iommu: number;
  readonly pasid: boolean;
  readonly fault: FaultQueue | null;
  /** What the STE of the guest says: everything aborts, or goes to the parent, or through the guest's own tables. */
  readonly config: 'abort' | 'bypass' | 'stage1';
  /** How many PASIDs the STE of the guest has room for; 0: it takes none. */
  readonly ssids: number;
  /** The guest has turned ATS on. */
  readonly ats: boolean;
}

export type Hwpt = Paging | Nested;

/** What a device of the machine can do. */
export interface Traits {
  /** Width of its PASIDs; 0: it sends none. */
  readonly pasidBits: number;
  /** How it asks for a page that is missing, when somebody answers. */
  readonly asksBy: 'stalls' | 'requests' | null;
  readonly tracksDirty: boolean;
  readonly hasAts: boolean;
}

/** What the devices of a group are attached to with one PASID: all of them, once one is. */
export interface Attachment {
  hwpt: Hwpt;
  /** Those that were attached themselves. */
  readonly devices: Set<Device>;
  /** In whose name page requests are told. */
  spokesman: Device;
}

/** Devices that no IOMMU can tell apart. */
export interface Group {
  /** Which devices of the machine; none: a mock device, which is alone. */
  readonly members: readonly number[];
  /** By PASID; 0: without one. */
  readonly attachments: Map<number, Attachment>;
}

/** What its configuration space says, and whether its program has put it to sleep. */
export interface DeviceState {
  decodes: boolean;
  masters: boolean;
  /** In D0. */
  powered: boolean;
  asleep: boolean;
}

export const awake = (): DeviceState => ({ decodes: true, masters: true, powered: true, asleep: false });

export interface Device extends Base, Traits {
  readonly kind: 'device';
  /** Of the IOMMU. */
  readonly iommu: number;
  readonly group: Group;
  virtual: VirtualId | null;
  /** IOVAs that it keeps for itself. */
  readonly reserves: readonly Span[];
  /** Which machine's device it is; -1 for a mock one. */
  readonly index: number;
  /** Its group has opened it. */
  readonly byGroup: boolean;
  readonly state: DeviceState;
}

export interface MockDevice extends Base {
  readonly kind: 'mock-device';
  readonly device: Device;
}

export interface VirtualId {
  readonly viommu: Viommu;
  readonly device: Device;
  readonly value: bigint;
}

export interface Vdevice extends Base {
  readonly kind: 'vdevice';
  readonly viommu: Viommu;
  virtual: VirtualId | null;
}

export interface Viommu extends Base {
  readonly kind: 'viommu';
  readonly parent: Paging;
  readonly iommu: number;
  readonly virtualIds: Map<bigint, VirtualId>;
  /** Offset of what it lets a program map, or null. */
  readonly region: bigint | null;
  mapped: boolean;
}

export interface EventQueue extends Base {
  readonly kind: 'veventq' | 'virq';
  readonly viommu: Viommu;
}

export interface Request {
  readonly attachment: Attachment;
  /** What waits for the answer; null when a test has made the request. */
  readonly transfer: Transfer | null;
}

/** Eight bytes of DMA that found no page. */
export interface Transfer {
  readonly device: Device;
  readonly substream: number | null;
  readonly iova: bigint;
  readonly write: boolean;
  readonly bytes: Uint8Array;
  readonly channel: Channel;
  /** Requests so far. */
  tries: number;
}

export interface FaultQueue extends Base {
  readonly kind: 'fault-queue';
  pending: Request[];
  readonly delivered: Map<number, Request>;
}

export interface HwQueue extends Base {
  readonly kind: 'hw-queue';
  readonly viommu: Viommu;
  readonly index: number;
  readonly pin: Span;
  readonly access: Access;
}

export interface Access extends Base {
  readonly kind: 'access';
  ioas: Ioas;
  readonly pins: boolean;
  /** Of the engine's own: what it pins cannot be unmapped. */
  readonly internal: boolean;
  items: (Span & { readonly id: number })[];
  nextItem: number;
}

export type Thing =
  | Ioas
  | Paging
  | Nested
  | Device
  | MockDevice
  | Vdevice
  | Viommu
  | EventQueue
  | FaultQueue
  | HwQueue
  | Access;

export type Kind = Thing['kind'];
export type Of<K extends Kind> = Extract<Thing, { kind: K }>;

/** A descriptor that the test has, and what it stands for. */
export interface Descriptor {
  readonly process: GraphProcess;
  readonly fd: number;
  readonly file: OpenFile;
  readonly what:
    | { readonly kind: 'iommufd'; readonly context: Context }
    | { readonly kind: 'vfio'; readonly index: number; bound: Device | null }
    | {
        readonly kind: 'group';
        readonly number: number;
        readonly group: Group;
        container: Context | null;
      }
    | {
        readonly kind: 'dma-buf';
        readonly object: MemoryObject;
        readonly pages: number;
        readonly bar: Bar | null;
        /** Several ranges, which no iommufd maps. */
        readonly inPieces: boolean;
      }
    | EventQueue
    | FaultQueue
    | Access;
}

/** One open of /dev/iommu. */
export class Context {
  readonly engine: IommufdContext;
  readonly things: Map<number, Thing>;
  /** IDs that a vDEVICE left taken. */
  readonly tombs: Set<number>;
  vfioIoas: Ioas | null;
  rlimitMode: 0 | 1;
  /** It is VFIO's own container: what is pinned is paid by the process, and groups reserve IOVAs as they come in. */
  readonly isContainer: boolean;

  constructor(engine: IommufdContext, isContainer: boolean) {
    this.engine = engine;
    this.things = new Map();
    this.tombs = new Set();
    this.vfioIoas = null;
    this.rlimitMode = isContainer ? 1 : 0;
    this.isContainer = isContainer;
  }

  /** The `n`-th ID that a call gets: always the lowest free ones. */
  freeId(n = 0): number {
    for (let id = 1; ; id++) if (!this.things.has(id) && !this.tombs.has(id) && n-- === 0) return id;
  }

  add<T extends Thing>(thing: T): T {
    this.things.set(thing.id, thing);
    return thing;
  }

  all<K extends Kind>(...kinds: K[]): Of<K>[] {
    return [...this.things.values()].filter((thing) => kinds.includes(thing.kind as K)) as Of<K>[];
  }

  hwptsOf(ioas: Ioas): Paging[] {
    return this.all('hwpt-paging').filter((hwpt) => hwpt.ioas === ioas);
  }

  accessesOf(ioas: Ioas): Access[] {
    return this.all('access').filter((access) => access.ioas === ioas);
  }
}

/** What each thing is held by: things and descriptors. */
export function holders(context: Context, descriptors: readonly Descriptor[]): Map<Thing, string[]> {
  const held = new Map<Thing, string[]>(Array.from(context.things.values(), (thing) => [thing, []]));
  const hold = (thing: Thing | null, by: string): void => {
    if (thing) held.get(thing)?.push(by);
  };
  for (const thing of context.things.values()) {
    const by = `${thing.kind} ${thing.id}`;
    switch (thing.kind) {
      case 'hwpt-paging':
        hold(thing.ioas, by);
        hold(thing.fault, by);
        break;
      case 'hwpt-nested':
        hold(thing.base, by);
        hold(thing.fault, by);
        break;
      case 'device':
        hold(thing, 'its binding');
        for (const pasid of pasidsOf(thing)) {
          hold(thing, `attachment ${pasid}`);
          hold(attachedOf(thing, pasid), by);
        }
        break;
      case 'vdevice':
        hold(thing.viommu, by);
        hold(thing.virtual?.device ?? null, by);
        break;
      case 'viommu':
        hold(thing.parent, by);
        if (thing.mapped) hold(thing, 'a mapping');
        break;
      case 'veventq':
      case 'virq':
        hold(thing.viommu, by);
        break;
      case 'hw-queue':
        hold(thing.viommu, by);
        for (const other of context.all('hw-queue')) {
          if (other.viommu === thing.viommu && other.index === thing.index - 1) hold(other, by);
        }
        break;
      case 'access':
        hold(thing.ioas, by);
        if (thing.internal) hold(thing, 'a HW queue');
    }
  }
  for (const { fd, what } of descriptors) if ('id' in what) hold(what, `descriptor ${fd}`);
  return held;
}

/** What the device was attached to itself. */
export function attachedOf(device: Device, pasid = 0): Hwpt | null {
  const attachment = device.group.attachments.get(pasid);
  return attachment?.devices.has(device) ? attachment.hwpt : null;
}

/** With which PASIDs it was attached itself; 0: without. */
export const pasidsOf = (device: Device): number[] =>
  [...device.group.attachments].filter(([, { devices }]) => devices.has(device)).map(([pasid]) => pasid);

/** All that the group of the device is attached to. */
export const tablesOf = ({ group }: Device): Hwpt[] => Array.from(group.attachments.values(), ({ hwpt }) => hwpt);

/** The paging HWPT whose IOAS is in effect where `hwpt` is attached. */
export const pagingOf = (hwpt: Hwpt): Paging => (hwpt.kind === 'hwpt-paging' ? hwpt : hwpt.parent);
