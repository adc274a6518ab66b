/** Sv39 tables in guest memory, in one stage or two. */
import type { PhysicalMemory } from '../../../memory/physical-memory.ts';
import { load64 } from '../guest-memory.ts';
import { READ, WRITE } from '../host-space.ts';
import { atpMode, atpRoot, MODE_BARE, MODE_SV39, PTE_R, PTE_V, PTE_W, PTE_X, pteAddress } from './spec.ts';

/** Where a page is. */
export interface Found {
  readonly address: bigint;
  /** READ | WRITE */
  readonly prot: number;
}

/** Where a page is as the hardware sees it; null when it is not mapped. */
export type Through = (page: bigint) => Found | null;

const PAGE = 4096n;
const TOP = 2;
const BARE: Through = (page) => ({ address: page, prot: READ | WRITE });

/** The second stage alone: guest-physical pages, of 41 bits. */
export const secondStage = (memory: PhysicalMemory, iohgatp: bigint): Through => stage(memory, iohgatp, 41n, BARE);

/** Both: each table of the first stage is itself reached through the second one. */
export function bothStages(memory: PhysicalMemory, iosatp: bigint, iohgatp: bigint): Through {
  const second = secondStage(memory, iohgatp);
  const first = stage(memory, iosatp, 39n, second);
  return (page) => {
    const guest = first(page);
    const host = guest && second(guest.address);
    return host && { address: host.address, prot: guest.prot & host.prot };
  };
}

/** Pages that the first stage has an entry for, whatever the second one makes of them. */
export const firstStagePages = (memory: PhysicalMemory, iosatp: bigint, iohgatp: bigint): bigint[] =>
  pagesOf(memory, iosatp, 39n, secondStage(memory, iohgatp));

/** Pages that the second stage has an entry for. */
export const secondStagePages = (memory: PhysicalMemory, iohgatp: bigint): bigint[] =>
  pagesOf(memory, iohgatp, 41n, BARE);

function pagesOf(memory: PhysicalMemory, atp: bigint, inputBits: bigint, tables: Through): bigint[] {
  const pages: bigint[] = [];
  const collect = (table: bigint, level: number, base: bigint, entries: bigint): void => {
    const at = tables(table);
    for (let index = 0n; at && index < entries; index++) {
      const entry = load64(memory, at.address + 8n * index) ?? 0n;
      const page = base + (index << shiftOf(level));
      if (isLeaf(entry)) for (let n = 0n; n < 1n << BigInt(9 * level); n++) pages.push(page + n * PAGE);
      else if (entry & PTE_V && level > 0) collect(pteAddress(entry), level - 1, page, 512n);
    }
  };
  if (atpMode(atp) === MODE_SV39) collect(atpRoot(atp), TOP, 0n, 1n << (inputBits - shiftOf(TOP)));
  return pages;
}

/** @param tables leads from where a table is to where its bytes are; a root of four pages is in bytes already */
function stage(memory: PhysicalMemory, atp: bigint, inputBits: bigint, tables: Through): Through {
  if (atpMode(atp) === MODE_BARE) return BARE;
  if (atpMode(atp) !== MODE_SV39) return () => null;
  return (page) => {
    if (page >> inputBits) return null;
    let table = atpRoot(atp);
    for (let level = TOP; level >= 0; level--) {
      // The root of the second stage has 2 bits more, over four pages.
      const index = (page >> shiftOf(level)) & (level === TOP ? 0x7ffn : 0x1ffn);
      const at = tables(table);
      const entry = (at && load64(memory, at.address + 8n * index)) ?? 0n;
      if (isLeaf(entry)) {
        const prot = (entry & PTE_R ? READ : 0) | (entry & PTE_W ? WRITE : 0);
        const inside = page & ((1n << shiftOf(level)) - 1n);
        return { address: pteAddress(entry) | inside, prot };
      }
      if (!(entry & PTE_V)) return null;
      table = pteAddress(entry);
    }
    return null;
  };
}

const shiftOf = (level: number): bigint => BigInt(12 + 9 * level);
const isLeaf = (entry: bigint): boolean => (entry & PTE_V) !== 0n && (entry & (PTE_R | PTE_W | PTE_X)) !== 0n;
