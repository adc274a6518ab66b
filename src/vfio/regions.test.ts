import { describe, expect, it } from 'vitest';
import { Program, testMachine } from '../../test/host/program.ts';
import * as vfio from '../abi/vfio.ts';

const config = (offset: number): bigint => (7n << 40n) + BigInt(offset);
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const ones = bytes(0xff, 0xff, 0xff, 0xff);

async function boundDevice(change?: Parameters<typeof testMachine>[0]) {
  const { machine } = testMachine(change);
  const program = new Program(machine);
  const iommufd = program.open('/dev/iommu');
  const fd = program.open('/dev/vfio/devices/vfio0');
  await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
  return {
    machine,
    program,
    fd,
    fn: machine.devices[0]!.fn,
    read: (at: bigint, length: number) => program.pread(fd, at, length),
    write: (at: bigint, data: Uint8Array) => program.pwrite(fd, at, data),
  };
}

describe('configuration space of a bound device', () => {
  it('shows the identity, and cannot change it', async () => {
    const { read, write } = await boundDevice();
    write(config(0), ones);
    expect(read(config(0), 4)).toEqual(bytes(0x86, 0x80, 0x21, 0x20));
  });

  it('reads in one go, and not beyond its end', async () => {
    const { read, write } = await boundDevice();
    const all = read(config(0), 4096) as Uint8Array;
    expect(all.length).toBe(4096);
    expect(read(config(4094), 4)).toBe('EFAULT');
    expect(read(config(4096), 1)).toBe('EFAULT');
    expect(write(config(4095), bytes(1, 2))).toBe('EFAULT');
  });

  it('lets BAR0 be sized without moving it', async () => {
    const { read, write, fn } = await boundDevice();
    const before = fn.readConfig(0x10, 4);
    write(config(0x10), ones);
    write(config(0x14), ones);
    write(config(0x18), ones);
    write(config(0x30), ones);
    expect(read(config(0x10), 8)).toEqual(bytes(0x04, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
    expect(read(config(0x18), 4)).toEqual(bytes(0, 0, 0, 0));
    expect(read(config(0x30), 4)).toEqual(bytes(0, 0, 0, 0));
    expect(fn.readConfig(0x10, 4)).toBe(before);
  });

  it('passes bus mastering on, and keeps INTx disable to itself', async () => {
    const { read, write, fn } = await boundDevice();
    write(config(4), bytes(0x06, 0x00));
    expect(fn.dma.enabled).toBe(true);
    const hardware = fn.readConfig(4, 2) & 0x400;
    write(config(4), bytes(0x06, 0x04));
    expect(read(config(4), 2)).toEqual(bytes(0x06, 0x04));
    write(config(4), bytes(0x06, 0x00));
    expect(fn.readConfig(4, 2) & 0x400).toBe(hardware);
  });

  it('puts a function that was reset behind its back in order when COMMAND is written', async () => {
    const { write, fn } = await boundDevice();
    const before = fn.readConfig(0x10, 4);
    fn.reset();
    expect(fn.readConfig(0x10, 4)).not.toBe(before);
    write(config(4), bytes(0x06, 0x00));
    expect(fn.readConfig(0x10, 4)).toBe(before);
  });

  it('leaves MSI-X enable, ATS enable and capability headers as they are', async () => {
    const { read, write, fn } = await boundDevice();
    const ats = fn.config.offsetOf('ATS_CONTROL');
    for (const at of [0x82, ats, 0x80, 0x90]) write(config(at), bytes(0xff, 0xff));
    expect(fn.msixEnabled).toBe(false);
    expect(fn.dma.atsEnabled).toBe(false);
    expect(read(config(0x80), 2)).toEqual(bytes(0x11, 0x90));
  });

  it('hides the PASID capability and shows what follows it in the chain', async () => {
    const { read } = await boundDevice({ change: (m) => Object.assign(m.functions[0]!, { pri: true, pasidBits: 16 }) });
    const found: number[] = [];
    for (let at = 0x100; at; ) {
      const [lo, hi, next0, next1] = read(config(at), 4) as Uint8Array;
      found.push(lo! | (hi! << 8));
      at = (next0! >>> 4) | (next1! << 4);
    }
    expect(found).toEqual([0x01, 0x0f, 0x13]);
  });

  it("hands the device's own error registers through", async () => {
    const { read, write, fn } = await boundDevice();
    fn.config.set('CHANERR_INT', 0x11);
    expect(read(config(0x180), 4)).toEqual(bytes(0x11, 0, 0, 0));
    write(config(0x180), bytes(0x10, 0, 0, 0));
    expect(read(config(0x180), 4)).toEqual(bytes(0x01, 0, 0, 0));
  });

  it('resets the function by DEVCTL and keeps its settings', async () => {
    const { read, write, fn } = await boundDevice();
    write(config(4), bytes(0x06, 0x00));
    write(0x90n, ones);
    write(config(0x98), bytes(0x10, 0xa8));
    expect(read(0x90n, 4)).toEqual(bytes(0, 0, 0, 0));
    expect(read(config(0x98), 2)).toEqual(bytes(0x10, 0x28));
    expect(fn.readConfig(4, 2) & 6).toBe(6);
  });
});

describe('BAR0 of a bound device', () => {
  it('takes accesses of any width and alignment', async () => {
    const { read, write } = await boundDevice();
    write(0x90n, bytes(1, 2, 3, 4, 5, 6, 7, 8));
    expect(read(0x90n, 8)).toEqual(bytes(1, 2, 3, 4, 5, 6, 7, 8));
    expect(read(0x91n, 6)).toEqual(bytes(2, 3, 4, 5, 6, 7));
    write(0x93n, bytes(9));
    expect(read(0x92n, 2)).toEqual(bytes(3, 9));
  });

  it('hides the MSI-X table: reads see ones, writes are dropped', async () => {
    const { read, write, fn } = await boundDevice();
    write(0x200cn, bytes(0, 0, 0, 0));
    expect(fn.msix!.isMasked(0)).toBe(true);
    expect(read(0x1ffen, 6)).toEqual(bytes(0, 0, 0xff, 0xff, 0xff, 0xff));
  });

  it('ends at its size: reads are cut, beyond it is EINVAL', async () => {
    const { read } = await boundDevice();
    expect((read(0x3ffcn, 16) as Uint8Array).length).toBe(4);
    expect(read(0x4000n, 4)).toBe('EINVAL');
    expect(read(1n << 40n, 4)).toBe('EINVAL');
    expect(read(9n << 40n, 4)).toBe('EINVAL');
    expect(read(-4n, 4)).toBe('EINVAL');
  });

  it('is EIO without memory decode and in D3hot', async () => {
    const { read, write } = await boundDevice();
    write(config(4), bytes(0, 0));
    expect(read(0n, 4)).toBe('EIO');
    expect(write(0n, ones)).toBe('EIO');
    write(config(4), bytes(2, 0));
    expect(read(8n, 1)).toEqual(bytes(0x32));
    write(config(0xe4), bytes(3, 0));
    expect(read(8n, 1)).toBe('EIO');
    write(config(0xe4), bytes(0, 0));
    expect(read(8n, 1)).toEqual(bytes(0x32));
  });

  it('is what read and write without an offset move along, from 0 on', async () => {
    const { program, fd } = await boundDevice();
    program.read(fd, 8);
    expect(program.read(fd, 1)).toEqual(bytes(0x32));
  });
});
