import { describe, expect, it } from 'vitest';
import { HwInfo, IOMMU_GET_HW_INFO } from '../abi/iommufd.ts';
import { IommufdDevice } from './device.ts';
import { Program } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu } from './testing-driver.ts';

function setup(abi = 'linux-7.1') {
  const program = new Program({ abi });
  const physical = new FakeDevice(new FakeIommu(), { maxPasidLog2: 16, hwCapabilities: 0xfn });
  const { id: devId } = IommufdDevice.bind(program.context, physical, 'vfio0');
  const call = (dataLen: number, values: object = {}) => {
    const dataUptr = program.put(new Uint8Array(16).fill(0xee), 0x900);
    const { result, s } = program.ioctl(IOMMU_GET_HW_INFO, HwInfo, { devId, dataLen, dataUptr, ...values });
    const bytes = new Uint8Array(16);
    program.process.memory.read(Number(dataUptr), bytes);
    return { result, s, bytes: Buffer.from(bytes).toString('hex') };
  };
  return { program, call };
}

describe('GET_HW_INFO', () => {
  it('gives the data, its true length, and zeros in the rest of the buffer', () => {
    const { call } = setup();
    const whole = call(12);
    expect(whole).toMatchObject({ result: 0, bytes: 'deadbeef0102030400000000eeeeeeee' });
    expect(whole.s).toMatchObject({ dataLen: 8, outDataType: FAKE_TYPE, outMaxPasidLog2: 16, outCapabilities: 0xfn });
    expect(call(3)).toMatchObject({
      result: 0,
      bytes: `deadbe${'ee'.repeat(13)}`,
      s: { dataLen: 8 },
    });
    expect(call(0, { dataUptr: 0n })).toMatchObject({ result: 0, s: { dataLen: 8 } });
  });

  it('refuses unknown flags, reserved bytes, devices and buffers', () => {
    const { call } = setup();
    expect(call(8, { flags: 2 }).result).toBe(-95);
    expect(call(8, { reserved: Uint8Array.of(0, 0, 1) }).result).toBe(-95);
    expect(call(8, { devId: 99 }).result).toBe(-2);
    expect(call(8, { dataUptr: 8n }).result).toBe(-14);
    expect(call(0xffffffff).result).toBe(-14);
  });

  it('asks the driver for a type only when the flag says so', () => {
    const { call } = setup();
    expect(call(8, { inDataType: 5 }).result).toBe(0);
    expect(call(8, { flags: 1, inDataType: 5 }).result).toBe(-95);
    expect(call(8, { flags: 1, inDataType: FAKE_TYPE }).result).toBe(0);
    expect(setup('linux-6.16').call(8, { flags: 1 }).result).toBe(-95);
  });

  it('tells no more than the release does', () => {
    const { call } = setup('linux-6.12');
    expect(call(8)).toMatchObject({ result: 0, s: { outMaxPasidLog2: 0, outCapabilities: 1n } });
    expect(call(8, { outMaxPasidLog2: 1 }).result).toBe(-95);
    expect(setup('linux-6.15').call(8, { outMaxPasidLog2: 1 })).toMatchObject({
      result: 0,
      s: { outCapabilities: 7n },
    });
  });
});
