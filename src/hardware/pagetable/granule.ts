/** The three granules of VMSAv8-64 (DDI 0487, D8.2) as frozen records: one walker serves them all. Layout facts only. */
export interface Granule {
  /** 12, 14 or 16. */
  readonly log2Bytes: number;
  /** Index bits that one level resolves. */
  readonly stride: number;
  readonly indexMask: number;
  /** Per level 0..3: log2 of the bytes, and of the 4 KiB frames, that one entry covers. */
  readonly entryLog2: Int32Array;
  readonly log2Frames: Int32Array;
  /** Bit n set: level n may hold block descriptors. */
  readonly blockLevels: number;
  /** The same where 52-bit addresses are implemented: 64 KiB gains blocks of 4 TiB. */
  readonly blockLevels52: number;
  /** Per level: log2 of the entries in a contiguous group (descriptor bit 52); 0 where there are no leaves. */
  readonly contiguous: Int32Array;
}

const LEVELS = [0, 1, 2, 3];

function granule(log2Bytes: number, blockLevels: number, blockLevels52: number, contiguous: number[]): Granule {
  const stride = log2Bytes - 3;
  const entryLog2 = Int32Array.from(LEVELS, (level) => log2Bytes + stride * (3 - level));
  return Object.freeze({
    log2Bytes,
    stride,
    indexMask: 2 ** stride - 1,
    entryLog2,
    log2Frames: entryLog2.map((n) => n - 12),
    blockLevels,
    blockLevels52,
    contiguous: Int32Array.from(contiguous),
  });
}

export const GRANULE_4K = granule(12, 0b0110, 0b0110, [0, 4, 4, 4]);
export const GRANULE_16K = granule(14, 0b0100, 0b0100, [0, 0, 5, 7]);
export const GRANULE_64K = granule(16, 0b0100, 0b0110, [0, 0, 5, 5]);

export const GRANULES: Readonly<Record<number, Granule>> = { 12: GRANULE_4K, 14: GRANULE_16K, 16: GRANULE_64K };

/** First level of a walk that resolves `inputBits` without concatenation (D8.2.6). */
export function startLevelOf(granule: Granule, inputBits: number): number {
  return 4 - Math.ceil((inputBits - granule.log2Bytes) / granule.stride);
}

/** May a stage 2 walk of `inputBits` start at `level`, with at most 16 concatenated tables (D8.2.8)? */
export function stage2StartAllowed(granule: Granule, inputBits: number, level: number): boolean {
  const least = (3 - level) * granule.stride + granule.log2Bytes + 1;
  return inputBits >= least && inputBits <= least + granule.stride - 1 + 4;
}
