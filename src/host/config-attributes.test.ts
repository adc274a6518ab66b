import { describe, expect, it } from 'vitest';
import { Program, testMachine } from '../../test/host/program.ts';
import * as vfio from '../abi/vfio.ts';

const BUS = '/sys/devices/platform/uiommufd.pcie.0/pci0000:00';
const FUNCTION = `${BUS}/0000:00:01.0/0000:01:00.0`;

function start() {
  const { machine } = testMachine();
  const program = new Program(machine);
  const open = (name: string): number => program.open(`${FUNCTION}/${name}`);
  return { machine, program, config: open('config'), power: open('power_state') };
}

const hex = (bytes: Uint8Array | string): string =>
  typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('hex');
const bytes = (text: string): Uint8Array => Buffer.from(text, 'hex');

describe('config', () => {
  it('has 4096 bytes, at any position and by read(2) and lseek(2) too', () => {
    const { machine, program, config } = start();
    expect(hex(program.pread(config, 0n, 4))).toBe('86802120');
    expect(hex(program.pread(config, 1n, 5))).toBe('8021200000');
    expect(program.pread(config, 4094n, 8)).toHaveLength(2);
    expect(program.pread(config, 4096n, 8)).toHaveLength(0);
    expect(program.pread(config, 2n ** 62n, 8)).toHaveLength(0);
    const file = program.file(config);
    expect([file.seek!(2n, 0), hex(program.read(config, 2)), file.seek!(-4n, 1)]).toEqual([2, '2120', 0]);
    expect([file.seek!(-1n, 2), program.read(config, 8).length]).toEqual([4095, 1]);
    expect(() => file.seek!(-1n, 0)).toThrow('no place');
    expect(() => file.seek!(0n, 3)).toThrow('no place');
    expect(machine.deviceNodes).toContainEqual(
      expect.objectContaining({ path: `${FUNCTION}/config`, size: 4096, mode: 0o644, regular: true }),
    );
  });

  it('is what the function has now, and takes what its registers take, as setpci does while vfio-pci drives it', () => {
    const { machine, program, config } = start();
    const { fn } = machine.devices[0]!;
    const command = hex(program.pread(config, 4n, 2));
    expect(program.pwrite(config, 4n, bytes('ffff'))).toBe(2);
    expect([command, hex(program.pread(config, 4n, 2))]).toEqual(['0000', '4605']);
    expect(fn.dma.enabled).toBe(true);
    fn.reset();
    expect(hex(program.pread(config, 4n, 2))).toBe('0000');
    // Vendor and device are fixed, the cache line size behind them is not: 11 bytes from an odd place.
    expect(program.pwrite(config, 1n, new Uint8Array(12).fill(0x55))).toBe(12);
    expect([hex(program.pread(config, 0n, 4)), hex(program.pread(config, 12n, 1))]).toEqual(['86802120', '55']);
  });

  it('is cut at its end, and EFBIG beyond', () => {
    const { program, config } = start();
    expect(program.pwrite(config, 4094n, new Uint8Array(8))).toBe(2);
    expect(program.pwrite(config, 4096n, new Uint8Array(8))).toBe('EFBIG');
  });

  it('of a root port has its class, header, bus numbers and ACS, none of which can be changed', () => {
    const { program } = start();
    const port = program.open(`${BUS}/0000:00:02.0/config`);
    const read = (): Buffer => Buffer.from(program.pread(port, 0n, 4096) as Uint8Array);
    const config = read();
    // Class, header type 1, primary, secondary and subordinate bus; capability 0x10 of a root port.
    expect([config.readUInt16LE(0x0a), config[0x0e], ...config.subarray(0x18, 0x1b)]).toEqual([0x0604, 1, 0, 2, 2]);
    expect([config[config[0x34]!], config.readUInt16LE(config[0x34]! + 2) >>> 4]).toEqual([0x10, 4]);
    // ACS: source validation, request and completion redirect, upstream forwarding, there and enabled.
    expect([config.readUInt16LE(0x100), config.readUInt16LE(0x104), config.readUInt16LE(0x106)]).toEqual([13, 29, 29]);
    expect(program.pwrite(port, 0n, new Uint8Array(256).fill(0xff))).toBe(256);
    expect(read()).toEqual(config);
  });

  it('wakes a function whose program wants to hear of it', async () => {
    const { program, config } = start();
    const [device, iommufd] = [program.open('/dev/vfio/devices/vfio0'), program.open('/dev/iommu')];
    await program.ok(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { iommufd });
    const { fd, eventFd } = program.eventfd();
    const wakeup = Buffer.alloc(8);
    wakeup.writeInt32LE(fd);
    const flags = vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP | vfio.VFIO_DEVICE_FEATURE_SET;
    const { errno } = await program.call(device, vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, { flags }, wakeup);
    expect([errno, eventFd.count]).toEqual(['', 0]);
    program.pread(config, 0n, 64);
    expect(eventFd.count).toBe(1);
  });
});

describe('power_state', () => {
  it('names the state that the function is in', () => {
    const { machine, program, power } = start();
    const { fn } = machine.devices[0]!;
    const state = (): string => Buffer.from(program.pread(power, 0n, 100) as Uint8Array).toString();
    expect(state()).toBe('D0\n');
    fn.writeConfig(fn.config.offsetOf('PMCSR'), 2, 3);
    expect(state()).toBe('D3hot\n');
    expect(program.write(power, new Uint8Array(1))).toBe('EIO');
  });
});
