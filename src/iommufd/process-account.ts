/**
 * Who answers for pinned memory. Every pinned page counts in its process's VmPin; without CAP_IPC_LOCK it also counts
 * against RLIMIT_MEMLOCK, with all that the user has pinned, or (OPTION RLIMIT_MODE) with what the process has locked.
 * Counts are pages.
 */
import { fail } from '../abi/errno.ts';

const CAP_IPC_LOCK = 14;

/** One for all processes of a user. */
export interface UserAccount {
  lockedPages: number;
}

/** One image of a process: an exec makes another. This one has every capability and no limit. */
export class ProcessAccount {
  readonly user: UserAccount;
  /** By iommufds: VmPin, and what VmLck has in addition. */
  pinnedPages: number;
  lockedPages: number;

  constructor(user: UserAccount = { lockedPages: 0 }) {
    this.user = user;
    this.pinnedPages = 0;
    this.lockedPages = 0;
  }

  capable(_capability: number): boolean {
    return true;
  }

  /** RLIMIT_MEMLOCK. */
  get limitPages(): number {
    return Infinity;
  }

  /** Locked by the process itself, by mlock(2). */
  get ownLockedPages(): number {
    return 0;
  }
}

/** Which count RLIMIT_MEMLOCK limits: none, the user's, the process's. */
export type AccountMode = 'none' | 'user' | 'process';

/** @param rlimitMode of the iommufd */
export function accountMode(account: ProcessAccount, rlimitMode: 0 | 1): AccountMode {
  if (account.capable(CAP_IPC_LOCK)) return 'none';
  return rlimitMode ? 'process' : 'user';
}

/** The pinned pages of one piece of memory, as they are accounted for. */
export class Charge {
  private readonly mode: AccountMode;
  private readonly enforced: boolean;
  private account: ProcessAccount;
  private pages: number;

  /** @param enforced RLIMIT_MEMLOCK holds; otherwise pages are only counted */
  constructor(account: ProcessAccount, mode: AccountMode, enforced = true) {
    this.account = account;
    this.mode = mode;
    this.enforced = enforced;
    this.pages = 0;
  }

  /** ENOMEM when that is more than RLIMIT_MEMLOCK allows; nothing is counted then. */
  add(pages: number): void {
    this.take(this.account, pages);
    this.pages += pages;
  }

  remove(pages: number): void {
    give(this.account, this.mode, pages);
    this.pages -= pages;
  }

  /** Counts everything for `account` as well, until settle() or cancel(). ENOMEM as above. */
  offer(account: ProcessAccount): void {
    if (this.moves(account)) this.take(account, this.pages);
  }

  cancel(account: ProcessAccount): void {
    if (this.moves(account)) give(account, this.mode, this.pages);
  }

  /** Ends offer(): `account` alone answers for it. */
  settle(account: ProcessAccount): void {
    if (!this.moves(account)) return;
    give(this.account, this.mode, this.pages);
    this.account = account;
  }

  private take(account: ProcessAccount, pages: number): void {
    if (this.mode === 'user') {
      if (this.enforced) checkLimit(account, account.user.lockedPages, pages);
      account.user.lockedPages += pages;
    } else if (this.mode === 'process') {
      if (this.enforced) checkLimit(account, account.lockedPages + account.ownLockedPages, pages);
      account.lockedPages += pages;
    }
    account.pinnedPages += pages;
  }

  /** Without a limit the count stays with the process that had it: so does the kernel's. */
  private moves(account: ProcessAccount): boolean {
    return this.mode !== 'none' && account !== this.account;
  }
}

function give(account: ProcessAccount, mode: AccountMode, pages: number): void {
  if (mode === 'user') account.user.lockedPages -= pages;
  else if (mode === 'process') account.lockedPages -= pages;
  account.pinnedPages -= pages;
}

function checkLimit(account: ProcessAccount, locked: number, pages: number): void {
  if (locked + pages <= account.limitPages) return;
  throw fail(
    'ENOMEM',
    `${pages} pages, with ${locked} that are locked already, are more than the ${account.limitPages} of RLIMIT_MEMLOCK ` +
      '(raise it, or let the machine only count: policy.memlock)',
  );
}
