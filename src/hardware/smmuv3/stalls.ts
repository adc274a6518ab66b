/**
 * Stalled transactions (IHI 0070, 3.12.2): each with a tag that software answers by CMD_RESUME, or for a whole stream by
 * CMD_STALL_TERM. One whose record cannot be written, or that finds no free tag, is held back without either, and sent
 * again when there may be room (7.2.1): so no stall is lost, and none is recorded twice.
 */
import type { Requester } from '../iommu.ts';

/** No tag: the transaction is held back. */
export const NO_STAG = -1;

interface Stall {
  readonly stream: number;
  /** Null when it does not wait any more. The tag is in use all the same until software has answered. */
  requester: Requester | null;
}

export class Stalls {
  private readonly most: number;
  private readonly tagged: Map<number, Stall>;
  private heldBack: { readonly stream: number; readonly requester: Requester }[];
  /** Tags are given in turn, so that a late answer does not soon meet another transaction. */
  private nextTag: number;

  /** @param most transactions that are stalled at a time: IDR5.STALL_MAX */
  constructor(most: number) {
    this.most = most;
    this.tagged = new Map();
    this.heldBack = [];
    this.nextTag = 0;
  }

  get full(): boolean {
    return this.tagged.size >= this.most;
  }

  /** Takes a transaction whose record is about to be written. @returns its tag: 0 .. most - 1 */
  add(stream: number, requester: Requester): number {
    while (this.tagged.has(this.nextTag)) this.nextTag = (this.nextTag + 1) % this.most;
    const tag = this.nextTag;
    this.nextTag = (tag + 1) % this.most;
    this.tagged.set(tag, { stream, requester });
    return tag;
  }

  holdBack(stream: number, requester: Requester): void {
    this.heldBack.push({ stream, requester });
  }

  /**
   * CMD_RESUME. A tag that is free, or of another stream, is nobody's: nothing happens (4.7.1).
   * @param discard without `retry`: RAZ/WI instead of an abort
   */
  resume(stream: number, tag: number, retry: boolean, discard: boolean): void {
    const stall = this.tagged.get(tag);
    if (stall?.stream !== stream) return;
    this.tagged.delete(tag);
    stall.requester?.stallEnded(retry, discard);
    this.retryHeldBack();
  }

  /** CMD_STALL_TERM, or with null what clearing SMMUEN does to every stream. */
  terminate(stream: number | null): void {
    const gone: (Requester | null)[] = [];
    for (const [tag, stall] of this.tagged) {
      if (stream !== null && stall.stream !== stream) continue;
      this.tagged.delete(tag);
      gone.push(stall.requester);
    }
    const held = this.heldBack;
    this.heldBack = held.filter((one) => stream !== null && one.stream !== stream);
    for (const one of held) if (!this.heldBack.includes(one)) gone.push(one.requester);
    for (const requester of gone) requester?.stallEnded(false);
    this.retryHeldBack();
  }

  /** There may be room for records: sends again what is held back, in its order. */
  retryHeldBack(): void {
    const held = this.heldBack;
    if (held.length === 0) return;
    this.heldBack = [];
    for (const { requester } of held) requester.stallEnded(true);
  }

  withdraw(requester: Requester): void {
    for (const stall of this.tagged.values()) if (stall.requester === requester) stall.requester = null;
    this.heldBack = this.heldBack.filter((one) => one.requester !== requester);
  }
}
