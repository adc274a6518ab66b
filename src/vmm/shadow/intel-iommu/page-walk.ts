/** Second-level tables of the guest (9.8), entry by entry. */
import type { PhysicalMemory } from '../../../memory/physical-memory.ts';
import type { ShadowFaults } from '../faults.ts';
import { load64 } from '../guest-memory.ts';
import { READ, type Span, WRITE } from '../host-space.ts';
import type { Leaf } from '../shadow-space.ts';
import { SL_PAGE_SIZE, SL_READ, SL_WRITE, tableAddress } from './spec.ts';

const LOWEST = 1;

export interface Tables {
  readonly root: bigint;
  readonly levels: number;
}

/** Who is told of each entry. */
export interface Visitor {
  leaf(leaf: Leaf): void;
  /** Nothing is mapped in all that the entry stands for. */
  absent(span: Span): void;
}

/** Bytes that an entry of `level` stands for, as a power of two. */
const shiftOf = (level: number): bigint => BigInt(12 + 9 * (level - 1));

export const lastAddress = ({ levels }: Tables): bigint => (1n << shiftOf(levels + 1)) - 1n;

/** Visits every leaf and every absent entry, of whichever level, that shares an address with `span`. */
export function walk(memory: PhysicalMemory, tables: Tables, span: Span, visitor: Visitor, faults: ShadowFaults): void {
  const top = lastAddress(tables);
  const last = span.last < top ? span.last : top;
  if (span.start <= last) visit(tables.root, tables.levels, 0n, { start: span.start, last });

  function visit(table: bigint, level: number, base: bigint, { start, last }: Span): void {
    const shift = shiftOf(level);
    const bytes = 1n << shift;
    for (let index = (start - base) >> shift; index <= (last - base) >> shift; index++) {
      const iova = base + index * bytes;
      const end = iova + bytes - 1n;
      const entry = load64(memory, table + 8n * index) ?? 0n;
      const prot = (entry & SL_READ ? READ : 0) | (entry & SL_WRITE ? WRITE : 0);
      if (!prot) {
        if (level === LOWEST || !faults.skipAbsentTables) visitor.absent({ start: iova, last: end });
      } else if (level === LOWEST || (level <= 3 && entry & SL_PAGE_SIZE)) {
        visitor.leaf({ iova, gpa: tableAddress(entry) & -bytes, length: bytes, prot });
      } else {
        const inside = { start: iova > start ? iova : start, last: end < last ? end : last };
        visit(tableAddress(entry), level - 1, iova, inside);
      }
    }
  }
}
