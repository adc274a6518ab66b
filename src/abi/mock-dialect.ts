/** What a kernel built with CONFIG_IOMMUFD_TEST accepts beyond its release. */
import type { Dialect } from './dialects.ts';
import { IOMMU_TEST_CMD, TestCmd } from './iommufd-test.ts';

/** `dialect` with IOMMU_TEST_CMD, for a machine with the mock driver. */
export function withTestCommand(dialect: Dialect): Dialect {
  const nr = IOMMU_TEST_CMD & 0xff;
  const command = {
    nr,
    command: IOMMU_TEST_CMD,
    name: 'IOMMU_TEST_CMD',
    struct: TestCmd,
    minimumSize: TestCmd.end('last'),
    size: TestCmd.size,
  };
  return { ...dialect, commands: new Map([...dialect.commands, [nr, command]]) };
}
