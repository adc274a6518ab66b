import { describe, expect, it } from 'vitest';
import { compare, table } from '../../scripts/conformance/compare.ts';
import { expectedResults, hostLacks, runConformance, VFIO } from '../../scripts/conformance/run.ts';
import { tapResults } from '../../scripts/conformance/tap.ts';

const OUTPUT = `TAP version 13
1..3
#  RUN           a.b.one ...
ok 1 a.b.one
# iommufd.c:344:two:Expected 0 (0) == -1
not ok 2 a.b.two
ok 3 a.b.three # SKIP not here
`;

describe('the conformance table', () => {
  it('reads passes, failures and skips', () => {
    expect([...tapResults(OUTPUT)]).toEqual([
      ['a.b.one', 'pass'],
      ['a.b.two', 'fail'],
      ['a.b.three', 'skip'],
    ]);
  });

  it('names every test that is not as expected, and those that did not run', () => {
    const expected = { 'a.b.one': 'pass', 'a.b.two': 'pass', 'a.b.three': 'pass', 'a.b.four': 'pass' } as const;
    const comparison = compare('iommufd', expected, tapResults(OUTPUT));
    expect(comparison.deviations).toEqual([
      'a.b.two: fail, expected pass',
      'a.b.three: skip, expected pass',
      'a.b.four: did not run, expected pass',
    ]);
    expect(table([comparison]).split('\n').slice(0, 2)).toEqual([
      'program  pass  skip  fail  of  deviations',
      'iommufd     1     1     1   4           3',
    ]);
  });

  it('expects of Linux 7.1 what its kernel gives: 241 passes and 5 skips of 246, and 8 of 8', () => {
    const { programs } = expectedResults('linux-7.1');
    const count = (program: string, result: string) =>
      Object.values(programs[program]!).filter((each) => each === result).length;
    expect([count('iommufd', 'pass'), count('iommufd', 'skip')]).toEqual([241, 5]);
    expect(Object.values(programs.iommufd_fail_nth!)).toEqual(new Array(8).fill('pass'));
  });

  it('lets a test that needs huge pages be skipped', () => {
    const results = tapResults('ok 1 a.hugetlb # SKIP mmap() failed\nok 2 b.hugetlb\nnot ok 3 c.hugetlb\n');
    const expected = { 'a.hugetlb': 'pass or skip', 'b.hugetlb': 'pass or skip', 'c.hugetlb': 'pass or skip' } as const;
    expect(compare('vfio', expected, results).deviations).toEqual(['c.hugetlb: fail, expected pass or skip']);
  });

  it('expects of the VFIO suite that every IOMMU mode passes', () => {
    const tests = expectedResults('linux-7.1', VFIO).programs.vfio_pci_driver_test!;
    const modes = Object.entries(tests).filter(([name]) => name.endsWith('.memcpy_storm'));
    expect(modes.map(([, result]) => result)).toEqual(new Array(5).fill('pass'));
  });

  it('names the programs that are missing', async () => {
    await expect(runConformance('/nonexistent', 'linux-7.1')).rejects.toThrow('/nonexistent lacks all');
  });
});

const folder = process.env.UIOMMUFD_SELFTESTS;
const why = folder ? (hostLacks() ?? '') : 'UIOMMUFD_SELFTESTS names no folder with the built selftests';

describe.skipIf(why !== '')(`the kernel's own selftests${why && ` (skipped: ${why})`}`, () => {
  it('give what they give on a kernel', { timeout: 180_000 }, async () => {
    const comparisons = await runConformance(folder!, 'linux-7.1');
    expect(comparisons.flatMap(({ deviations }) => deviations)).toEqual([]);
  });
});
