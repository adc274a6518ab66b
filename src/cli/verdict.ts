/** What a run of the example showed: its own checks, and what can be seen only from beneath, in the trace. */
import { CMD, CMD_TLBI_NH_ASID, CMD_TLBI_NH_VA } from '../hardware/smmuv3/spec/commands.ts';
import { getWide } from '../hardware/smmuv3/spec/field.ts';
import type { CommandEvent, DmaEvent, TraceEvent } from '../trace/events.ts';
import { shortName } from '../trace/printer.ts';

export interface Finding {
  readonly good: boolean;
  readonly sentence: string;
}

/** Looks at every event as it comes. */
export class Witness {
  private readonly counts: Map<string, number>;
  /** VMIDs with which each SMMU carried out the guest's own invalidations. */
  private readonly guestVmids: Map<string, Set<number>>;
  private readonly written: Map<number, string>;
  private handover: string;

  constructor() {
    this.counts = new Map();
    this.guestVmids = new Map();
    this.written = new Map();
    this.handover = '';
  }

  readonly sink = (event: TraceEvent): void => {
    this.counts.set(event.type, this.count(event.type) + 1);
    if (event.type === 'command') this.seeCommand(event);
    if (event.type === 'dma') this.seeDma(event);
  };

  findings(): Finding[] {
    return [this.vmidsDiffer(), this.memoryIsShared(), { good: true, sentence: this.totals() }];
  }

  private count(type: TraceEvent['type']): number {
    return this.counts.get(type) ?? 0;
  }

  /** Only a guest says which ASID it means; the host invalidates by VMID and IPA. */
  private seeCommand({ architecture, iommu, words }: CommandEvent): void {
    if (architecture !== 'smmuv3') return;
    const opcode = getWide(words, 0, CMD.Opcode);
    const vmid = Number(getWide(words, 0, CMD.VMID));
    if (vmid === 0 || (opcode !== BigInt(CMD_TLBI_NH_VA) && opcode !== BigInt(CMD_TLBI_NH_ASID))) return;
    const seen = this.guestVmids.get(iommu) ?? new Set();
    this.guestVmids.set(iommu, seen.add(vmid));
  }

  private seeDma({ device, frame, write }: DmaEvent): void {
    if (frame < 0) return;
    const writer = this.written.get(frame);
    if (write) this.written.set(frame, device);
    else if (writer !== undefined && writer !== device) {
      this.handover ||= `${device} read what ${writer} wrote, at PA 0x${(BigInt(frame) << 12n).toString(16)}`;
    }
  }

  private vmidsDiffer(): Finding {
    const pools = [...this.guestVmids].map(([iommu, vmids]) => ({ iommu: shortName(iommu), vmids: [...vmids] }));
    const all = new Set(pools.flatMap(({ vmids }) => vmids));
    const good = pools.length === 2 && pools.every(({ vmids }) => vmids.length === 1) && all.size === 2;
    const said = pools.map(({ iommu, vmids }) => `VMID ${vmids.join(', ')} on ${iommu}`).join('; ') || 'none seen';
    return { good, sentence: `a VMID for each slice of an SMMU: ${said}` };
  }

  private memoryIsShared(): Finding {
    const good = this.handover !== '';
    return {
      good,
      sentence: `both SMMUs lead to the same memory: ${this.handover || 'no page passed from device to device'}`,
    };
  }

  private totals(): string {
    const parts = [
      `${this.count('ioctl')} ioctls`,
      `${this.count('command')} SMMU commands`,
      `${this.count('dma')} DMA accesses`,
      `${this.count('vevent')} faults delivered to the VM`,
    ];
    return `seen: ${parts.join(', ')}`;
  }
}

/** Counts the lines of a TAP stream. */
export class TapCounter {
  passed: number;
  failed: number;
  /** Checks that the plan announced, or -1 when the program did not come to its plan. */
  planned: number;

  constructor() {
    this.passed = 0;
    this.failed = 0;
    this.planned = -1;
  }

  line(text: string): void {
    if (/^ok \d/.test(text)) this.passed++;
    else if (/^not ok \d/.test(text)) this.failed++;
    else this.planned = Number(/^1\.\.(\d+)/.exec(text)?.[1] ?? this.planned);
  }

  finding(): Finding {
    const total = this.passed + this.failed;
    const complete = this.planned === total;
    const end = complete ? '' : ', and the program did not come to its end';
    return { good: complete && this.failed === 0, sentence: `${this.passed} of ${total} checks hold${end}` };
  }
}
