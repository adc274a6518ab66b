/** Accesses to guest memory by an emulated IOMMU: tables and commands may be anywhere, and nowhere. */
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import { frameOf } from '../guest/ram.ts';

/** Little-endian, at a multiple of 8; null where there is no RAM. */
export function load64(memory: PhysicalMemory, gpa: bigint): bigint | null {
  if (gpa >> 52n || !memory.load64(frameOf(gpa), Number(gpa & 0xfffn))) return null;
  return (BigInt(memory.hi >>> 0) << 32n) | BigInt(memory.lo >>> 0);
}

/** Little-endian, at a multiple of 4; nothing where there is no RAM. */
export function store32(memory: PhysicalMemory, gpa: bigint, value: number): void {
  if (gpa >> 52n) return;
  memory.write(frameOf(gpa), Number(gpa & 0xfffn), new Uint8Array(Uint32Array.of(value).buffer));
}

/** Bits [high:low] of `value`, as specifications number them. */
export const bits = (value: bigint, high: number, low: number): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
