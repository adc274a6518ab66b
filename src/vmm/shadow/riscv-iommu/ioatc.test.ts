import { describe, expect, it } from 'vitest';
import { Ioatc } from './ioatc.ts';

const HOST = { pscid: 1, gscid: null };
const GUEST = { pscid: null, gscid: 5 };
const NESTED = { pscid: 1, gscid: 5 };
const OTHER_PROCESS = { pscid: 2, gscid: 5 };
const OTHER_GUEST = { pscid: 1, gscid: 6 };
const TAGS = { HOST, GUEST, NESTED, OTHER_PROCESS, OTHER_GUEST };

const PAGE = 0x1000n;

/** Names of the tags whose entry for PAGE goes with an invalidation. */
function dropped(invalidate: (ioatc: Ioatc) => void): string[] {
  const ioatc = new Ioatc({});
  for (const tag of Object.values(TAGS)) ioatc.fill({ tag, iova: PAGE, pa: 0n, prot: 3 });
  invalidate(ioatc);
  return Object.entries(TAGS).flatMap(([name, tag]) => (ioatc.find(tag, PAGE) ? [] : [name]));
}

describe('an IOATC', () => {
  it('finds an entry by all its tags and its page', () => {
    const ioatc = new Ioatc({});
    ioatc.fill({ tag: NESTED, iova: PAGE, pa: 0x9000n, prot: 1 });
    expect(ioatc.find(NESTED, PAGE)?.pa).toBe(0x9000n);
    expect([ioatc.find(HOST, PAGE), ioatc.find(GUEST, PAGE), ioatc.find(NESTED, 0x2000n)]).toEqual([null, null, null]);
  });

  // Operands are GSCID, PSCID and address, null where GV, PSCV or AV is 0 (4.1.1).
  it.each([
    [null, null, null, ['HOST']],
    [null, 2, null, []],
    [5, null, null, ['NESTED', 'OTHER_PROCESS']],
    [5, 1, null, ['NESTED']],
    [5, 1, PAGE, ['NESTED']],
    [5, 1, 0x2000n, []],
  ] as const)('drops after IOTINVAL.VMA of %s, %s, %s the entries of %s', (gscid, pscid, iova, expected) => {
    expect(dropped((ioatc) => ioatc.invalidateVma(gscid, pscid, iova))).toEqual(expected);
  });

  it.each([
    [null, null, ['GUEST', 'NESTED', 'OTHER_PROCESS', 'OTHER_GUEST']],
    [5, null, ['GUEST', 'NESTED', 'OTHER_PROCESS']],
    [5, PAGE, ['GUEST', 'NESTED', 'OTHER_PROCESS']],
    [5, 0x2000n, ['NESTED', 'OTHER_PROCESS']],
    [7, null, []],
  ] as const)('drops after IOTINVAL.GVMA of %s, %s the entries of %s', (gscid, gpa, expected) => {
    expect(dropped((ioatc) => ioatc.invalidateGvma(gscid, gpa))).toEqual(expected);
  });
});
