/**
 * The RISC-V IOMMU (1.0) of which a hypervisor in the guest needs this much: a directory of one level, contexts of 32 bytes,
 * Sv39 in both stages, a command queue. Bits are those of the specification.
 */
import { bits } from '../guest-memory.ts';

/** Registers (chapter 6), by name. CQH and CQT are indices of commands. */
export type RiscvRegister = 'DDTP' | 'CQB' | 'CQH' | 'CQT' | 'CQCSR';

/** DDTP: mode, and the page of the directory. */
export const ddtpMode = (value: bigint): bigint => bits(value, 3, 0);
export const DDTP_BARE = 1n;
export const DDTP_1LVL = 2n;
/** Of DDTP and CQB. */
export const pageOf = (value: bigint): bigint => bits(value, 53, 10) << 12n;
export const withPage = (address: bigint): bigint => (address >> 12n) << 10n;
/** CQB: log2 of the number of commands, less 1. */
export const queueEntries = (value: bigint): bigint => 2n << bits(value, 4, 0);
export const CQEN = 1n;
export const CMD_ILL = 1n << 10n;

/** Device context, base format (3.1.3): four doublewords. One page has 128 of them. */
export const CONTEXT_BYTES = 32n;
export const CONTEXTS = 128;
export const TC_V = 1n;
/** iohgatp and iosatp. */
export const MODE_BARE = 0n;
export const MODE_SV39 = 8n;
export const atpMode = (value: bigint): bigint => bits(value, 63, 60);
export const atpRoot = (value: bigint): bigint => bits(value, 43, 0) << 12n;
export const withMode = (root: bigint): bigint => (MODE_SV39 << 60n) | (root >> 12n);
export const GSCID_SHIFT = 44n;
export const gscid = (value: bigint): number => Number(bits(value, 59, 44));
/** ta, and IOTINVAL. */
export const PSCID_SHIFT = 12n;
export const pscid = (value: bigint): number => Number(bits(value, 31, 12));

/** Entries of tables (privileged architecture, Sv39). */
export const PTE_V = 1n;
export const PTE_R = 1n << 1n;
export const PTE_W = 1n << 2n;
export const PTE_X = 1n << 3n;
export const PTE_U = 1n << 4n;
export const PTE_A = 1n << 6n;
export const PTE_D = 1n << 7n;
export const pteAddress = (value: bigint): bigint => bits(value, 53, 10) << 12n;
export const withPpn = (address: bigint): bigint => (address >> 12n) << 10n;
/** The root of the second stage has four pages: Sv39x4 translates 41 bits. */
export const G_ROOT_PAGES = 4;

/** Commands (4.1): an opcode, a function, and operands that say whether they count. */
export const COMMAND_BYTES = 16n;
export const opcode = (low: bigint): bigint => bits(low, 6, 0);
export const func3 = (low: bigint): bigint => bits(low, 9, 7);
export const FUNC3_SHIFT = 7n;
export const IOTINVAL = 1n;
export const VMA = 0n;
export const GVMA = 1n;
export const IOFENCE = 2n;
export const IODIR = 3n;
export const AV = 1n << 10n;
export const PSCV = 1n << 32n;
export const GV = 1n << 33n;
export const DV = 1n << 33n;
export const DID_SHIFT = 40n;
export const deviceId = (low: bigint): number => Number(bits(low, 63, 40));
/** ADDR[63:12] is in bits 61:10. */
export const commandAddress = (high: bigint): bigint => bits(high, 61, 10) << 12n;
export const withAddress = (address: bigint): bigint => (address >> 12n) << 10n;
