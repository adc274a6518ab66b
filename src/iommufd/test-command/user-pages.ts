/** The physical pages behind a caller's addresses, for as long as release() is not called. */
import { fail } from '../../abi/errno.ts';
import type { Command } from '../command.ts';
import { hex } from '../format.ts';

const PAGE = 4096;

export class UserPages {
  private readonly command: Command;
  private readonly firstPage: number;
  private readonly count: number;
  /** The range is memory as a whole, and pinned by us. Otherwise each page is looked at by itself. */
  private readonly pinned: boolean;

  constructor(command: Command, address: bigint, length: bigint) {
    this.command = command;
    const { memory } = command.caller;
    const start = Number(address);
    const bytes = Number(length);
    this.firstPage = Math.floor(start / PAGE);
    this.count = Math.ceil((start + bytes) / PAGE) - this.firstPage;
    const reachable = Number.isSafeInteger(start + bytes) && this.count > 0;
    this.pinned =
      reachable &&
      memory.pinnable(this.firstPage * PAGE, this.count * PAGE, false) &&
      command.context.host.pinned.pin(memory, this.firstPage, this.count);
  }

  /** Physical address of the byte at `address`: EFAULT when there is no memory. */
  physical(address: bigint): number {
    const { memory } = this.command.caller;
    const { pinned } = this.command.context.host;
    const at = Number(address);
    const page = Math.floor(at / PAGE);
    if (this.pinned) return pinned.frameOf(memory, page) * PAGE + (at % PAGE);
    if (!Number.isSafeInteger(at) || !memory.pinnable(page * PAGE, PAGE, false) || !pinned.pin(memory, page, 1)) {
      throw fail('EFAULT', `there is no memory at ${hex(address)}`);
    }
    const frame = pinned.frameOf(memory, page);
    pinned.unpin(memory, page, 1);
    return frame * PAGE + (at % PAGE);
  }

  release(): void {
    if (this.pinned) this.command.context.host.pinned.unpin(this.command.caller.memory, this.firstPage, this.count);
  }
}
