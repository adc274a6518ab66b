import { describe, expect, it } from 'vitest';
import { dialect } from '../abi/dialects.ts';
import { IOMMU_TEST_CMD, TestCmd } from '../abi/iommufd-test.ts';
import { BufferMemory, errnoName, errnoOf, TestProcess } from '../iommufd/testing.ts';
import { MockMachine } from './mock-machine.ts';

describe('the machine mock', () => {
  it('has /dev/iommu, what makes allocations fail, and nothing else', () => {
    const machine = new MockMachine();
    expect(machine.deviceNodes.map(({ path }) => path)).toEqual(['/dev/iommu', '/proc/thread-self/fail-nth']);
    expect(errnoName(errnoOf(() => machine.open('/dev/vfio/vfio') && 0))).toBe('ENOENT');
  });

  it('speaks its release, with IOMMU_TEST_CMD', () => {
    const machine = new MockMachine({ dialect: dialect('linux-6.12') });
    const file = machine.open('/dev/iommu');
    const process = new TestProcess(new BufferMemory());
    const cmd = Object.assign(new TestCmd(), { size: TestCmd.size, op: 16 });
    process.memory.write(process.memory.base, cmd.bytes);
    const test = () => file.ioctl(process, IOMMU_TEST_CMD, BigInt(process.memory.base)) as number;
    expect(errnoName(errnoOf(test))).toBe('EOPNOTSUPP');
    file.release();
  });

  it('has nothing left when its files are closed', () => {
    const machine = new MockMachine();
    const file = machine.open('/dev/iommu');
    const process = new TestProcess(new BufferMemory());
    const { base } = process.memory;
    process.memory.write(base, new Uint8Array(Uint32Array.of(12, 0, 0).buffer));
    expect(file.ioctl(process, 0x3b81, BigInt(base))).toBe(0);
    const cmd = Object.assign(new TestCmd(), { size: TestCmd.size, op: 2, id: 1 });
    process.memory.write(base, cmd.bytes);
    expect(file.ioctl(process, IOMMU_TEST_CMD, BigInt(base))).toBe(0);
    expect(machine.leftovers()).toEqual({
      objects: 4,
      pinnedFrames: 0,
      windows: 0,
      devices: 1,
      domains: 1,
      viommus: 0,
    });
    file.release();
    expect(Object.values(machine.leftovers()).every((count) => count === 0)).toBe(true);
  });
});
