/** What a kernel built with CONFIG_IOMMUFD_TEST has beyond its release: IOMMU_TEST_CMD, and a mock driver that changed. */
import type { Dialect } from './dialects.ts';
import { IOMMU_VEVENTQ_ALLOC, IOMMU_VIOMMU_ALLOC } from './iommufd.ts';
import * as abi from './iommufd-test.ts';

/** `dialect` with IOMMU_TEST_CMD, for a machine with the mock driver. */
export function withTestCommand(dialect: Dialect): Dialect {
  const { IOMMU_TEST_CMD, TestCmd } = abi;
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

/** The mock driver of a release. */
export interface MockRelease {
  /** The highest operation of IOMMU_TEST_CMD. */
  readonly lastOperation: number;
  /** MOCK_FLAGS_DEVICE_* */
  readonly deviceFlags: number;
  /** Of iommu_hwpt_selftest. Where it has no page table type, paging domains take no data. */
  readonly hwptDataBytes: number;
  /**
   * 'generic': leaves of every power of two, and every bit of DIRTY counts. 'flat': 2 KiB leaves (and 1 MiB ones with
   * MOCK_FLAGS_DEVICE_HUGE_IOVA), and only bits of what is mapped count.
   */
  readonly pageTable: 'generic' | 'flat';
  /** A nested domain of a vIOMMU takes no device that has no vDEVICE there. */
  readonly nestedAttachNeedsVdevice: boolean;
}

/** Gone since the page table is a generic one. */
export const MOCK_FLAGS_DEVICE_HUGE_IOVA = 1 << 1;

export function mockRelease({ commands, behaviour }: Dialect): MockRelease {
  const has = (command: number): boolean => commands.get(command & 0xff)?.command === command;
  const hasVevents = has(IOMMU_VEVENTQ_ALLOC) && behaviour.veventHeader;
  const nestedAttachNeedsVdevice = behaviour.nestedAttachNeedsVdevice !== 'never';
  const flags = abi.MOCK_FLAGS_DEVICE_NO_DIRTY | (hasVevents ? abi.MOCK_FLAGS_DEVICE_PASID : 0);
  if (behaviour.mapFileDmabuf) {
    const { IOMMU_TEST_OP_DMABUF_REVOKE: lastOperation, HwptSelftest } = abi;
    return {
      lastOperation,
      deviceFlags: flags,
      hwptDataBytes: HwptSelftest.size,
      pageTable: 'generic',
      nestedAttachNeedsVdevice,
    };
  }
  const beforeVevents = has(IOMMU_VIOMMU_ALLOC) ? abi.IOMMU_TEST_OP_DEV_CHECK_CACHE : abi.IOMMU_TEST_OP_TRIGGER_IOPF;
  return {
    lastOperation: hasVevents ? abi.IOMMU_TEST_OP_PASID_CHECK_HWPT : beforeVevents,
    deviceFlags: flags | MOCK_FLAGS_DEVICE_HUGE_IOVA,
    hwptDataBytes: abi.HwptSelftest.end('iotlb'),
    pageTable: 'flat',
    nestedAttachNeedsVdevice,
  };
}
