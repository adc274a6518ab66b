import { describe, expect, it } from 'vitest';
import { DIALECTS, dialect } from '../abi/dialects.ts';
import * as test from '../abi/iommufd-test.ts';
import { IOMMUFD_COMMANDS, TYPE1_COMMANDS, VIOMMU_V2_COMMANDS } from './commands.ts';
import { TEST_OPERATIONS } from './test-command.ts';
import { VFIO_DEVICE_COMMANDS } from './vfio.ts';

const numbers = (table: object): number[] => Object.values(table).map(({ command }) => command);

describe('the client', () => {
  it('has every command of every dialect of Linux, with its newest layout', () => {
    const commands = new Set(numbers(IOMMUFD_COMMANDS));
    for (const { name, commands: known } of DIALECTS.filter(({ name }) => name.startsWith('linux'))) {
      for (const command of known.values()) expect(commands.has(command.command), `${name} ${command.name}`).toBe(true);
    }
    for (const { command, struct } of Object.values(IOMMUFD_COMMANDS)) {
      expect(struct).toBe(dialect('linux-7.1').commands.get(command & 0xff)!.struct);
    }
  });

  it('has every command of viommu-v2', () => {
    const commands = new Map(
      Object.values({ ...IOMMUFD_COMMANDS, ...VIOMMU_V2_COMMANDS }).map((each) => [each.command, each]),
    );
    for (const { command, name } of dialect('viommu-v2').commands.values())
      expect(commands.has(command), name).toBe(true);
  });

  it('has every command of a VFIO device', () => {
    const known = [...dialect('linux-7.1').vfioCommands.values()].map(({ command }) => command);
    expect(numbers(VFIO_DEVICE_COMMANDS).sort()).toEqual(known.sort());
  });

  it('has every operation of IOMMU_TEST_CMD', () => {
    const known = Object.values(test.testOps);
    expect(
      Object.values(TEST_OPERATIONS)
        .map(({ op }) => op)
        .sort(),
    ).toEqual([...known].sort());
  });

  it('has no number twice in a class of files', () => {
    const all = numbers({ ...IOMMUFD_COMMANDS, ...TYPE1_COMMANDS });
    expect(new Set(all).size).toBe(all.length);
  });
});
