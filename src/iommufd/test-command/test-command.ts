/**
 * IOMMU_TEST_CMD: what the kernel's selftests ask of the mock driver and of iommufd's inside. Only machines with the mock
 * driver have it.
 */
import { fail } from '../../abi/errno.ts';
import * as abi from '../../abi/iommufd-test.ts';
import type { MockIommu } from '../../drivers/mock/mock-iommu.ts';
import type { Command, Handler } from '../command.ts';
import { accessPages, accessReplaceIoas, accessRw, createAccess, destroyAccessPages } from './access-operations.ts';
import { checkDevCache, checkIotlb, checkMap, checkRefs } from './checks.ts';
import { dirty } from './dirty.ts';
import { dmabufGet, dmabufRevoke } from './dmabuf.ts';
import { triggerIopf, triggerVevent } from './events.ts';
import { mockDomain, mockDomainReplace } from './mock-domain.ts';
import { pasidAttach, pasidCheckHwpt, pasidDetach, pasidReplace } from './pasid.ts';
import { addReserved, setTemporaryMemoryLimit } from './settings.ts';

type Cmd = InstanceType<typeof abi.TestCmd>;

/** @param payload of the command, viewed by the operation through its own struct */
export type Operation = (command: Command, cmd: Cmd, payload: Uint8Array) => void | Promise<void>;

export function testCommand(mock: MockIommu): Handler {
  const operations: Readonly<Record<number, Operation>> = {
    [abi.IOMMU_TEST_OP_ADD_RESERVED]: addReserved,
    [abi.IOMMU_TEST_OP_MOCK_DOMAIN]: mockDomain(mock, false),
    [abi.IOMMU_TEST_OP_MD_CHECK_MAP]: checkMap,
    [abi.IOMMU_TEST_OP_MD_CHECK_REFS]: checkRefs,
    [abi.IOMMU_TEST_OP_CREATE_ACCESS]: createAccess,
    [abi.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES]: destroyAccessPages,
    [abi.IOMMU_TEST_OP_ACCESS_PAGES]: accessPages,
    [abi.IOMMU_TEST_OP_ACCESS_RW]: accessRw,
    [abi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT]: setTemporaryMemoryLimit,
    [abi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE]: mockDomainReplace,
    [abi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS]: accessReplaceIoas,
    [abi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS]: mockDomain(mock, true),
    [abi.IOMMU_TEST_OP_DIRTY]: dirty(mock),
    [abi.IOMMU_TEST_OP_MD_CHECK_IOTLB]: checkIotlb,
    [abi.IOMMU_TEST_OP_TRIGGER_IOPF]: triggerIopf,
    [abi.IOMMU_TEST_OP_DEV_CHECK_CACHE]: checkDevCache,
    [abi.IOMMU_TEST_OP_TRIGGER_VEVENT]: triggerVevent,
    [abi.IOMMU_TEST_OP_PASID_ATTACH]: pasidAttach,
    [abi.IOMMU_TEST_OP_PASID_REPLACE]: pasidReplace,
    [abi.IOMMU_TEST_OP_PASID_DETACH]: pasidDetach,
    [abi.IOMMU_TEST_OP_PASID_CHECK_HWPT]: pasidCheckHwpt,
    [abi.IOMMU_TEST_OP_DMABUF_GET]: dmabufGet,
    [abi.IOMMU_TEST_OP_DMABUF_REVOKE]: dmabufRevoke,
  };
  return (command) => {
    const cmd = new abi.TestCmd(command.bytes);
    const operation = operations[cmd.op];
    if (!operation || cmd.op > mock.release.lastOperation) throw fail('EOPNOTSUPP', `op ${cmd.op} is unknown`);
    return operation(command, cmd, cmd.payload);
  };
}
