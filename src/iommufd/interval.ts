/**
 * Disjoint intervals of a 64-bit address space in a balanced (AVL) tree. Every node knows the free space inside its
 * subtree, so that finding room, like finding, inserting and removing an interval, costs the logarithm of their number.
 * The intervals are the nodes: an IOAS may hold a million of them.
 */

/** Up to here an address is exact as a number. */
const EXACT = 2 ** 53;
/** What the difference of two larger addresses may be off by, as numbers. */
const ROUNDING = 2 ** 13;

/** One interval, both bounds inclusive; in at most one tree at a time. */
export class Interval {
  readonly start: bigint;
  readonly last: bigint;
  /** Tree links, and of the subtree from here: height, leftmost and rightmost interval. */
  left: Interval | null;
  right: Interval | null;
  height: number;
  lowest: Interval;
  highest: Interval;
  /**
   * The largest hole between two intervals of the subtree. This and the bounds as numbers: as bigints they made garbage in
   * old objects at every change, and a change among 10^6 intervals took ten times as long.
   */
  hole: number;
  readonly startNumber: number;
  readonly lastNumber: number;

  constructor(start: bigint, last: bigint) {
    if (start > last) throw new Error(`interval [${start}, ${last}] is empty`);
    this.start = start;
    this.last = last;
    this.left = null;
    this.right = null;
    this.height = 1;
    this.lowest = this;
    this.highest = this;
    this.hole = 0;
    this.startNumber = Number(start);
    this.lastNumber = Number(last);
  }

  get length(): bigint {
    return this.last - this.start + 1n;
  }
}

/** Decides about the free range [start, last]: the address to use in it, or null to go on looking. */
export type Choose = (start: bigint, last: bigint) => bigint | null;

export class IntervalTree<T extends Interval> {
  private root: Interval | null;
  private count: number;

  constructor() {
    this.root = null;
    this.count = 0;
  }

  get size(): number {
    return this.count;
  }

  /** `interval` must not overlap what is there. */
  insert(interval: T): void {
    this.root = insert(this.root, interval);
    this.count++;
  }

  /** `interval` must be there. */
  remove(interval: T): void {
    this.root = remove(this.root, interval);
    interval.left = interval.right = null;
    update(interval);
    this.count--;
  }

  /** The lowest interval that shares an address with [start, last]. */
  first(start: bigint, last: bigint): T | null {
    let found: Interval | null = null;
    for (let node = this.root; node; ) {
      if (node.last >= start) {
        found = node;
        node = node.left;
      } else {
        node = node.right;
      }
    }
    return found && found.start <= last ? (found as T) : null;
  }

  /** The interval that holds `address`. */
  at(address: bigint): T | null {
    return this.first(address, address);
  }

  /**
   * Offers `choose` the free ranges of at least `length` bytes inside [start, last], lowest first, until it takes one.
   */
  findFree(start: bigint, last: bigint, length: bigint, choose: Choose): bigint | null {
    return findFree(this.root, start, last, length, choose);
  }

  /** All, lowest first. The tree must not change meanwhile. */
  *[Symbol.iterator](): Generator<T> {
    const path: Interval[] = [];
    for (let node = this.root; node || path.length; ) {
      if (node) {
        path.push(node);
        node = node.left;
      } else {
        const next = path.pop()!;
        yield next as T;
        node = next.right;
      }
    }
  }
}

function findFree(node: Interval | null, start: bigint, last: bigint, length: bigint, choose: Choose): bigint | null {
  if (last - start + 1n < length) return null;
  if (!node) return choose(start, last);
  if (hasNoHole(node, length)) {
    // Nothing between the intervals of this subtree: only before and after all of them.
    const { lowest, highest } = node;
    const before = lowest.start <= last ? lowest.start - 1n : last;
    const found = before - start + 1n >= length ? choose(start, before) : null;
    const after = highest.last >= start ? highest.last + 1n : start;
    return found ?? (last - after + 1n >= length ? choose(after, last) : null);
  }
  const before = node.start <= last ? node.start - 1n : last;
  const after = node.last >= start ? node.last + 1n : start;
  return findFree(node.left, start, before, length, choose) ?? findFree(node.right, after, last, length, choose);
}

function hasNoHole(node: Interval, length: bigint): boolean {
  const hole = node.highest.lastNumber < EXACT ? node.hole : node.hole + ROUNDING;
  return hole < Number(length);
}

function insert(node: Interval | null, added: Interval): Interval {
  if (!node) return added;
  if (added.last < node.start) node.left = insert(node.left, added);
  else if (added.start > node.last) node.right = insert(node.right, added);
  else throw new Error(`interval [${added.start}, ${added.last}] overlaps [${node.start}, ${node.last}]`);
  return balance(node);
}

function remove(node: Interval | null, gone: Interval): Interval | null {
  if (!node) throw new Error(`interval [${gone.start}, ${gone.last}] is not in this tree`);
  if (node !== gone) {
    if (gone.start < node.start) node.left = remove(node.left, gone);
    else node.right = remove(node.right, gone);
    return balance(node);
  }
  if (!node.left || !node.right) return node.left ?? node.right;
  let next = node.right;
  while (next.left) next = next.left;
  next.right = remove(node.right, next);
  next.left = node.left;
  return balance(next);
}

function balance(node: Interval): Interval {
  const tilt = height(node.left) - height(node.right);
  if (tilt > 1) {
    if (height(node.left!.left) < height(node.left!.right)) node.left = rotateLeft(node.left!);
    return rotateRight(node);
  }
  if (tilt < -1) {
    if (height(node.right!.right) < height(node.right!.left)) node.right = rotateRight(node.right!);
    return rotateLeft(node);
  }
  update(node);
  return node;
}

function rotateLeft(node: Interval): Interval {
  const top = node.right!;
  node.right = top.left;
  top.left = node;
  update(node);
  update(top);
  return top;
}

function rotateRight(node: Interval): Interval {
  const top = node.left!;
  node.left = top.right;
  top.right = node;
  update(node);
  update(top);
  return top;
}

function update(node: Interval): void {
  const { left, right } = node;
  node.height = 1 + Math.max(height(left), height(right));
  node.lowest = left ? left.lowest : node;
  node.highest = right ? right.highest : node;
  let hole = 0;
  if (left) hole = Math.max(left.hole, node.startNumber - left.highest.lastNumber - 1);
  if (right) hole = Math.max(hole, right.hole, right.lowest.startNumber - node.lastNumber - 1);
  node.hole = hole;
}

const height = (node: Interval | null): number => (node ? node.height : 0);
