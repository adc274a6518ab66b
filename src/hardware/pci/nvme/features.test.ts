import { describe, expect, it } from 'vitest';
import { type Disk, MemoryStore } from './disk.ts';
import { ALL, type NvmeDriver, nvmeRig, startedRig } from './testing.ts';

const SAVE = 0x8000_0000;
const set = (driver: NvmeDriver, feature: number, value: number, nsid = 0) =>
  driver.admin({ opcode: 0x09, nsid, dwords: [feature, value] });
const get = (driver: NvmeDriver, feature: number, parameter = 0, nsid = 0) =>
  driver.admin({ opcode: 0x0a, nsid, dwords: [feature, parameter] });

describe('a feature', () => {
  it.each([
    ['arbitration', 0x01, 0x0102_0300],
    ['a temperature threshold', 0x04, 350],
    ['the volatile write cache', 0x06, 0],
    ['interrupt coalescing', 0x08, 0x0a05],
    ['an interrupt vector', 0x09, 0x1_0002],
    ['write atomicity', 0x0a, 1],
    ['asynchronous events', 0x0b, 0x100],
  ])('is kept until the controller is reset: %s', (_what, feature, value) => {
    const { driver } = startedRig();
    const parameter = feature === 0x09 ? 2 : 0;
    const before = get(driver, feature, parameter).result;
    expect(before).not.toBe(value);
    expect(set(driver, feature, value).status).toBe(0);
    expect(get(driver, feature, parameter)).toMatchObject({ status: 0, result: value });
    expect(get(driver, feature + 0x100, parameter).result).toBe(before);
    driver.start();
    expect(get(driver, feature, parameter).result).toBe(before);
  });

  it('tells what it is capable of', () => {
    const { driver } = startedRig();
    expect(get(driver, 0x306).result).toBe(4);
    expect(get(driver, 0x305).result).toBe(6);
  });

  it.each([
    ['unknown', 0x7f, 0, 0, 0x002],
    ['to be saved', SAVE + 0x06, 1, 0, 0x10d],
    ['a power state that does not exist', 0x02, 1, 0, 0x002],
    ['a vector that does not exist', 0x09, 33, 0, 0x002],
    ['a temperature sensor that does not exist', 0x04, 0x0003_0150, 0, 0x002],
    ['for one namespace, and is not of namespaces', 0x06, 1, 1, 0x10f],
    ['error recovery of a namespace that does not exist', 0x05, 0, 2, 0x00b],
    ['to report deallocated blocks', 0x05, 0x1_0000, 1, 0x002],
  ])('is refused when it is %s', (_what, feature, value, nsid, status) => {
    expect(set(startedRig().driver, feature, value, nsid).status).toBe(status);
  });

  it('of namespaces is kept for each', () => {
    const disk = (): Disk => ({ store: new MemoryStore(4096), blockBytes: 512 });
    const { driver } = nvmeRig({ disks: [disk(), disk()] });
    driver.start();
    expect(set(driver, 0x05, 7, ALL).status).toBe(0);
    expect(set(driver, 0x05, 9, 2).status).toBe(0);
    expect([get(driver, 0x05, 0, 1).result, get(driver, 0x05, 0, 2).result]).toEqual([7, 9]);
    expect(get(driver, 0x05, 0, ALL).status).toBe(0x00b);
  });

  it('cannot be asked for in a way that does not exist', () => {
    const { driver } = startedRig();
    expect([get(driver, 0x406).status, get(driver, 0x7f).status]).toEqual([0x002, 0x002]);
  });
});
