/**
 * How a PCI function reaches memory. Each frame of an access goes through the ATC, or a translation request, or is sent
 * untranslated; then the bytes move. A refused frame ends the access: bytes before it have moved, as on the bus.
 */

import { FRAME_BYTES, type PhysicalMemory } from '../../memory/physical-memory.ts';
import type { Tracer } from '../../trace/events.ts';
import { ABORTED, ATS_SUCCESS, type Iommu, READ, WRITE } from '../iommu.ts';
import type { Atc } from './atc.ts';

/** IOVAs have 64 bits. */
const IOVA_FRAMES = 2 ** 52;

const REFUSED = -1;

export interface DmaPortOptions {
  /** Of the function, for traces: its BDF. */
  readonly name: string;
  readonly iommu: Iommu;
  /** StreamID (Arm), BDF (Intel), DeviceID (AMD). */
  readonly stream: number;
  readonly memory: PhysicalMemory;
  readonly atc: Atc;
  readonly tracer: Tracer;
}

export class DmaPort {
  /** COMMAND.MASTER and power state D0: without it the function may not send. */
  enabled: boolean;
  /** ATS control, enable bit. */
  atsEnabled: boolean;
  /** PASIDs that the function may send: 0 .. pasids - 1. None while its PASID capability is off, or not there. */
  pasids: number;
  private readonly name: string;
  private readonly iommu: Iommu;
  private readonly stream: number;
  private readonly memory: PhysicalMemory;
  private readonly atc: Atc;
  private readonly tracer: Tracer;
  private via: 'atc' | 'iommu';

  constructor(options: DmaPortOptions) {
    this.enabled = false;
    this.atsEnabled = false;
    this.pasids = 0;
    this.name = options.name;
    this.iommu = options.iommu;
    this.stream = options.stream;
    this.memory = options.memory;
    this.atc = options.atc;
    this.tracer = options.tracer;
    this.via = 'iommu';
  }

  /**
   * Reads `into.length` bytes from IOVA iovaFrame * 4096 + offset.
   * @param substream PASID, or NO_SUBSTREAM
   * @returns false when any frame of it was refused or aborted, or the function may not send that PASID
   */
  read(iovaFrame: number, offset: number, into: Uint8Array, substream: number): boolean {
    return this.access(iovaFrame, offset, into, substream, READ);
  }

  /** Writes `from` to IOVA iovaFrame * 4096 + offset; otherwise as read(). */
  write(iovaFrame: number, offset: number, from: Uint8Array, substream: number): boolean {
    return this.access(iovaFrame, offset, from, substream, WRITE);
  }

  private access(iovaFrame: number, offset: number, bytes: Uint8Array, substream: number, access: number): boolean {
    for (let done = 0; done < bytes.length; iovaFrame++, offset = 0) {
      const length = Math.min(FRAME_BYTES - offset, bytes.length - done);
      const piece = length === bytes.length ? bytes : bytes.subarray(done, done + length);
      const frame = this.translate(iovaFrame, offset, substream, access);
      const moved = frame !== REFUSED && this.move(frame, offset, piece, access);
      if (this.tracer.on) this.note(iovaFrame, offset, length, substream, access, moved ? frame : REFUSED);
      if (!moved) return false;
      done += length;
    }
    return true;
  }

  private move(frame: number, offset: number, piece: Uint8Array, access: number): boolean {
    return access === READ ? this.memory.read(frame, offset, piece) : this.memory.write(frame, offset, piece);
  }

  private translate(iovaFrame: number, offset: number, substream: number, access: number): number {
    if (!this.enabled || substream >= this.pasids || iovaFrame >= IOVA_FRAMES) return REFUSED;
    if (this.atsEnabled) {
      const frame = this.translatedFrame(iovaFrame, substream, access);
      if (frame !== REFUSED) {
        this.via = 'atc';
        const answer = this.iommu.translated(this.stream, substream, frame, offset, access);
        return answer === ABORTED ? REFUSED : this.iommu.outFrame;
      }
    }
    this.via = 'iommu';
    const answer = this.iommu.translate(this.stream, substream, iovaFrame, offset, access);
    return answer === ABORTED ? REFUSED : this.iommu.outFrame;
  }

  /**
   * From the ATC, or by a translation request. REFUSED when the request gives no such access: a function without page
   * requests then sends the access untranslated (PCIe 5.0, 10.2.3 allows it), so that the IOMMU records the fault.
   */
  private translatedFrame(iovaFrame: number, substream: number, access: number): number {
    const cached = this.atc.lookup(substream, iovaFrame, access);
    if (cached >= 0) return cached;
    const { iommu } = this;
    if (iommu.atsRequest(this.stream, substream, iovaFrame, access) !== ATS_SUCCESS) return REFUSED;
    if ((iommu.outPermissions & access) !== access) return REFUSED;
    const frame = iommu.outFrame;
    this.atc.fill(substream, iovaFrame, frame, iommu.outLog2Frames, iommu.outPermissions);
    return frame;
  }

  private note(
    iovaFrame: number,
    offset: number,
    length: number,
    substream: number,
    access: number,
    frame: number,
  ): void {
    this.tracer.emit({
      type: 'dma',
      device: this.name,
      stream: this.stream,
      substream,
      iovaFrame,
      offset,
      length,
      write: access === WRITE,
      frame,
      via: frame === REFUSED ? 'refused' : this.via,
    });
  }
}
