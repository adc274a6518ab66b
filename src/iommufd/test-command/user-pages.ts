/** The physical pages behind a caller's addresses, for as long as release() is not called. */
import { fail } from '../../abi/errno.ts';
import type { MemoryObject, MemoryRun, PageSource } from '../../memory/process-memory.ts';
import type { Command } from '../command.ts';
import { hex } from '../format.ts';

const PAGE = 4096;

export class UserPages {
  private readonly command: Command;
  private readonly firstPage: number;
  /** Where the range is, pinned by us. Null when it is not memory as a whole: then each page is looked at by itself. */
  private readonly runs: readonly MemoryRun[] | null;

  constructor(command: Command, address: bigint, length: bigint) {
    this.command = command;
    const start = Number(address);
    const end = start + Number(length);
    this.firstPage = Math.floor(start / PAGE);
    this.runs = Number.isSafeInteger(end) && length > 0n ? this.pin(start, end) : null;
  }

  /** Physical address of the byte at `address`: EFAULT when there is no memory. */
  physical(address: bigint): number {
    const at = Number(address);
    const runs = this.runs ?? (Number.isSafeInteger(at) ? this.pin(at, at + 1) : null);
    if (!runs) throw fail('EFAULT', `there is no memory at ${hex(address)}`);
    const frame = this.frameOf(runs, this.runs ? Math.floor(at / PAGE) - this.firstPage : 0);
    if (!this.runs) this.unpin(runs);
    return frame * PAGE + (at % PAGE);
  }

  release(): void {
    if (this.runs) this.unpin(this.runs);
  }

  private frameOf(runs: readonly MemoryRun[], index: number): number {
    let at = 0;
    while (index >= runs[at]!.frames) index -= runs[at++]!.frames;
    return this.command.context.host.pinned.frameOf(runs[at]!.object, runs[at]!.page + index);
  }

  private pin(start: number, end: number): readonly MemoryRun[] | null {
    const { pinned } = this.command.context.host;
    const first = Math.floor(start / PAGE) * PAGE;
    const runs = this.command.caller.memory.resolve(first, Math.ceil(end / PAGE) * PAGE - first, false);
    for (const [count, { object, page, frames }] of (runs ?? []).entries()) {
      if (pinned.pin(object, page, frames)) continue;
      this.unpin(runs!.slice(0, count));
      return null;
    }
    return runs;
  }

  private unpin(runs: readonly MemoryRun[]): void {
    for (const { object, page, frames } of runs) this.command.context.host.pinned.unpin(object, page, frames);
  }
}

/** The one page at `address`, as what it is; null when there is none. */
export function pageAt(memory: PageSource, address: bigint): { object: MemoryObject; page: number } | null {
  return memory.resolve(Number(address), PAGE, false)?.[0] ?? null;
}
