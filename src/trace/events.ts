/** Typed events from every layer. Layers import this file for its types only and emit through a Tracer. */

/** An ioctl has returned. `before` and `after` are the struct's bytes at entry and exit (empty when unreadable). */
export interface IoctlEvent {
  readonly type: 'ioctl';
  readonly pid: number;
  /** What kind of file: 'iommufd', 'vfio-device', ... and a short name of it, such as '/dev/vfio/devices/vfio0'. */
  readonly file: string;
  readonly command: number;
  /** Struct name as in the uAPI ('iommu_ioas_map'), or '' when the number is unknown in this dialect. */
  readonly struct: string;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly result: number;
  /** One sentence why, when refused. */
  readonly reason: string;
}

/** read, write, pread, pwrite, mmap, open, close of one of our files; load and store of registers that it has mapped. */
export interface FileEvent {
  readonly type: 'file';
  readonly pid: number;
  readonly file: string;
  readonly call: 'open' | 'close' | 'read' | 'write' | 'pread' | 'pwrite' | 'mmap' | 'load' | 'store';
  readonly offset: number;
  readonly length: number;
  readonly result: number;
  readonly reason: string;
}

/** A command that an IOMMU consumed from its command queue. */
export interface CommandEvent {
  readonly type: 'command';
  readonly iommu: string;
  /** Which queue, where it is not the IOMMU's own: 'VINTF1/LVCMDQ0'. The words are those that the IOMMU carried out. */
  readonly queue?: string;
  readonly architecture: 'smmuv3' | 'vtd' | 'amdvi';
  /** The command as 32-bit little-endian words. */
  readonly words: readonly number[];
  /** '' or why it was refused ('CERROR_ILL'). */
  readonly error: string;
}

/** A record that an IOMMU wrote to its event queue (or lost: overflow). */
export interface FaultEvent {
  readonly type: 'fault';
  readonly iommu: string;
  readonly architecture: 'smmuv3' | 'vtd' | 'amdvi';
  readonly words: readonly number[];
  readonly lost: boolean;
}

/** A device's DMA access, after translation. */
export interface DmaEvent {
  readonly type: 'dma';
  readonly device: string;
  readonly stream: number;
  readonly substream: number;
  readonly iovaFrame: number;
  readonly offset: number;
  readonly length: number;
  readonly write: boolean;
  /** Physical frame, or -1 when it did not move (yet). */
  readonly frame: number;
  /**
   * Where the answer came from; or how it ended without one (`discarded`: as though it had been done); or what it waits
   * for: a stalled transaction, the answer to a page request.
   */
  readonly via: 'atc' | 'iommu' | 'refused' | 'discarded' | 'stalled' | 'page-request';
}

/** A cache of an IOMMU or device was filled, hit or dropped entries. */
export interface CacheEvent {
  readonly type: 'cache';
  readonly owner: string;
  readonly cache: 'iotlb' | 'config' | 'atc';
  readonly action: 'hit' | 'fill' | 'invalidate' | 'evict';
  readonly vmid: number;
  readonly asid: number;
  readonly frame: number;
  readonly count: number;
}

/** An interrupt reached a client's event fd. */
export interface InterruptEvent {
  readonly type: 'interrupt';
  readonly device: string;
  readonly index: number;
  readonly vector: number;
}

/** A record was queued on a vEVENTQ / VIRQ of a VM, or dropped. */
export interface VeventEvent {
  readonly type: 'vevent';
  readonly viommu: number;
  readonly queue: number;
  readonly sequence: number;
  readonly words: readonly number[];
  readonly lost: boolean;
}

/** Something that a user should read: an unimplemented register was touched, a client went away in the middle of a call, ... */
export interface NoteEvent {
  readonly type: 'note';
  readonly from: string;
  readonly text: string;
}

export type TraceEvent =
  | IoctlEvent
  | FileEvent
  | CommandEvent
  | FaultEvent
  | DmaEvent
  | CacheEvent
  | InterruptEvent
  | VeventEvent
  | NoteEvent;

/** What a layer holds. Guard every emit with `if (tracer.on)`, so that nothing is built when nobody listens. */
export interface Tracer {
  readonly on: boolean;
  emit(event: TraceEvent): void;
}

/** Nobody listens. */
export const SILENT: Tracer = Object.freeze({ on: false, emit: () => {} });
