/** IOMMU_TEST_CMD, where the kernel (or the machine `mock`) has it: an operation is a method with its own payload. */
import * as abi from '../abi/iommufd-test.ts';
import type { AnyStruct } from '../abi/struct.ts';
import type { Answer, OpenedFile, Values } from './command-file.ts';

interface OperationOf<S extends AnyStruct> {
  readonly op: number;
  readonly payload: S;
}

const takes = <S extends AnyStruct>(op: number, payload: S): OperationOf<S> => ({ op, payload });

export const TEST_OPERATIONS = {
  addReserved: takes(abi.IOMMU_TEST_OP_ADD_RESERVED, abi.TestAddReserved),
  mockDomain: takes(abi.IOMMU_TEST_OP_MOCK_DOMAIN, abi.TestMockDomain),
  mockDomainFlags: takes(abi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, abi.TestMockDomain),
  mockDomainReplace: takes(abi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, abi.TestMockDomainReplace),
  checkMap: takes(abi.IOMMU_TEST_OP_MD_CHECK_MAP, abi.TestCheckMap),
  checkRefs: takes(abi.IOMMU_TEST_OP_MD_CHECK_REFS, abi.TestCheckRefs),
  checkIotlb: takes(abi.IOMMU_TEST_OP_MD_CHECK_IOTLB, abi.TestCheckIotlb),
  checkDevCache: takes(abi.IOMMU_TEST_OP_DEV_CHECK_CACHE, abi.TestCheckDevCache),
  createAccess: takes(abi.IOMMU_TEST_OP_CREATE_ACCESS, abi.TestCreateAccess),
  accessReplaceIoas: takes(abi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, abi.TestAccessReplaceIoas),
  accessPages: takes(abi.IOMMU_TEST_OP_ACCESS_PAGES, abi.TestAccessPages),
  destroyAccessPages: takes(abi.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, abi.TestDestroyAccessPages),
  accessRw: takes(abi.IOMMU_TEST_OP_ACCESS_RW, abi.TestAccessRw),
  setTempMemoryLimit: takes(abi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, abi.TestMemoryLimit),
  dirty: takes(abi.IOMMU_TEST_OP_DIRTY, abi.TestDirty),
  triggerIopf: takes(abi.IOMMU_TEST_OP_TRIGGER_IOPF, abi.TestTriggerIopf),
  triggerVevent: takes(abi.IOMMU_TEST_OP_TRIGGER_VEVENT, abi.TestTriggerVevent),
  pasidAttach: takes(abi.IOMMU_TEST_OP_PASID_ATTACH, abi.TestPasidAttach),
  pasidReplace: takes(abi.IOMMU_TEST_OP_PASID_REPLACE, abi.TestPasidAttach),
  pasidDetach: takes(abi.IOMMU_TEST_OP_PASID_DETACH, abi.TestPasidDetach),
  pasidCheckHwpt: takes(abi.IOMMU_TEST_OP_PASID_CHECK_HWPT, abi.TestPasidCheck),
  dmabufGet: takes(abi.IOMMU_TEST_OP_DMABUF_GET, abi.TestDmabufGet),
  dmabufRevoke: takes(abi.IOMMU_TEST_OP_DMABUF_REVOKE, abi.TestDmabufRevoke),
} as const;

type Operation<O> = O extends OperationOf<infer S> ? (id: number, values?: Values<S>) => Promise<Answer<S>> : never;

/** @param id of the object, or the descriptor of the access, that the operation is for */
export type TestOperations = { readonly [K in keyof typeof TEST_OPERATIONS]: Operation<(typeof TEST_OPERATIONS)[K]> };

export function testOperations(iommufd: OpenedFile): TestOperations {
  const methods = Object.entries(TEST_OPERATIONS).map(([name, { op, payload: layout }]) => {
    const operation = async (id: number, values: object = {}) => {
      const payload = Object.assign(new layout(new Uint8Array(abi.TEST_PAYLOAD_BYTES)), values).bytes;
      const answer = await iommufd.call(abi.IOMMU_TEST_CMD, abi.TestCmd, { op, id, payload });
      return Object.assign(new layout(answer.payload), { result: answer.result });
    };
    return [name, operation];
  });
  return Object.fromEntries(methods) as TestOperations;
}
