/**
 * How a PCI function reaches memory: frame by frame through its ATC, by a translation request, or untranslated. An access
 * that finds no translation may wait: for the answer to a page request, or for the end of a stall (dma-channel.ts).
 */

import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import type { Clock } from '../clock.ts';
import { ABORTED, ATS_SUCCESS, type AtcHolder, DISCARDED, type Iommu, READ, STALLED, WRITE } from '../iommu.ts';
import type { Atc } from './atc.ts';
import { DISCARD, DmaChannel, type DmaPath, IN_PAGE_REQUEST, IN_STALL, REFUSED } from './dma-channel.ts';
import type { PageRequests } from './page-requests.ts';

/** IOVAs have 64 bits. */
const IOVA_FRAMES = 2 ** 52;

/** Page requests in a row for one frame that are answered with success and change nothing, before the function gives up. */
const MOST_TRIES = 8;

/** An access that misses more pages asks for them in several groups. */
const MOST_GROUP_PAGES = 32;

export interface DmaPortOptions {
  /** Of the function, for traces: its BDF. */
  readonly name: string;
  readonly iommu: Iommu;
  /** StreamID (Arm), BDF (Intel), DeviceID (AMD). */
  readonly stream: number;
  /** How interrupt controllers know the function: its requester ID, with the segment above it. */
  readonly requester: number;
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly atc: Atc;
  readonly pages: PageRequests;
  /** The function and the way to its IOMMU bear transactions that stall. PCIe proper does not (IHI 0070, 16.4). */
  readonly canStall: boolean;
  readonly tracer: Tracer;
}

export class DmaPort implements AtcHolder, DmaPath {
  /** COMMAND.MASTER and power state D0: without it the function may not send. */
  enabled: boolean;
  /** ATS control, enable bit. */
  atsEnabled: boolean;
  /** PASIDs that the function may send: 0 .. pasids - 1. None while its PASID capability is off, or not there. */
  pasids: number;
  readonly clock: Clock;
  private readonly memory: PhysicalMemory;
  private readonly name: string;
  private readonly iommu: Iommu;
  private readonly stream: number;
  private readonly requester: number;
  private readonly atc: Atc;
  private readonly pages: PageRequests;
  private readonly canStall: boolean;
  private readonly tracer: Tracer;
  private readonly channels: DmaChannel[];
  private via: 'atc' | 'iommu';

  constructor(options: DmaPortOptions) {
    this.enabled = false;
    this.atsEnabled = false;
    this.pasids = 0;
    this.clock = options.clock;
    this.memory = options.memory;
    this.name = options.name;
    this.iommu = options.iommu;
    this.stream = options.stream;
    this.requester = options.requester;
    this.atc = options.atc;
    this.pages = options.pages;
    this.canStall = options.canStall;
    this.tracer = options.tracer;
    this.channels = [];
    this.via = 'iommu';
  }

  /**
   * A channel for one access at a time. A model makes its channels once.
   * @param ended called, on the clock, with DMA_DONE or DMA_REFUSED when an access that answered DMA_WAITING is over
   * @param untranslated for messages, which never use the ATC
   */
  channel(ended: (outcome: number) => void, untranslated = false): DmaChannel {
    const channel = new DmaChannel(this, ended, untranslated);
    this.channels.push(channel);
    return channel;
  }

  /** Bus mastering or power went: accesses that wait are refused. */
  stop(): void {
    for (const channel of this.channels) channel.stop();
  }

  /** Function level reset: nobody hears any more of accesses that wait. */
  reset(): void {
    for (const channel of this.channels) channel.cancel();
    this.pages.reset();
  }

  invalidateAtc(substream: number, frame: number, log2Frames: number, global: boolean): void {
    this.atc.invalidateAtc(substream, frame, log2Frames, global);
  }

  /** Groups are told apart by their index: a response need not carry the PASID of its requests. */
  pageResponse(_substream: number, groupIndex: number, code: number): void {
    this.pages.response(groupIndex, code);
  }

  translate(channel: DmaChannel): number {
    const { frame: iovaFrame, offset, substream, access } = channel;
    if (!this.enabled || substream >= this.pasids || iovaFrame >= IOVA_FRAMES) return REFUSED;
    // A stalled transaction is sent again as what it was: untranslated.
    if (this.atsEnabled && !channel.stalled && !channel.untranslated) {
      const frame = this.translatedFrame(channel, iovaFrame, substream, access);
      if (frame === IN_PAGE_REQUEST) return frame;
      if (frame !== REFUSED) {
        this.via = 'atc';
        const answer = this.iommu.translated(this.stream, substream, frame, offset, access);
        return answer === ABORTED ? REFUSED : this.iommu.outFrame;
      }
    }
    this.via = 'iommu';
    const requester = this.canStall ? channel : null;
    const answer = this.iommu.translate(this.stream, substream, iovaFrame, offset, access, requester);
    if (answer === STALLED) return IN_STALL;
    if (answer === DISCARDED) return DISCARD;
    return answer === ABORTED ? REFUSED : this.iommu.outFrame;
  }

  note({ frame: iovaFrame, offset, substream, access }: DmaChannel, length: number, frame: number): void {
    if (!this.tracer.on) return;
    this.tracer.emit({
      type: 'dma',
      device: this.name,
      stream: this.stream,
      substream,
      iovaFrame,
      offset,
      length,
      write: access === WRITE,
      frame: Math.max(frame, -1),
      via: frame >= 0 ? this.via : WITHOUT_FRAME[frame]!,
    });
  }

  move(access: number, frame: number, offset: number, piece: Uint8Array): boolean {
    return access === READ
      ? this.memory.read(frame, offset, piece)
      : this.memory.write(frame, offset, piece, this.requester);
  }

  withdraw(channel: DmaChannel): void {
    this.iommu.withdraw(channel);
    this.pages.withdraw(channel);
  }

  /**
   * From the ATC, or by a translation request. REFUSED when the request gives no such access: a function that cannot
   * request the page then sends the access untranslated (PCIe 5.0, 10.2.3 allows it), so that the IOMMU records the fault.
   */
  private translatedFrame(channel: DmaChannel, iovaFrame: number, substream: number, access: number): number {
    const cached = this.atc.lookup(substream, iovaFrame, access);
    if (cached >= 0) return cached;
    const { iommu } = this;
    if (iommu.atsRequest(this.stream, substream, iovaFrame, access) !== ATS_SUCCESS) return REFUSED;
    if ((iommu.outPermissions & access) !== access) return this.requestPages(channel);
    const frame = iommu.outFrame;
    this.atc.fill(substream, iovaFrame, frame, iommu.outLog2Frames, iommu.outPermissions);
    return frame;
  }

  /** Asks for the frame that has no translation, and with it for those behind it that the same access will miss. */
  private requestPages(channel: DmaChannel): number {
    if (channel.tries === MOST_TRIES || !this.pages.enabled) return REFUSED;
    const { iommu, stream } = this;
    const { frame: first, substream, access } = channel;
    const last = Math.min(channel.lastFrame, first + MOST_GROUP_PAGES - 1);
    const missing = [first];
    for (let frame = first + 1; frame <= last; frame++) {
      if (iommu.atsRequest(stream, substream, frame, access) !== ATS_SUCCESS) break;
      if ((iommu.outPermissions & access) !== access) missing.push(frame);
    }
    if (this.pages.request(substream, missing, access, channel)) channel.tries++;
    return IN_PAGE_REQUEST;
  }
}

const WITHOUT_FRAME: Readonly<Record<number, 'refused' | 'stalled' | 'page-request' | 'discarded'>> = {
  [DISCARD]: 'discarded',
  [REFUSED]: 'refused',
  [IN_STALL]: 'stalled',
  [IN_PAGE_REQUEST]: 'page-request',
};
