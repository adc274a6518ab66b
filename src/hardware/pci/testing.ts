/** A PCI function on memory behind an IOMMU double, for tests: identity by default, frames refused or moved by choice. */
import { type Backing, FRAME_BYTES, PhysicalMemory, SLOT_FRAMES } from '../../memory/physical-memory.ts';
import { SILENT, type TraceEvent, type Tracer } from '../../trace/events.ts';
import { Clock } from '../clock.ts';
import {
  ABORTED,
  ATS_SUCCESS,
  type Iommu,
  type PageRequest,
  READ,
  type Requester,
  STALLED,
  TRANSLATED,
  WRITE,
} from '../iommu.ts';
import { MsiDoorbell, TRANSLATER } from '../msi-doorbell.ts';
import type { FunctionFeatures } from './config-registers.ts';
import type { DmaChannel } from './dma-channel.ts';
import type { FunctionKind } from './function-model.ts';
import type { Disk } from './nvme/disk.ts';
import { PciFunction } from './pci-function.ts';
import { COMMAND_MASTER, COMMAND_MEMORY } from './spec/config-space.ts';

/** Page tables as a Map: frames that are absent are refused, or stall. Counts what it was asked. */
export class IommuDouble implements Iommu {
  readonly mapping: Map<number, { frame: number; permissions: number }>;
  outFrame: number;
  outLog2Frames: number;
  outPermissions: number;
  untranslated: number;
  requests: number;
  /** Refused transactions stall, if their requester can wait. */
  stalls: boolean;
  readonly stalled: Requester[];
  readonly pageRequests: PageRequest[];

  constructor() {
    this.stalls = false;
    this.stalled = [];
    this.pageRequests = [];
    this.mapping = new Map();
    this.outFrame = 0;
    this.outLog2Frames = 0;
    this.outPermissions = 0;
    this.untranslated = 0;
    this.requests = 0;
  }

  map(frame: number, to: number, permissions = READ | WRITE): void {
    this.mapping.set(frame, { frame: to, permissions });
  }

  translate(
    _stream: number,
    _substream: number,
    frame: number,
    _offset: number,
    access: number,
    requester: Requester | null = null,
  ): number {
    this.untranslated++;
    const entry = this.mapping.get(frame);
    if (!entry || (entry.permissions & access) !== access) {
      if (!this.stalls || !requester) return ABORTED;
      this.stalled.push(requester);
      return STALLED;
    }
    this.outFrame = entry.frame;
    return TRANSLATED;
  }

  withdraw(requester: Requester): void {
    const at = this.stalled.indexOf(requester);
    if (at >= 0) this.stalled.splice(at, 1);
  }

  pageRequest(request: PageRequest): void {
    this.pageRequests.push(request);
  }

  translated(_stream: number, _substream: number, frame: number): number {
    this.outFrame = frame;
    return TRANSLATED;
  }

  atsRequest(_stream: number, _substream: number, frame: number): number {
    this.requests++;
    const entry = this.mapping.get(frame);
    this.outFrame = entry?.frame ?? 0;
    this.outPermissions = entry?.permissions ?? 0;
    this.outLog2Frames = 0;
    return ATS_SUCCESS;
  }
}

/** Of 1 GiB, beyond RAM. */
const DOORBELL_SLOT = 2;

export interface FunctionRig {
  readonly memory: PhysicalMemory;
  readonly iommu: IommuDouble;
  readonly clock: Clock;
  readonly fn: PciFunction;
  /** A channel of the test's own. */
  readonly dma: DmaChannel;
  /** How its accesses that waited have ended. */
  readonly outcomes: number[];
  readonly events: TraceEvent[];
  /** Vectors whose messages arrived at the doorbell; -1 for the pin. */
  readonly interrupts: number[];
}

/** 16 MiB of RAM from frame 0, IOVA frames 0..255 mapped to frames 0..255, memory decode and bus mastering on. */
export function functionRig(
  kind: FunctionKind,
  features: Partial<FunctionFeatures> & {
    readonly canStall?: boolean;
    readonly disks?: readonly Disk[];
    readonly requester?: number;
  } = {},
  traced = false,
): FunctionRig {
  const memory = new PhysicalMemory();
  memory.addRam(0, 4096);
  const iommu = new IommuDouble();
  for (let frame = 0; frame < 256; frame++) iommu.map(frame, frame);
  const clock = new Clock();
  const events: TraceEvent[] = [];
  const tracer: Tracer = traced ? { on: true, emit: (event) => events.push(event) } : SILENT;
  const options = { ats: false, pri: false, pasidBits: 0, requester: 0x100, ...features };
  const place = { name: '0000:01:00.0', iommu, stream: 0x100, memory, clock };
  const fn = new PciFunction({ ...options, ...place, kind, tracer });
  const interrupts: number[] = [];
  fn.interruptTarget = { pin: () => interrupts.push(-1) };
  const doorbell = new MsiDoorbell(clock);
  doorbell.connect(0x100, (event) => interrupts.push(event));
  memory.placeBacking(DOORBELL_SLOT, 1, doorbellBacking(doorbell));
  iommu.map(DOORBELL_SLOT * SLOT_FRAMES, DOORBELL_SLOT * SLOT_FRAMES);
  programMessages(fn);
  fn.writeConfig(fn.config.offsetOf('COMMAND'), 2, COMMAND_MEMORY | COMMAND_MASTER);
  const outcomes: number[] = [];
  const dma = fn.dma.channel((outcome) => outcomes.push(outcome));
  return { memory, iommu, clock, fn, dma, outcomes, events, interrupts };
}

/** Each vector's message is its number, written to the doorbell. */
export function programMessages({ msix }: PciFunction): void {
  const address = BigInt(DOORBELL_SLOT * SLOT_FRAMES * FRAME_BYTES + TRANSLATER);
  for (let vector = 0; vector < (msix?.vectors ?? 0); vector++) msix!.setMessage(vector, address, vector);
}

const doorbellBacking = (doorbell: MsiDoorbell): Backing => ({
  name: 'doorbell',
  read: () => false,
  write(_frame, offset, from, requester) {
    const { byteOffset, length } = from;
    doorbell.writeRegister(offset, length, new DataView(from.buffer, byteOffset).getUint32(0, true), requester);
    return true;
  },
});

export const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

/** `length` bytes at `address` of memory. */
export function peek(memory: PhysicalMemory, address: number, length: number): Uint8Array {
  const into = new Uint8Array(length);
  if (!memory.read(Math.floor(address / 4096), address % 4096, into)) throw new Error(`no memory at ${address}`);
  return into;
}

export function poke(memory: PhysicalMemory, address: number, from: Uint8Array): void {
  if (!memory.write(Math.floor(address / 4096), address % 4096, from)) throw new Error(`no memory at ${address}`);
}
