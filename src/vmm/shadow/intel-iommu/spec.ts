/**
 * Intel VT-d, of which a guest in legacy mode with second-level tables and a queue of invalidations needs this much. Bits
 * are those of the specification; entries of 128 bits are two numbers of 64.
 */
import { bits } from '../guest-memory.ts';

/** Registers (11.4), by name: where they are is nobody's concern here. */
export type VtdRegister = 'CAP' | 'ECAP' | 'GCMD' | 'GSTS' | 'RTADDR' | 'FSTS' | 'IQH' | 'IQT' | 'IQA';

export const CAP_CM = 1n << 7n;
/** Tables of 3 and of 4 levels. */
export const CAP_SAGAW_39_48 = 0b110n << 8n;
export const CAP_MGAW_48 = 47n << 16n;
/** Leaves of 2 MiB and of 1 GiB. */
export const CAP_SLLPS_2M_1G = 0b11n << 34n;
export const CAP_PSI = 1n << 39n;
export const CAP_MAMV_SHIFT = 48n;
export const ECAP_QI = 1n << 1n;
export const ECAP_PT = 1n << 6n;

/** GCMD and GSTS have the same bits. */
export const TE = 1n << 31n;
export const SRTP = 1n << 30n;
export const QIE = 1n << 26n;
/** FSTS: Invalidation Queue Error. */
export const FSTS_IQE = 1n << 4n;

/** Of RTADDR, IQA, and every entry that leads to a table. */
export const tableAddress = (value: bigint): bigint => bits(value, 51, 12) << 12n;

/** Root entries (9.1) are indexed by bus, context entries (9.3) by device and function. Both have 16 bytes. */
export const ENTRY_BYTES = 16n;
export const PRESENT = 1n;
export const contextType = (low: bigint): bigint => bits(low, 3, 2);
export const TT_UNTRANSLATED = 0n;
export const TT_PASS_THROUGH = 0b10n;
export const contextWidth = (high: bigint): number => Number(bits(high, 2, 0));
/** Address width (AW) of tables with `levels` levels: 1 has 39 bits, 2 has 48. */
export const widthOf = (levels: number): number => levels - 2;
export const contextDomain = (high: bigint): number => Number(bits(high, 23, 8));
export const DOMAIN_SHIFT = 8n;

/** Second-level entries (9.8). */
export const SL_READ = 1n;
export const SL_WRITE = 1n << 1n;
export const SL_PAGE_SIZE = 1n << 7n;

/** Descriptors of the invalidation queue (6.5.2), 128 bits. */
export const DESCRIPTOR_BYTES = 16n;
export const CONTEXT_INVALIDATE = 1n;
export const IOTLB_INVALIDATE = 2n;
export const INVALIDATION_WAIT = 5n;
export const descriptorType = (low: bigint): bigint => (bits(low, 11, 9) << 4n) | bits(low, 3, 0);
export const granularity = (low: bigint): bigint => bits(low, 5, 4);
/** Granularities of both kinds; the third one is a device for contexts, and pages for the IOTLB. */
export const GLOBAL = 1n;
export const DOMAIN = 2n;
export const DEVICE = 3n;
export const PAGES = 3n;
export const descriptorDomain = (low: bigint): number => Number(bits(low, 31, 16));
export const descriptorSource = (low: bigint): number => Number(bits(low, 47, 32));
/** How many low bits of the function number do not count, with the mask for them: 0, bit 2, bits 2:1, bits 2:0. */
export const functionMask = (low: bigint): number => [0, 0b100, 0b110, 0b111][Number(bits(low, 49, 48))]!;
export const addressMask = (high: bigint): number => Number(bits(high, 5, 0));
export const WAIT_STATUS_WRITE = 1n << 5n;
/** Of IQH and IQT: descriptors of 128 bits. */
export const queueOffset = (value: bigint): bigint => bits(value, 18, 4) << 4n;
export const waitAddress = (high: bigint): bigint => bits(high, 63, 2) << 2n;
export const waitStatus = (low: bigint): number => Number(bits(low, 63, 32));
