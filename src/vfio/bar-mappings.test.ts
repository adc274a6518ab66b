import { describe, expect, it } from 'vitest';
import { leftovers, Program, testMachine } from '../../test/host/program.ts';
import * as vfio from '../abi/vfio.ts';
import { type Mapping, mappedRegisters } from '../iommufd/file.ts';

const NODE = '/dev/vfio/devices/vfio0';
const [SHARED, PRIVATE] = [1, 2];
const READ_WRITE = 3;
const COMMAND = (7n << 40n) + 4n;
const CHAINADDR = 0x90;
const MSIX_TABLE = 0x2000;

async function boundDevice() {
  const { machine } = testMachine();
  const program = new Program(machine);
  const iommufd = program.open('/dev/iommu');
  const bind = (fd: number) =>
    program.err(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
  const fd = program.open(NODE);
  expect(await bind(fd)).toBe('');
  const map = (length = 0x4000n, flags = SHARED, offset = 0n) =>
    program.file(fd).mmap(program.process, length, READ_WRITE, flags, offset);
  return { machine, program, fd, bind, map };
}

const load = (mapping: Mapping, offset: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  mappedRegisters(mapping)!.load(offset, bytes);
  return bytes;
};

describe('a mapped BAR', () => {
  it('is the registers that pread and pwrite reach', async () => {
    const { program, fd, map } = await boundDevice();
    const mapping = map();
    mappedRegisters(mapping)!.store(CHAINADDR, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect(program.pread(fd, BigInt(CHAINADDR), 8)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect(load(mapping, 8, 1)).toEqual(Uint8Array.of(0x32));
  });

  it('begins where it is asked to', async () => {
    const { map } = await boundDevice();
    const registers = mappedRegisters(map(0x1000n, SHARED, 0x1000n));
    expect(registers!.length).toBe(0x1000);
  });

  it("shows the hardware's MSI-X table, which pread does not", async () => {
    const { program, fd, map } = await boundDevice();
    expect(program.pread(fd, BigInt(MSIX_TABLE) + 12n, 4)).toEqual(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
    expect(load(map(), MSIX_TABLE + 12, 4)).toEqual(Uint8Array.of(1, 0, 0, 0));
  });

  it('is a bus error (EIO) while memory decode is off', async () => {
    const { program, fd, map } = await boundDevice();
    const registers = mappedRegisters(map());
    program.pwrite(fd, COMMAND, Uint8Array.of(0, 0));
    expect(() => registers!.load(8, new Uint8Array(1))).toThrow('EIO');
    expect(() => registers!.store(CHAINADDR, new Uint8Array(4))).toThrow('EIO');
  });

  it('is a bus error (EIO) in low power, out of which it does not bring the device', async () => {
    const { program, fd, map } = await boundDevice();
    const registers = mappedRegisters(map());
    const feature = (flags: number) =>
      program.err(fd, vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, { argsz: 8, flags });
    expect(await feature(vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY | vfio.VFIO_DEVICE_FEATURE_SET)).toBe('');
    expect(program.pread(fd, 8n, 1)).toEqual(Uint8Array.of(0x32));
    expect(() => registers!.load(8, new Uint8Array(1))).toThrow('EIO');
    expect(await feature(vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT | vfio.VFIO_DEVICE_FEATURE_SET)).toBe('');
    registers!.load(8, new Uint8Array(1));
  });

  it.each<[string, bigint, number, bigint]>([
    ['a private mapping', 0x1000n, PRIVATE, 0n],
    ['more than the BAR', 0x5000n, SHARED, 0n],
    ['what begins behind the BAR', 0x1000n, SHARED, 0x4000n],
    ['a BAR that is not there', 0x1000n, SHARED, 1n << 40n],
    ['the ROM', 0x1000n, SHARED, 6n << 40n],
    ['configuration space', 0x1000n, SHARED, 7n << 40n],
    ['what is no region', 0x1000n, SHARED, 9n << 40n],
  ])('cannot be %s', async (_what, length, flags, offset) => {
    const { map } = await boundDevice();
    expect(() => map(length, flags, offset)).toThrow('EINVAL');
  });

  it('keeps the device bound after its file is closed, until it is gone', async () => {
    const { machine, program, fd, bind, map } = await boundDevice();
    const mapping = map();
    program.close(fd);
    const again = program.open(NODE);
    expect(await bind(again)).toBe('EINVAL');
    mappedRegisters(mapping)!.store(CHAINADDR, Uint8Array.of(1));
    mapping.ended();
    expect(await bind(again)).toBe('');
    program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('whose end nobody has told of is noticed when the device is bound again', async () => {
    const { program, fd, bind, map } = await boundDevice();
    let mapped = true;
    map().inUse = () => mapped;
    program.close(fd);
    const again = program.open(NODE);
    expect(await bind(again)).toBe('EINVAL');
    mapped = false;
    expect(await bind(again)).toBe('');
  });
});
