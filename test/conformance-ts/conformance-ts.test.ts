import { describe, expect, it } from 'vitest';
import { dialect } from '../../src/abi/dialects.ts';
import { withTestCommand } from '../../src/abi/mock-dialect.ts';
import { GROUP_COMMANDS } from '../../src/abi/vfio-commands.ts';
import { IOMMUFD_COMMANDS, TEST_OPERATIONS, TYPE1_COMMANDS, VIOMMU_V2_COMMANDS } from '../../src/client/index.ts';
import { hasCompiler } from '../abi/layout.ts';
import { choiceText, engine, refusals } from './engine.ts';
import { table } from './results.ts';
import { refusalSites, siteOf } from './sites.ts';
import { CASES, missing, runCase } from './suite.ts';
import { CHOICES, throughShim } from './targets.ts';
import { UNREACHED } from './unreached.ts';

for (const choice of CHOICES) {
  describe(`on the machine ${choiceText(choice)}`, () => {
    const start = engine(choice);
    const { has } = start();
    const possible = CASES.filter((each) => missing(each, { has }) === null);
    it.each(possible.map((each) => [each.name, each] as const))('%s', (_, each) => runCase(each, start()));
  });
}

describe('the suite', () => {
  it('has a case with an errno, and one without, for every command', () => {
    const { commands, vfioCommands } = withTestCommand(dialect('linux-7.1'));
    const tables = [commands, vfioCommands, GROUP_COMMANDS];
    for (const command of tables.flatMap((table) => [...table.values()].map(({ name }) => name))) {
      const cases = CASES.filter((each) => each.command.replace(/ .*/, '') === command);
      expect([cases.some(({ errno }) => errno), cases.some(({ errno }) => !errno)], command).toEqual([true, true]);
    }
  });

  it('has a case for every operation of IOMMU_TEST_CMD', () => {
    const told = CASES.map(({ command }) => command.replaceAll('_', '').toUpperCase());
    const without = Object.keys(TEST_OPERATIONS).filter((name) => {
      const operation = name
        .replace(/^check(Map|Refs|Iotlb)$/, 'mdCheck$1')
        .replace(/^check(DevCache)$/, 'devCheckCache');
      return !told.includes(`IOMMUTESTOP${operation.replace(/Flags$/, '').toUpperCase()}`);
    });
    expect(without).toEqual([]);
  });

  it('has a case for every command that the client has', () => {
    const told = CASES.map(({ command }) => command.replace(/ .*/, '').replaceAll('_', ''));
    const names = Object.keys({ ...IOMMUFD_COMMANDS, ...TYPE1_COMMANDS, ...VIOMMU_V2_COMMANDS }).map((name) =>
      name.toUpperCase(),
    );
    expect(names.filter((name) => !told.includes(name) && !told.includes(`IOMMU${name}`))).toEqual([]);
  });

  it('tells no sentence twice', () => {
    const names = CASES.map(({ name, needs }) => `${name} ${needs}`);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('reaches every refusal of the engine, but those with a reason', () => {
    const reached = new Set(refusals.map(siteOf));
    const isExcused = (at: string, text: string): boolean =>
      UNREACHED.some((each) => at.startsWith(`${each.file}:`) && text.includes(each.text));
    const sites = refusalSites();
    const missed = sites.filter(({ at, text }) => !reached.has(at) && !isExcused(at, text));
    expect(missed).toEqual([]);
    const excused = UNREACHED.filter(
      ({ file, text }) =>
        !sites.some((site) => site.at.startsWith(`${file}:`) && site.text.includes(text) && !reached.has(site.at)),
    );
    expect(excused, 'excuses for what is reached, or is not there').toEqual([]);
  });
});

describe.skipIf(!hasCompiler() || process.platform !== 'linux')('a process of its own under the shim', () => {
  for (const choice of CHOICES) {
    it(`gets the same answers on the machine ${choiceText(choice)}`, async () => {
      const { results, left, name } = await throughShim(choice);
      const failed = results.filter(({ verdict }) => verdict === 'fail');
      expect(failed, table([{ name, results }])).toEqual([]);
      expect(results.some(({ verdict }) => verdict === 'pass')).toBe(true);
      expect(new Set(Object.values(left))).toEqual(new Set([0]));
    });
  }
});
