/**
 * Fault queue: page requests of devices that are attached to HWPTs with this queue, in groups. Reading gives a group and
 * its cookie; writing the cookie with a code answers it. A group is answered INVALID when its queue or attachment ends.
 */
import { fail } from '../abi/errno.ts';
import {
  FaultAlloc,
  HwptPageResponse,
  HwptPgfault,
  IOMMUFD_PAGE_RESP_INVALID,
  IOMMUFD_PAGE_RESP_SUCCESS,
} from '../abi/iommufd.ts';
import type { PageRequest, Respond } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import type { IommufdContext } from './context.ts';
import { openDescriptor } from './descriptor.ts';
import { EventFile, type EventSource } from './event-file.ts';
import type { ClientProcess } from './file.ts';
import { hex } from './format.ts';
import type { Attachment } from './group.ts';
import { IommufdObject, unuse, use } from './objects.ts';
import { readUser, writeUser } from './user-memory.ts';

interface Group {
  readonly attachment: Attachment;
  readonly requests: readonly PageRequest[];
  readonly respond: Respond;
}

/** Memory is not without end: groups beyond these are answered INVALID. */
export const MOST_GROUPS = 2 ** 16;

export class FaultQueue extends IommufdObject implements EventSource {
  private readonly context: IommufdContext;
  private readonly file: EventFile;
  /** Not read yet. */
  private pending: Group[];
  /** Read and not answered, by cookie. */
  private readonly delivered: Map<number, Group>;
  /** No cookie below is free. */
  private lowestFree: number;

  constructor(context: IommufdContext) {
    super();
    this.context = context;
    this.file = new EventFile(this);
    this.pending = [];
    this.delivered = new Map();
    this.lowestFree = 1;
  }

  get kind(): 'fault-queue' {
    return 'fault-queue';
  }

  get waiting(): boolean {
    return this.pending.length > 0;
  }

  push(group: Group): void {
    if (this.pending.length === MOST_GROUPS) {
      group.respond(IOMMUFD_PAGE_RESP_INVALID);
      return;
    }
    this.pending.push(group);
    if (this.pending.length === 1) this.file.onPollChange?.();
  }

  /** Whole groups only. ESPIPE unless `count` is a multiple of a record. */
  read(caller: ClientProcess, address: bigint, count: number): number {
    if (count % HwptPgfault.size) throw fail('ESPIPE', `count ${count} is not a multiple of ${HwptPgfault.size}`);
    if (this.context.dialect.behaviour.eventReadCountChecked) this.checkCount(count);
    let done = 0;
    let taken = 0;
    try {
      for (const group of this.pending) {
        const { requests, attachment } = group;
        if (requests.length * HwptPgfault.size > count - done) break;
        const cookie = this.freeCookie();
        for (const [i, request] of requests.entries()) {
          const to = address + BigInt(done + i * HwptPgfault.size);
          writeUser(caller.memory, to, record(attachment.spokesman.id, request, cookie));
        }
        this.delivered.set(cookie, group);
        done += requests.length * HwptPgfault.size;
        taken++;
      }
    } catch (error) {
      if (taken === 0) throw error;
    } finally {
      this.pending.splice(0, taken);
    }
    return done;
  }

  /** EINVAL for a cookie that is not waited for, or an unknown code; what was taken before it counts. */
  write(caller: ClientProcess, address: bigint, count: number): number {
    const { size } = HwptPageResponse;
    if (count % size) throw fail('ESPIPE', `count ${count} is not a multiple of ${size}`);
    const response = new HwptPageResponse();
    let done = 0;
    try {
      for (; done < count; done += size) {
        readUser(caller.memory, address + BigInt(done), response.bytes);
        this.answer(response.cookie, response.code);
      }
    } catch (error) {
      if (done === 0) throw error;
    }
    return done;
  }

  /** The attachment ends: its groups are answered INVALID. */
  abandon(attachment: Attachment): void {
    const waited = this.waiting;
    const gone = this.pending.filter((group) => group.attachment === attachment);
    this.pending = this.pending.filter((group) => group.attachment !== attachment);
    for (const [cookie, group] of this.delivered) {
      if (group.attachment !== attachment) continue;
      this.forget(cookie);
      gone.push(group);
    }
    for (const group of gone) group.respond(IOMMUFD_PAGE_RESP_INVALID);
    if (waited !== this.waiting) this.file.onPollChange?.();
  }

  /** Opens the descriptor: while it is open the queue is in use and the iommufd stays. */
  open(command: Command, answered: (fd: number) => void): Promise<void> {
    use(this);
    this.context.hold();
    return openDescriptor(command.caller, this.file, answered);
  }

  closed(): void {
    unuse(this);
    this.context.drop();
  }

  destroy(): void {
    const groups = [...this.pending, ...this.delivered.values()];
    this.pending = [];
    this.delivered.clear();
    for (const group of groups) group.respond(IOMMUFD_PAGE_RESP_INVALID);
  }

  /** EINVAL when not even the first group fits. */
  private checkCount(count: number): void {
    const needed = (this.pending[0]?.requests.length ?? 1) * HwptPgfault.size;
    if (count < needed) throw fail('EINVAL', `count ${count} is less than the ${needed} bytes of a group`);
  }

  private answer(cookie: number, code: number): void {
    if (code !== IOMMUFD_PAGE_RESP_SUCCESS && code !== IOMMUFD_PAGE_RESP_INVALID) {
      throw fail('EINVAL', `code ${code} is neither SUCCESS nor INVALID`);
    }
    const group = this.delivered.get(cookie);
    if (!group) throw fail('EINVAL', `cookie ${cookie} is not waited for`);
    this.forget(cookie);
    group.respond(code);
  }

  /** The lowest from 1 on. */
  private freeCookie(): number {
    while (this.delivered.has(this.lowestFree)) this.lowestFree++;
    return this.lowestFree;
  }

  private forget(cookie: number): void {
    this.delivered.delete(cookie);
    this.lowestFree = Math.min(this.lowestFree, cookie);
  }
}

function record(device: number, request: PageRequest, cookie: number): Uint8Array {
  const r = new HwptPgfault();
  r.flags = request.flags;
  r.devId = device;
  r.pasid = request.pasid;
  r.grpid = request.group;
  r.perm = request.permissions;
  r.addr = request.address;
  r.cookie = cookie;
  return r.bytes;
}

/** IOMMU_FAULT_QUEUE_ALLOC */
export function faultQueueAlloc(command: Command): Promise<void> {
  const c = new FaultAlloc(command.bytes);
  if (c.flags) throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} must be 0`);
  const queue = command.create(new FaultQueue(command.context));
  return queue.open(command, (fd) => {
    c.outFaultId = queue.id;
    c.outFaultFd = fd;
    command.respond();
  });
}
