/** What a device asks its IOMMU, whoever made the IOMMU. Frames are 4 KiB frame numbers; see DESIGN, "Words". */

/** Access bits of a transaction and permission bits of its answer. */
export const READ = 1;
export const WRITE = 2;
export const EXECUTE = 4;
export const PRIVILEGED = 8;

/** "No PASID / substream" for `substream` arguments. */
export const NO_SUBSTREAM = -1;

/** Outcome of a translation. A refusal has already been recorded by the IOMMU in its event queue where its specification says so. */
export const TRANSLATED = 0;
export const ABORTED = 1;
/** Held by the IOMMU, without a response, until software has decided what becomes of it. */
export const STALLED = 2;
/** Ended without an error: a read gives zeros, a write is ignored (RAZ/WI). */
export const DISCARDED = 3;

/** Outcome of an ATS translation request, as PCIe completion status (PCIe 10.2.3). */
export const ATS_SUCCESS = 0;
export const ATS_UNSUPPORTED_REQUEST = 1;
export const ATS_COMPLETER_ABORT = 4;

/** PRG response codes (PCIe 5.0, 10.4.2.1). */
export const PRG_SUCCESS = 0b0000;
export const PRG_INVALID = 0b0001;
export const PRG_FAILURE = 0b1111;

/** A page request message (PCIe 5.0, 10.4.1). */
export interface PageRequest {
  readonly stream: number;
  /** PASID, or NO_SUBSTREAM. */
  readonly substream: number;
  readonly frame: number;
  /** 0 .. 511 */
  readonly groupIndex: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
  /** The last one of its group, which is answered as a whole. */
  readonly last: boolean;
}

/** Who waits for a stalled transaction; one at a time. */
export interface Requester {
  /**
   * The transaction is to be sent again as though it were new (`retry`), or has ended: with an abort, or DISCARDED.
   * Called within the command that says so: nothing may be sent before the clock's next turn.
   */
  stallEnded(retry: boolean, discarded?: boolean): void;
}

export interface Iommu {
  /**
   * Translates one frame of an untranslated transaction.
   * @param stream   StreamID (Arm), BDF (Intel), DeviceID (AMD)
   * @param substream PASID / SubstreamID, or NO_SUBSTREAM
   * @param frame    IOVA >> 12, 0 .. 2^52 - 1
   * @param offset   IOVA & 0xfff, only for fault records
   * @param access   READ | WRITE | EXECUTE | PRIVILEGED
   * @param requester who can wait; without one the transaction never stalls
   * @returns TRANSLATED, with `outFrame` set, ABORTED, DISCARDED, or STALLED, after which `requester` is called
   */
  translate(
    stream: number,
    substream: number,
    frame: number,
    offset: number,
    access: number,
    requester?: Requester | null,
  ): number;

  /** `requester` does not wait any more (reset). What software is yet to say of its stalled transaction reaches nobody. */
  withdraw(requester: Requester): void;

  /** May a translated (ATS) transaction of this stream pass? TRANSLATED, with `outFrame` set, or ABORTED (recorded). */
  translated(stream: number, substream: number, frame: number, offset: number, access: number): number;

  /**
   * An ATS translation request (PCIe 10.2.2) for one frame.
   * @returns ATS_SUCCESS with `outFrame`, `outLog2Frames`, `outPermissions`, or another completion status.
   *   ATS_SUCCESS with `outPermissions` 0 means: no access, do not cache.
   */
  atsRequest(stream: number, substream: number, frame: number, access: number): number;

  /** A page request message of a device. The response comes by AtcHolder.pageResponse, if one is due. */
  pageRequest(request: PageRequest): void;

  /** Physical frame of the last successful call. */
  readonly outFrame: number;
  /** log2 of the naturally aligned frames around it that the same answer covers (0 = one frame). */
  readonly outLog2Frames: number;
  /** READ | WRITE | EXECUTE granted; of the last successful atsRequest. */
  readonly outPermissions: number;
}

/** A device's side of invalidation: who holds an ATC behind an IOMMU registers itself under its stream. */
export interface AtcHolder {
  /**
   * Drops ATC entries in [frame, frame + 2^log2Frames), or at every address with log2Frames >= 52: those of `substream`,
   * or with `global` those of every PASID and of none. NO_SUBSTREAM is an invalidation without a PASID prefix, and takes
   * entries that were requested with a PASID, too: there is none for the entries without PASID alone (PCIe 5.0, 10.3).
   */
  invalidateAtc(substream: number, frame: number, log2Frames: number, global: boolean): void;
  /** Page request group response (PRI): PRG_*. May come within a command: nothing may be sent before the clock's next turn. */
  pageResponse(substream: number, groupIndex: number, code: number): void;
}

/** A block of registers on the memory bus. 8-byte accesses are split by the bus, low word first. */
export interface MmioDevice {
  /** @param size 1, 2 or 4 bytes, naturally aligned */
  readRegister(offset: number, size: number): number;
  /** @param requester number of the device that writes, as interrupt controllers know it; absent for a CPU */
  writeRegister(offset: number, size: number, value: number, requester?: number): void;
  /**
   * A write that comes by DMA: it arrives in the clock's next turn, when whoever sent it (this very device, perhaps) has
   * moved on. Absent where nothing that a write sets off writes to registers: there it arrives at once.
   * @param from its bytes, which are the caller's again afterwards
   */
  postWrite?(offset: number, from: Uint8Array): void;
}

/** A wired or message interrupt line towards whoever listens; called on the machine's clock, never re-entrantly. */
export type InterruptLine = () => void;
