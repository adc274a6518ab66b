import { describe, expect, it } from 'vitest';
import { accountMode, Charge, ProcessAccount } from './process-account.ts';

/** A process of a plain user who may lock 100 pages. */
class Limited extends ProcessAccount {
  override capable(): boolean {
    return false;
  }

  override get limitPages(): number {
    return 100;
  }
}

describe('pinned pages', () => {
  it('are limited by what the user has pinned in all processes together, and counted once each', () => {
    const first = new Limited();
    const second = new Limited(first.user);
    const charge = new Charge(first, accountMode(first, 0));
    charge.add(60);
    expect(() => new Charge(second, accountMode(second, 0)).add(41)).toThrow(/ENOMEM: 41 pages, with 60 .* 100 of/);
    expect([first.pinnedPages, second.pinnedPages, first.user.lockedPages]).toEqual([60, 0, 60]);
    charge.remove(60);
    expect([first.pinnedPages, first.user.lockedPages]).toEqual([0, 0]);
  });

  it('are limited per process with RLIMIT_MODE', () => {
    const first = new Limited();
    const second = new Limited(first.user);
    new Charge(first, accountMode(first, 1)).add(60);
    new Charge(second, accountMode(second, 1)).add(100);
    expect(() => new Charge(first, accountMode(first, 1)).add(41)).toThrow('ENOMEM');
  });

  it('have no limit with CAP_IPC_LOCK', () => {
    const root = new ProcessAccount();
    new Charge(root, accountMode(root, 0)).add(1_000_000);
    expect(root.pinnedPages).toBe(1_000_000);
  });

  it('are only counted where the machine does not enforce RLIMIT_MEMLOCK', () => {
    const plain = new Limited();
    const charge = new Charge(plain, accountMode(plain, 0), false);
    charge.add(1000);
    expect([plain.pinnedPages, plain.user.lockedPages]).toEqual([1000, 1000]);
    charge.remove(1000);
    expect([plain.pinnedPages, plain.user.lockedPages]).toEqual([0, 0]);
  });
});
