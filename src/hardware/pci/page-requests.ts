/**
 * Page requests of a function (PRI; PCIe 5.0, 10.4): groups of pages that its ATC could not get, each answered as a
 * whole. The function never has more requests outstanding than its allocation; who finds none left waits for an answer.
 */
import { type Iommu, PRG_FAILURE, PRG_SUCCESS, READ, WRITE } from '../iommu.ts';
import type { RegisterFile } from './register-file.ts';
import {
  PRI_CONTROL_ENABLE,
  PRI_CONTROL_RESET,
  PRI_STATUS_FAILURE,
  PRI_STATUS_STOPPED,
  PRI_STATUS_UNEXPECTED,
} from './spec/config-space.ts';

const GROUPS = 512;

/** Who waits for the answer to a group. */
export interface PageWaiter {
  /** `granted`: it is worth asking for the translation again. */
  pagesAnswered(granted: boolean): void;
}

interface Group {
  readonly requests: number;
  /** Null when it does not wait any more: the answer is due all the same. */
  waiter: PageWaiter | null;
}

export class PageRequests {
  private readonly config: RegisterFile;
  private readonly iommu: Iommu;
  private readonly stream: number;
  private readonly outstanding: Map<number, Group>;
  /** Had no allocation left. */
  private starved: PageWaiter[];
  /** Goes on through resets, so that late answers to what came before meet nothing new. */
  private nextGroup: number;

  constructor(config: RegisterFile, iommu: Iommu, stream: number) {
    this.config = config;
    this.iommu = iommu;
    this.stream = stream;
    this.outstanding = new Map();
    this.starved = [];
    this.nextGroup = 0;
  }

  get enabled(): boolean {
    if (!this.config.has('PRI_CONTROL') || !(this.config.get('PRI_CONTROL') & PRI_CONTROL_ENABLE)) return false;
    return this.allocation > 0 && !(this.config.get('PRI_STATUS') & PRI_STATUS_FAILURE);
  }

  /**
   * Requests one group for `frames`, or as many of its first as the allocation allows. `waiter` hears of the answer.
   * @returns false when there was nothing left to request with: `waiter` may try again when it hears
   */
  request(substream: number, frames: readonly number[], access: number, waiter: PageWaiter): boolean {
    const count = Math.min(frames.length, this.allocation - this.requests);
    if (count <= 0 || this.outstanding.size === GROUPS) {
      this.starved.push(waiter);
      return false;
    }
    const groupIndex = this.freeGroup();
    this.outstanding.set(groupIndex, { requests: count, waiter });
    this.refreshStopped();
    const rights = { read: (access & READ) !== 0, write: (access & WRITE) !== 0, execute: false, privileged: false };
    for (let i = 0; i < count; i++) {
      const place = { stream: this.stream, substream, frame: frames[i]!, groupIndex, last: i === count - 1 };
      this.iommu.pageRequest({ ...place, ...rights });
    }
    return true;
  }

  response(groupIndex: number, code: number): void {
    const group = this.outstanding.get(groupIndex);
    if (!group) {
      this.raise(PRI_STATUS_UNEXPECTED);
      return;
    }
    this.outstanding.delete(groupIndex);
    if (code === PRG_FAILURE) this.raise(PRI_STATUS_FAILURE);
    this.refreshStopped();
    group.waiter?.pagesAnswered(code === PRG_SUCCESS);
    this.feedStarved();
  }

  /** `waiter` does not wait any more. */
  withdraw(waiter: PageWaiter): void {
    for (const group of this.outstanding.values()) if (group.waiter === waiter) group.waiter = null;
    this.starved = this.starved.filter((other) => other !== waiter);
  }

  /** The control register was written: Reset forgets what is outstanding, while Enable is clear (10.5.2.2). */
  controlWritten(): void {
    const control = this.config.get('PRI_CONTROL');
    if (control & PRI_CONTROL_RESET && !(control & PRI_CONTROL_ENABLE)) {
      const waiters = [...this.outstanding.values()].map(({ waiter }) => waiter);
      this.outstanding.clear();
      for (const waiter of waiters) waiter?.pagesAnswered(false);
    }
    // Reset reads as 0.
    this.config.set('PRI_CONTROL', control & ~PRI_CONTROL_RESET);
    this.refreshStopped();
    this.feedStarved();
  }

  reset(): void {
    this.outstanding.clear();
    this.starved = [];
  }

  private get allocation(): number {
    return Math.min(this.config.get('PRI_ALLOCATION'), this.config.get('PRI_CAPACITY'));
  }

  private get requests(): number {
    let requests = 0;
    for (const group of this.outstanding.values()) requests += group.requests;
    return requests;
  }

  private freeGroup(): number {
    while (this.outstanding.has(this.nextGroup)) this.nextGroup = (this.nextGroup + 1) % GROUPS;
    const group = this.nextGroup;
    this.nextGroup = (group + 1) % GROUPS;
    return group;
  }

  private feedStarved(): void {
    const waiters = this.starved;
    this.starved = [];
    for (const waiter of waiters) waiter.pagesAnswered(true);
  }

  private raise(flag: number): void {
    this.config.set('PRI_STATUS', this.config.get('PRI_STATUS') | flag);
  }

  private refreshStopped(): void {
    const stopped = !(this.config.get('PRI_CONTROL') & PRI_CONTROL_ENABLE) && this.outstanding.size === 0;
    const status = this.config.get('PRI_STATUS') & ~PRI_STATUS_STOPPED;
    this.config.set('PRI_STATUS', status | (stopped ? PRI_STATUS_STOPPED : 0));
  }
}
