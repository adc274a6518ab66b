/** One translation table as its controls describe it: TTB0 or TTB1 of a CD, or the S2TTB of an STE. */
import { GRANULE_4K, type Granule } from './granule.ts';

export class TableRoot {
  granule: Granule;
  startLevel: number;
  /** Lowest address bit that the first table resolves. */
  startPosition: number;
  /** The input address must be below this many frames. */
  inputFrames: number;
  inputLog2Frames: number;
  /** The same as bits 51:32 and 31:0 that must be 0. */
  inputHighLimit: number;
  inputLowLimit: number;
  /** First table, aligned to its size with all concatenated tables: address bits 51:32, and 31:0 as int32. */
  high: number;
  low: number;
  /** Bits of a descriptor's high word that must be 0, or the output address is too large. */
  highLimit: number;
  /** The same in the low word: address bits 51:48 at 15:12, with 52-bit addresses and 64 KiB. */
  lowLimit: number;
  /** Low-word bits that carry address bits 51:48: 15:12 with 52-bit addresses and 64 KiB, otherwise none. */
  wideBits: number;
  blockLevels: number;
  /** AF = 0 faults (AFFD = 0), or the walk sets it (HA = 1), or it is not looked at. */
  accessFlagFaults: boolean;
  updatesAccess: boolean;
  /** A write makes writable-clean leaves (DBM = 1) dirty (HA = HD = 1). */
  updatesDirty: boolean;
  /** Stage 1: APTable, UXNTable and PXNTable count (HAD = 0). */
  hierarchical: boolean;
  /** Stage 1: WXN (writable is never executable) and PAN (privileged may not touch what unprivileged may) of leaf.ts. */
  wxnAndPan: number;
  /** Stage 2: XNX of leaf.ts when XN[1:0] tells privileged from unprivileged execution, or 0. */
  xnxBit: number;
  /** Stage 2: tables of stage 1 and CDs may not lie in what it maps as Device memory (STE.S2PTW). */
  protectsTables: boolean;

  constructor() {
    this.granule = GRANULE_4K;
    this.startLevel = 0;
    this.startPosition = 0;
    this.inputFrames = 0;
    this.inputLog2Frames = 0;
    this.inputHighLimit = 0;
    this.inputLowLimit = 0;
    this.high = 0;
    this.low = 0;
    this.highLimit = 0;
    this.lowLimit = 0;
    this.wideBits = 0;
    this.blockLevels = 0;
    this.accessFlagFaults = true;
    this.updatesAccess = false;
    this.updatesDirty = false;
    this.hierarchical = true;
    this.wxnAndPan = 0;
    this.xnxBit = 0;
    this.protectsTables = false;
  }

  /**
   * @param inputBits  log2 bytes of the input range
   * @param frame, offset address of the table as programmed
   * @param outputBits effective output size (IPS, S2PS), at most `implementedBits`
   * @param implementedBits output address size of the implementation (OAS)
   */
  configure(
    granule: Granule,
    inputBits: number,
    startLevel: number,
    frame: number,
    offset: number,
    outputBits: number,
    implementedBits: number,
  ): void {
    this.granule = granule;
    this.startLevel = startLevel;
    this.startPosition = granule.entryLog2[startLevel]!;
    this.inputLog2Frames = inputBits - 12;
    this.inputFrames = 2 ** this.inputLog2Frames;
    this.inputHighLimit = inputBits > 32 ? -1 << (inputBits - 32) : -1;
    this.inputLowLimit = inputBits < 32 ? -1 << inputBits : 0;
    const wide = implementedBits === 52 && granule.log2Bytes === 16;
    this.wideBits = wide ? 0xf000 : 0;
    const limit = wide ? outputBits : Math.min(outputBits, 48);
    this.highLimit = limit >= 48 ? 0 : (0xffff << (limit - 32)) & 0xffff;
    this.lowLimit = wide && limit < 52 ? 0xf000 : 0;
    this.blockLevels = implementedBits === 52 ? granule.blockLevels52 : granule.blockLevels;
    this.high = Math.floor(frame / 2 ** 20);
    this.low = ((frame - this.high * 2 ** 20) << 12) | offset;
    // Address bits below the size of the table count as 0; with 52-bit output it has at least 64 bytes (D8.2.9).
    const bytes = 2 ** (inputBits - granule.entryLog2[startLevel]!) * 8;
    this.low &= -Math.max(bytes, outputBits === 52 ? 64 : 16);
  }

  /** AFFD, HA and HD of the stage (IHI 0070, 3.13): AFFD counts only without HA, and HD only with it. */
  configureFlags(accessFlagFaultDisable: boolean, updateAccess: boolean, updateDirty: boolean): void {
    this.accessFlagFaults = !accessFlagFaultDisable && !updateAccess;
    this.updatesAccess = updateAccess;
    this.updatesDirty = updateAccess && updateDirty;
  }
}
