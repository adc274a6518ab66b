/** What a client process may pin, and has pinned, by /proc: its capabilities, its limit, its user. */
import fs from 'node:fs';
import { ProcessAccount, type UserAccount } from '../iommufd/process-account.ts';

const PAGE = 4096;
/** More than proc_pid_status(5) has. */
const STATUS_BYTES = 8192;

export class ClientAccount extends ProcessAccount {
  /** Its PID, under which programs look for the counts. */
  readonly pid: number;
  private readonly proc: string;
  private statusFd: number;
  private readonly text: Buffer;

  /** @param proc a path to /proc/PID that cannot become another process's */
  constructor(pid: number, proc: string, users: Map<number, UserAccount>) {
    const statusFd = fs.openSync(`${proc}/status`, 'r');
    const text = Buffer.alloc(STATUS_BYTES);
    super(userOf(users, Number(field(statusFd, text, 'Uid'))));
    this.pid = pid;
    this.proc = proc;
    this.statusFd = statusFd;
    this.text = text;
  }

  override capable(capability: number): boolean {
    const effective = BigInt(`0x${field(this.statusFd, this.text, 'CapEff') || '0'}`);
    return ((effective >> BigInt(capability)) & 1n) === 1n;
  }

  /** "Max locked memory   soft   hard   bytes" of proc_pid_limits(5). A process that is gone has no limit. */
  override get limitPages(): number {
    if (this.statusFd < 0) return Infinity;
    const soft = /^Max locked memory +(\S+)/m.exec(readFile(`${this.proc}/limits`))?.[1];
    return soft === undefined || soft === 'unlimited' ? Infinity : Math.floor(Number(soft) / PAGE);
  }

  override get ownLockedPages(): number {
    return (Number(field(this.statusFd, this.text, 'VmLck')) * 1024) / PAGE;
  }

  close(): void {
    fs.closeSync(this.statusFd);
    this.statusFd = -1;
  }
}

function userOf(users: Map<number, UserAccount>, uid: number): UserAccount {
  let user = users.get(uid);
  if (!user) users.set(uid, (user = { lockedPages: 0 }));
  return user;
}

/** First word of a field of the status; '' when it has none, or the process is gone. */
function field(status: number, text: Buffer, name: string): string {
  try {
    const length = fs.readSync(status, text, 0, text.length, 0);
    return new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(text.toString('latin1', 0, length))?.[1] ?? '';
  } catch {
    return '';
  }
}

function readFile(path: string): string {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
