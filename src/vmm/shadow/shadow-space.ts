/** What the guest has mapped for one device, mirrored in the host's IOVA space for it: leaf by leaf, and RAM only. */
import { Interval, IntervalTree } from '../../iommufd/interval.ts';
import { Refused } from '../client.ts';
import { GUEST_BASE } from '../guest/ram.ts';
import type { HostSpace, Span } from './host-space.ts';

/** A leaf of the guest's tables, or what it says without tables. Bytes. */
export interface Leaf {
  readonly iova: bigint;
  readonly gpa: bigint;
  readonly length: bigint;
  /** READ | WRITE */
  readonly prot: number;
}

/** Where guest RAM is in the process. */
export interface RamWindow {
  readonly userVa: bigint;
  readonly bytes: number;
}

class MirroredLeaf extends Interval {
  readonly gpa: bigint;
  readonly prot: number;

  constructor({ iova, gpa, length, prot }: Leaf) {
    super(iova, iova + length - 1n);
    this.gpa = gpa;
    this.prot = prot;
  }
}

export class ShadowSpace {
  readonly host: HostSpace;
  private readonly ram: RamWindow;
  private leaves: IntervalTree<MirroredLeaf>;

  constructor(host: HostSpace, ram: RamWindow) {
    this.host = host;
    this.ram = ram;
    this.leaves = new IntervalTree();
  }

  /** What is mirrored, lowest first. */
  get mirrored(): Leaf[] {
    return [...this.leaves].map(({ start, length, gpa, prot }) => ({ iova: start, gpa, length, prot }));
  }

  /** Has the mirror say `leaf` in its range. @returns whether the host takes it: otherwise nothing is mapped there */
  set(leaf: Leaf): boolean {
    const part = this.insideRam(leaf);
    if (part && this.has(part)) return true;
    this.clear({ start: leaf.iova, last: leaf.iova + leaf.length - 1n });
    if (!part) return true;
    const { iova, gpa, length, prot } = part;
    try {
      this.host.map(iova, this.ram.userVa + gpa - GUEST_BASE, length, prot);
    } catch (error) {
      if (error instanceof Refused) return false;
      throw error;
    }
    this.leaves.insert(new MirroredLeaf(part));
    return true;
  }

  /** Takes away every leaf that shares an address with [start, last]. The host unmaps whole leaves only. */
  clear({ start, last }: Span): void {
    for (let leaf = this.leaves.first(start, last); leaf; leaf = this.leaves.first(start, last)) {
      this.host.unmap(leaf.start, leaf.length);
      this.leaves.remove(leaf);
    }
  }

  /** Has the mirror say `leaves`, and nothing else. */
  only(leaves: readonly Leaf[]): void {
    const starts = new Map(leaves.map((leaf) => [leaf.iova, leaf]));
    for (const { iova, length } of this.mirrored) {
      if (starts.get(iova)?.length !== length) this.clear({ start: iova, last: iova + length - 1n });
    }
    for (const leaf of leaves) this.set(leaf);
  }

  clearAll(): void {
    this.host.unmapAll();
    this.leaves = new IntervalTree();
  }

  /** The whole of guest RAM at its own addresses: what a device reaches untranslated. */
  ramItself(prot: number): Leaf {
    return { iova: GUEST_BASE, gpa: GUEST_BASE, length: BigInt(this.ram.bytes), prot };
  }

  /** [start, last] with the whole of the leaves at its ends: one that was replaced by smaller ones goes as a whole. */
  withWholeLeaves({ start, last }: Span): Span {
    const lowest = this.leaves.at(start)?.start ?? start;
    const highest = this.leaves.at(last)?.last ?? last;
    return { start: lowest, last: highest };
  }

  private has({ iova, gpa, length, prot }: Leaf): boolean {
    const there = this.leaves.at(iova);
    return there?.start === iova && there.length === length && there.gpa === gpa && there.prot === prot;
  }

  /** What of `leaf` leads to RAM: the rest has nothing that a device could reach. */
  private insideRam({ iova, gpa, length, prot }: Leaf): Leaf | null {
    const below = gpa < GUEST_BASE ? GUEST_BASE - gpa : 0n;
    const end = GUEST_BASE + BigInt(this.ram.bytes);
    const above = gpa + length > end ? gpa + length - end : 0n;
    const left = length - below - above;
    return left > 0n ? { iova: iova + below, gpa: gpa + below, length: left, prot } : null;
  }
}
