/** GET_HW_INFO on the mock driver. */
import assert from 'node:assert/strict';
import { HwInfo } from '../../../src/abi/iommufd.ts';
import {
  IOMMU_HW_INFO_SELFTEST_REGVAL,
  IOMMU_HW_INFO_TYPE_SELFTEST,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_FLAGS_DEVICE_PASID,
  TestHwInfo,
} from '../../../src/abi/iommufd-test.ts';
import { casesOf } from '../suite.ts';

const INPUT_TYPE = 1;

casesOf('IOMMU_GET_HW_INFO', [], ({ refuses }) => {
  refuses('EOPNOTSUPP', 'a flag that is not known', (t) => () => t.iommufd.getHwInfo({ flags: 2 }));
  for (const byte of [0, 1, 2]) {
    const reserved = new Uint8Array(3);
    reserved[byte] = 1;
    refuses('EOPNOTSUPP', `byte ${byte} of a reserved field`, (t) => () => t.iommufd.getHwInfo({ reserved }));
  }
  refuses('ENOENT', 'a device that does not exist', (t) => () => t.iommufd.getHwInfo({ devId: 7 }));
  refuses('ENOENT', 'an IOAS', async (t) => {
    const devId = await t.ioas();
    return () => t.iommufd.getHwInfo({ devId });
  });
});

casesOf('IOMMU_GET_HW_INFO', ['mock'], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'a type that the driver does not have', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    return () => t.iommufd.getHwInfo({ devId, flags: INPUT_TYPE, inDataType: 1 });
  });
  refuses('EFAULT', 'a place for data where there is no memory', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    return () => t.iommufd.getHwInfo({ devId, dataLen: 8, dataUptr: t.nowhere });
  });
  refuses('EFAULT', 'a place for more data where there is no memory for the rest', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    return () => t.iommufd.getHwInfo({ devId, dataLen: 16, dataUptr: t.program.edge(8).address });
  });
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    return () => t.iommufd.getHwInfo({}, t.unanswerable(HwInfo, { devId }));
  });
  does('tells the data of the driver, their type and length', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    const data = t.program.allocate(TestHwInfo.size);
    const answer = await t.iommufd.getHwInfo({ devId, dataLen: TestHwInfo.size, dataUptr: data.address });
    assert.deepEqual([answer.outDataType, answer.dataLen], [IOMMU_HW_INFO_TYPE_SELFTEST, TestHwInfo.size]);
    const { flags, testReg } = new TestHwInfo(data.bytes);
    assert.deepEqual([flags, testReg], [0, IOMMU_HW_INFO_SELFTEST_REGVAL]);
  });
  does('tells the length without a place for data', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    assert.equal((await t.iommufd.getHwInfo({ devId })).dataLen, TestHwInfo.size);
  });
  does('clears what is beyond its data, and writes no more than there is room for', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    const { address, bytes } = t.program.allocate(32);
    await t.iommufd.getHwInfo({ devId, dataLen: 16, dataUptr: writeOver(bytes, address) });
    assert.deepEqual([...bytes.subarray(8)], [...new Array(8).fill(0), ...new Array(16).fill(0xaa)]);
    await t.iommufd.getHwInfo({ devId, dataLen: 5, dataUptr: writeOver(bytes, address) });
    assert.equal(bytes[5], 0xaa);
  });
  does('takes the type of the driver as one to ask for, and no notice of one without the flag', async (t) => {
    const { idevId: devId } = await t.ioasWithDevice();
    await t.iommufd.getHwInfo({ devId, flags: INPUT_TYPE, inDataType: IOMMU_HW_INFO_TYPE_SELFTEST });
    await t.iommufd.getHwInfo({ devId, flags: INPUT_TYPE, inDataType: 0 });
    await t.iommufd.getHwInfo({ devId, inDataType: 1 });
  });
  does('tells of dirty tracking, of PASIDs, and that there is no ATS', async (t) => {
    const told = async (devFlags: number) => {
      const { idevId: devId } = await t.ioasWithDevice(devFlags);
      const { outCapabilities, outMaxPasidLog2 } = await t.iommufd.getHwInfo({ devId });
      return [outCapabilities, outMaxPasidLog2];
    };
    assert.deepEqual(await told(0), [0b1001n, 0]);
    assert.deepEqual(await told(MOCK_FLAGS_DEVICE_NO_DIRTY), [0b1000n, 0]);
    assert.deepEqual(await told(MOCK_FLAGS_DEVICE_PASID), [0b1001n, 20]);
  });
});

function writeOver(bytes: Uint8Array, address: bigint): bigint {
  bytes.fill(0xaa);
  return address;
}
