/**
 * What the trace shows of guests that invalidate through virtual command queues of their own: that they used them, and
 * that nothing was in between. A call is traced when it returns, so what it caused stands in front of it.
 */
import type { Finding } from '../../src/cli/verdict.ts';
import { CMD, CMD_ATC_INV, CMD_TLBI_NH_ASID, CMD_TLBI_NH_VA } from '../../src/hardware/smmuv3/spec/commands.ts';
import { getWide } from '../../src/hardware/smmuv3/spec/field.ts';
import type { CommandEvent, FileEvent, IoctlEvent, TraceEvent } from '../../src/trace/events.ts';
import { shortName } from '../../src/trace/printer.ts';

/** The invalidations that a VCMDQ takes; CMD_SYNC comes with them. */
const INVALIDATIONS = new Set([CMD_TLBI_NH_VA, CMD_TLBI_NH_ASID, CMD_ATC_INV]);
/** The interface that the host keeps for itself. */
const HOST = /^VINTF0\b/;

export class QueueWitness {
  private readonly queues: number;
  /** Commands by IOMMU and queue. */
  private readonly consumed: Map<string, number>;
  private invalidations: number;
  private refused: number;
  /** Invalidations that reached a queue of the guest within an ioctl. */
  private inIoctls: number;
  private forwardingCalls: number;
  /** Invalidations that HWPT_INVALIDATE brought. */
  private forwarded: number;
  /** Invalidations since the last call, on the guest's queues and on others. */
  private fresh: { guest: number; other: number };

  /** @param queues how many the guest has */
  constructor(queues: number) {
    this.queues = queues;
    this.consumed = new Map();
    this.invalidations = 0;
    this.refused = 0;
    this.inIoctls = 0;
    this.forwardingCalls = 0;
    this.forwarded = 0;
    this.fresh = { guest: 0, other: 0 };
  }

  readonly sink = (event: TraceEvent): void => {
    if (event.type === 'command') this.seeCommand(event);
    if (event.type === 'ioctl' || event.type === 'file') this.seeCall(event);
  };

  findings(): Finding[] {
    const used =
      [...this.consumed]
        .map(([queue, count]) => `${queue} ${count}`)
        .sort()
        .join(', ') || 'none';
    return [
      { good: this.consumed.size === this.queues, sentence: `commands that the guest's own queues consumed: ${used}` },
      {
        good: this.invalidations > 0 && this.refused === 0,
        sentence: `${this.invalidations} of them are invalidations, ${this.refused} are in error`,
      },
      {
        good: this.inIoctls === 0,
        sentence: `${this.inIoctls} of the invalidations came within an ioctl, the others with a store to a mapped page`,
      },
      {
        good: this.forwarded === 0,
        sentence: `HWPT_INVALIDATE: ${this.forwardingCalls} calls, with ${this.forwarded} of such invalidations`,
      },
    ];
  }

  private seeCommand({ iommu, queue, words, error }: CommandEvent): void {
    const isInvalidation = INVALIDATIONS.has(Number(getWide(words, 0, CMD.Opcode)));
    if (queue === undefined || HOST.test(queue)) {
      if (isInvalidation) this.fresh.other++;
      return;
    }
    const name = `${shortName(iommu)} ${queue}`;
    this.consumed.set(name, (this.consumed.get(name) ?? 0) + 1);
    if (error !== '') this.refused++;
    if (isInvalidation) this.fresh.guest++;
  }

  private seeCall(event: IoctlEvent | FileEvent): void {
    const { guest, other } = this.fresh;
    this.fresh = { guest: 0, other: 0 };
    this.invalidations += guest;
    if (event.type !== 'ioctl') return;
    this.inIoctls += guest;
    if (event.struct !== 'iommu_hwpt_invalidate') return;
    this.forwardingCalls++;
    this.forwarded += other;
  }
}
