import { describe, expect, it } from 'vitest';
import { leftovers, Program, testMachine } from '../../test/host/program.ts';
import * as vfio from '../abi/vfio.ts';

/** CHAINADDR of the channel, whose low half reads back what was written. */
const REGISTER = 0x90n;
const MSIX_TABLE = 0x2000n;

async function boundDevice() {
  const { machine } = testMachine();
  const program = new Program(machine);
  const iommufd = program.open('/dev/iommu');
  const fd = program.open('/dev/vfio/devices/vfio0');
  await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
  const set = (values: Record<string, number | bigint>) =>
    program.err(fd, vfio.VFIO_DEVICE_IOEVENTFD, vfio.DeviceIoeventfd, { flags: 4, offset: REGISTER, ...values });
  return { machine, program, fd, set };
}

describe('IOEVENTFD', () => {
  it('makes its write whenever the eventfd is signalled, until it is taken off', async () => {
    const { program, fd, set } = await boundDevice();
    const { fd: event, eventFd } = program.eventfd();
    expect(await set({ data: 0x1122_3344n, fd: event })).toBe('');
    expect(program.pread(fd, REGISTER, 4)).toEqual(new Uint8Array(4));
    eventFd.signal();
    expect(program.pread(fd, REGISTER, 4)).toEqual(Uint8Array.of(0x44, 0x33, 0x22, 0x11));
    program.pwrite(fd, REGISTER, new Uint8Array(4));
    expect(await set({ data: 0x1122_3344n, fd: -1 })).toBe('');
    eventFd.signal();
    expect(program.pread(fd, REGISTER, 4)).toEqual(new Uint8Array(4));
    expect(eventFd.held).toBe(0);
  });

  it('writes nothing while memory decode is off', async () => {
    const { program, fd, set } = await boundDevice();
    const { fd: event, eventFd } = program.eventfd();
    await set({ data: 7n, fd: event });
    program.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(0, 0));
    eventFd.signal();
    program.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(2, 0));
    expect(program.pread(fd, REGISTER, 4)).toEqual(new Uint8Array(4));
  });

  it('refuses the same write twice, and to take off what is not there', async () => {
    const { program, set } = await boundDevice();
    const [first, second] = [program.eventfd(), program.eventfd()];
    expect(await set({ data: 1n, fd: first.fd })).toBe('');
    expect(await set({ data: 1n, fd: second.fd })).toBe('EEXIST');
    expect(await set({ data: 2n, fd: second.fd })).toBe('');
    expect(await set({ data: 3n, fd: -1 })).toBe('ENODEV');
  });

  it.each<[string, Record<string, number | bigint>, string]>([
    ['a short argsz', { argsz: 27 }, 'EINVAL'],
    ['flags that do not exist', { flags: 20 }, 'EINVAL'],
    ['two sizes', { flags: 6 }, 'EINVAL'],
    ['no size', { flags: 0 }, 'EINVAL'],
    ['writes of 8 bytes', { flags: 8 }, 'EINVAL'],
    ['configuration space', { offset: 7n << 40n }, 'EINVAL'],
    ['the end of the BAR', { offset: 0x3ffen }, 'EINVAL'],
    ['the MSI-X table', { offset: MSIX_TABLE + 4n }, 'EINVAL'],
    ['a BAR that the device has not', { offset: 1n << 40n }, 'EINVAL'],
    ['a descriptor below -1', { fd: -2 }, 'EINVAL'],
    ['a closed descriptor', { fd: 99 }, 'EBADF'],
  ])('refuses %s', async (_what, values, errno) => {
    const { program, set } = await boundDevice();
    expect(await set({ fd: program.eventfd().fd, ...values })).toBe(errno);
  });

  it('can be had a thousand times', async () => {
    const { program, set } = await boundDevice();
    const { fd } = program.eventfd();
    for (let data = 0n; data < 1000n; data++) expect(await set({ data, fd })).toBe('');
    expect(await set({ data: 1000n, fd })).toBe('ENOSPC');
  });

  it('ends with the device', async () => {
    const { program, fd, set, machine } = await boundDevice();
    const { fd: event, eventFd } = program.eventfd();
    await set({ fd: event });
    program.close(fd);
    expect(eventFd.held).toBe(0);
    program.die();
    expect(leftovers(machine)).toEqual({});
  });
});
