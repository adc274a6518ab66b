/**
 * What has been pinned for each process, in a file of the private folder: the shim looks there when a program opens
 * /proc/PID/status. Lines "PID pinned locked" in pages, with a new line before the first.
 */
import fs from 'node:fs';
import type { ClientAccount } from './client-account.ts';

export class AccountTable {
  private readonly fd: number;
  private shown = '';

  constructor(path: string) {
    this.fd = fs.openSync(path, 'w', 0o600);
  }

  /** After every call, before its result is seen. */
  publish(accounts: Iterable<ClientAccount>): void {
    let text = '';
    for (const { pid, pinnedPages, lockedPages } of accounts) {
      if (pinnedPages > 0) text += `\n${pid} ${pinnedPages} ${lockedPages}`;
    }
    if (text === this.shown) return;
    const line = text === '' ? '' : `${text}\n`;
    fs.ftruncateSync(this.fd, line.length);
    fs.writeSync(this.fd, line, 0);
    this.shown = text;
  }

  close(): void {
    fs.closeSync(this.fd);
  }
}
