/** In which release each flag is accepted, and each capability reported. */
import { describe } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import * as mock from '../../src/abi/iommufd-test.ts';
import { MockProgram } from '../../src/iommufd/test-command/testing.ts';
import { testMachine } from '../host/program.ts';
import { Vm } from '../host/vm.ts';
import { changed } from './changes.ts';

type Values = Record<string, number | bigint>;

/** A mock device on an IOAS, and HWPT_ALLOC for it. */
function allocator(release: string) {
  const program = new MockProgram(release);
  const ioasId = program.ioas();
  const { idevId } = program.device(ioasId);
  const alloc = (values: Values) =>
    program.err(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { devId: idevId, ptId: ioasId, ...values });
  return { program, ioasId, idevId, alloc };
}

/** The same with a fault queue. */
async function withQueue(release: string) {
  const setup = allocator(release);
  const { outFaultId } = await setup.program.okAsync(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc, {});
  return { ...setup, faultId: outFaultId };
}

/** Data of a nested HWPT of the mock driver. */
function nestedData(program: MockProgram): Values {
  const data = new mock.HwptSelftest(new Uint8Array(mock.HwptSelftest.size));
  return { dataType: mock.IOMMU_HWPT_DATA_SELFTEST, dataLen: 4, dataUptr: program.put(data.bytes) };
}

describe('flags of HWPT_ALLOC', () => {
  changed(
    'linux-6.7',
    'a nesting parent can be allocated',
    { from: 'linux-6.6', before: 'EOPNOTSUPP', since: '' },
    (release) => allocator(release).alloc({ size: 24, flags: uapi.IOMMU_HWPT_ALLOC_NEST_PARENT }),
  );
  changed('linux-6.7', 'an HWPT can track writes', { from: 'linux-6.6', before: 'EOPNOTSUPP', since: '' }, (release) =>
    allocator(release).alloc({ size: 24, flags: uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING }),
  );
  /** HWPT_ALLOC of a nested HWPT. */
  const nested = (release: string, flags: number) => {
    const { program, ioasId, idevId, alloc } = allocator(release);
    const parent = { size: 40, devId: idevId, ptId: ioasId, flags: uapi.IOMMU_HWPT_ALLOC_NEST_PARENT };
    const ptId = program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, parent).outHwptId;
    return alloc({ size: 40, ptId, flags, ...nestedData(program) });
  };
  changed(
    'linux-6.11',
    'a nested HWPT takes a fault queue, and looks for it',
    { from: 'linux-6.7', before: 'EOPNOTSUPP', since: 'ENOENT' },
    (release) => nested(release, uapi.IOMMU_HWPT_FAULT_ID_VALID),
  );
  changed(
    'linux-6.15',
    'a nested HWPT can be allocated for PASIDs',
    { from: 'linux-6.7', before: 'EOPNOTSUPP', since: '' },
    (release) => nested(release, uapi.IOMMU_HWPT_ALLOC_PASID),
  );
  changed(
    'linux-6.13',
    'a paging HWPT takes a fault queue, too',
    { from: 'linux-6.11', before: 'EOPNOTSUPP', since: '' },
    async (release) => {
      const { alloc, faultId } = await withQueue(release);
      return alloc({ flags: uapi.IOMMU_HWPT_FAULT_ID_VALID, faultId });
    },
  );
  changed(
    'linux-6.15',
    'an HWPT can be allocated for PASIDs',
    { from: 'linux-6.6', before: 'EOPNOTSUPP', since: '' },
    (release) => allocator(release).alloc({ size: 24, flags: uapi.IOMMU_HWPT_ALLOC_PASID }),
  );
});

describe('GET_HW_INFO', () => {
  const capabilities = (release: string): number => {
    const { program, idevId } = allocator(release);
    return Number(program.ok(uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { devId: idevId }).outCapabilities);
  };
  const errno = (release: string, values: Values) => {
    const { program, idevId } = allocator(release);
    return program.err(uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { devId: idevId, ...values });
  };

  changed(
    'linux-6.17',
    'a program can ask for one type of information',
    { from: 'linux-6.6', before: 'EOPNOTSUPP', since: '' },
    (release) => errno(release, { flags: uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE }),
  );
  changed(
    'linux-6.15',
    'the byte of out_max_pasid_log2 need not be 0 any more',
    { from: 'linux-6.6', before: 'EOPNOTSUPP', since: '' },
    (release) => errno(release, { outMaxPasidLog2: 1 }),
  );
  changed(
    'linux-6.15',
    'the width of PASIDs is reported',
    { from: 'linux-6.6', before: 0, since: 8 },
    async (release) => {
      const vm = await Vm.start(testMachine({ abi: release, preset: 'one-smmu' }).machine);
      const { id } = await vm.device(2);
      const { program, iommufd } = vm;
      return (await program.ok(iommufd, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { devId: id })).outMaxPasidLog2;
    },
  );
  changed(
    'linux-6.7',
    'dirty tracking is reported in out_capabilities',
    { from: 'linux-6.6', before: 0, since: 1 },
    (release) => capabilities(release) & uapi.IOMMU_HW_CAP_DIRTY_TRACKING,
  );
  changed(
    'linux-7.1',
    'a device without ATS is reported in out_capabilities',
    { from: 'linux-6.6', before: 0, since: uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED },
    (release) => capabilities(release) & uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  );
});
