import { describe, expect, it } from 'vitest';
import {
  IOMMU_IOAS_CHANGE_PROCESS,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_UNMAP,
  IOMMU_OPTION,
  IoasChangeProcess,
  IoasMap,
  IoasMapFile,
  IoasUnmap,
  Option,
} from '../abi/iommufd.ts';
import type { Ioas } from './ioas.ts';
import type { ProcessAccount } from './process-account.ts';
import { FakeFile, LimitedAccount, Program } from './testing.ts';
import { FakeIommu, FakePagingDomain, WHOLE_SPACE } from './testing-driver.ts';

const PAGE = 4096n;
const FD = 77;

/** A program with a domain, and no more than its account allows. `mode`: RLIMIT_MODE. */
function programOf(account: ProcessAccount, mode = 0n) {
  const program = new Program();
  program.process.account = account;
  program.process.memoryFiles.set(FD, new FakeFile());
  program.ok(IOMMU_OPTION, Option, { optionId: 0, op: 0, val64: mode });
  const ioasId = program.ioas();
  const { table } = program.context.objects.find(ioasId) as Ioas;
  const domain = new FakePagingDomain(new FakeIommu({ aperture: WHOLE_SPACE }), false);
  table.addDomain(domain);
  const mapFile = (iova: bigint, length: bigint) =>
    program.err(IOMMU_IOAS_MAP_FILE, IoasMapFile, { flags: 7, ioasId, fd: FD, iova, start: 0n, length });
  const map = (iova: bigint, length: bigint) =>
    program.err(IOMMU_IOAS_MAP, IoasMap, { flags: 7, ioasId, userVa: program.base, iova, length });
  const unmap = (iova: bigint, length: bigint) => program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova, length });
  const changeTo = (next: ProcessAccount) => {
    program.process.account = next;
    return program.err(IOMMU_IOAS_CHANGE_PROCESS, IoasChangeProcess);
  };
  return { program, table, domain, map, mapFile, unmap, changeTo };
}

const counts = (account: ProcessAccount) => [account.pinnedPages, account.lockedPages, account.user.lockedPages];

describe('the account of pinned memory', () => {
  it('is of the user by default: all its processes together stay below RLIMIT_MEMLOCK', () => {
    const user = { lockedPages: 0 };
    const [one, two] = [new LimitedAccount(4, user), new LimitedAccount(4, user)];
    const [a, b] = [programOf(one), programOf(two)];
    expect(a.map(0n, 3n * PAGE)).toBe('');
    expect([b.map(0n, 2n * PAGE), b.map(0n, PAGE)]).toEqual(['ENOMEM', '']);
    expect([counts(one), counts(two)]).toEqual([
      [3, 0, 4],
      [1, 0, 4],
    ]);
    expect(b.program.pinned.pinnedFrames).toBe(1);
    a.unmap(0n, 3n * PAGE);
    b.program.close();
    expect([counts(one), counts(two)]).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });

  it('is of the process with RLIMIT_MODE 1', () => {
    const user = { lockedPages: 0 };
    const [one, two] = [new LimitedAccount(4, user), new LimitedAccount(4, user)];
    const [a, b] = [programOf(one, 1n), programOf(two, 1n)];
    expect([a.map(0n, 4n * PAGE), b.map(0n, 4n * PAGE), a.map(0x10000n, PAGE)]).toEqual(['', '', 'ENOMEM']);
    expect(counts(one)).toEqual([4, 4, 0]);
  });

  it('counts a page once for one piece of memory, however many domains have it, and not without a domain', () => {
    const account = new LimitedAccount(4);
    const { table, domain, map } = programOf(account);
    map(0n, 2n * PAGE);
    const second = new FakePagingDomain(new FakeIommu({ aperture: WHOLE_SPACE }), false);
    table.addDomain(second);
    expect(account.pinnedPages).toBe(2);
    table.removeDomain(second);
    table.removeDomain(domain);
    expect(counts(account)).toEqual([0, 0, 0]);
  });
});

describe('IOAS_CHANGE_PROCESS', () => {
  it.each([
    [0n, [2, 0, 2]],
    [1n, [2, 2, 0]],
  ])('makes the caller answer for what is pinned, RLIMIT_MODE %s', (mode, wanted) => {
    const [old, next] = [new LimitedAccount(4), new LimitedAccount(4)];
    const { mapFile, unmap, changeTo } = programOf(old, mode);
    expect(mapFile(0n, 2n * PAGE)).toBe('');
    expect(changeTo(next)).toBe('');
    expect([counts(old), counts(next)]).toEqual([[0, 0, 0], wanted]);
    unmap(0n, 2n * PAGE);
    expect(counts(next)).toEqual([0, 0, 0]);
  });

  it('changes nothing when the caller may not pin as much: ENOMEM', () => {
    const [old, next] = [new LimitedAccount(8), new LimitedAccount(2)];
    const { mapFile, changeTo } = programOf(old);
    mapFile(0n, 2n * PAGE);
    mapFile(0x10000n, PAGE);
    expect(changeTo(next)).toBe('ENOMEM');
    expect([counts(old), counts(next)]).toEqual([
      [3, 0, 3],
      [0, 0, 0],
    ]);
  });

  it('asks the same user for both sides at once', () => {
    const user = { lockedPages: 0 };
    const [old, next] = [new LimitedAccount(3, user), new LimitedAccount(3, user)];
    const { mapFile, changeTo } = programOf(old);
    mapFile(0n, 2n * PAGE);
    expect(changeTo(next)).toBe('ENOMEM');
    expect(changeTo(old)).toBe('');
  });

  it('is refused as long as anything but files is mapped: EINVAL', () => {
    const { program, map, mapFile, unmap, changeTo } = programOf(new LimitedAccount(8));
    mapFile(0n, PAGE);
    map(0x10000n, PAGE);
    expect(changeTo(new LimitedAccount(8))).toBe('EINVAL');
    unmap(0x10000n, PAGE);
    expect(program.err(IOMMU_IOAS_CHANGE_PROCESS, IoasChangeProcess, { reserved: 1 })).toBe('EOPNOTSUPP');
    expect(changeTo(new LimitedAccount(8))).toBe('');
  });
});
