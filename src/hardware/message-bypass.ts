/**
 * What lies between functions and their IOMMU where messages (MSI) do not go through it: untranslated writes to a range of
 * addresses are messages, and the bus takes them to the doorbell, as on x86 and on some Arm machines.
 */
import { type Iommu, NO_SUBSTREAM, type PageRequest, type Requester, TRANSLATED, WRITE } from './iommu.ts';

export interface MessageRange {
  readonly firstFrame: number;
  readonly lastFrame: number;
  /** Frame of the doorbell, behind each of the range's. */
  readonly doorbellFrame: number;
}

export class MessageBypass implements Iommu {
  private readonly iommu: Iommu;
  private readonly range: MessageRange;
  /** Of the last translation, where it was not the IOMMU's. */
  private ownFrame: number;

  constructor(iommu: Iommu, range: MessageRange) {
    this.iommu = iommu;
    this.range = range;
    this.ownFrame = -1;
  }

  get outFrame(): number {
    return this.ownFrame < 0 ? this.iommu.outFrame : this.ownFrame;
  }

  get outLog2Frames(): number {
    return this.iommu.outLog2Frames;
  }

  get outPermissions(): number {
    return this.iommu.outPermissions;
  }

  translate(
    stream: number,
    substream: number,
    frame: number,
    offset: number,
    access: number,
    requester: Requester | null = null,
  ): number {
    const { firstFrame, lastFrame, doorbellFrame } = this.range;
    if (substream === NO_SUBSTREAM && access === WRITE && frame >= firstFrame && frame <= lastFrame) {
      this.ownFrame = doorbellFrame;
      return TRANSLATED;
    }
    this.ownFrame = -1;
    return this.iommu.translate(stream, substream, frame, offset, access, requester);
  }

  translated(stream: number, substream: number, frame: number, offset: number, access: number): number {
    this.ownFrame = -1;
    return this.iommu.translated(stream, substream, frame, offset, access);
  }

  atsRequest(stream: number, substream: number, frame: number, access: number): number {
    this.ownFrame = -1;
    return this.iommu.atsRequest(stream, substream, frame, access);
  }

  withdraw(requester: Requester): void {
    this.iommu.withdraw(requester);
  }

  pageRequest(request: PageRequest): void {
    this.iommu.pageRequest(request);
  }
}
