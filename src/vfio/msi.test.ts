import { describe, expect, it } from 'vitest';
import { leftovers, Program, testMachine } from '../../test/host/program.ts';
import { IOMMU_IOAS_ALLOC, IoasAlloc } from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';

const [MSI, MSIX] = [1, 2];
const [NONE, EVENTFD, TRIGGER] = [1, 4, 32];
const config = (offset: number): bigint => (7n << 40n) + BigInt(offset);

/** vfio0 with `msi` vectors, attached to an empty IOAS. */
async function deviceWith(msi: number) {
  const { machine } = testMachine({ change: ({ functions }) => (functions[0]!.msi = msi) });
  const program = new Program(machine);
  const iommufd = program.open('/dev/iommu');
  const fd = program.open('/dev/vfio/devices/vfio0');
  await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
  const { outIoasId: ptId } = await program.ok(iommufd, IOMMU_IOAS_ALLOC, IoasAlloc);
  await program.ok(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, { argsz: 12, ptId });
  const { fn } = machine.devices[0]!;
  fn.writeConfig(4, 2, 6);
  const setFds = async (index: number, start: number, ...fds: number[]) => {
    const data = new Uint8Array(Int32Array.from(fds).buffer);
    const values = { flags: EVENTFD | TRIGGER, index, start, count: fds.length };
    return (await program.call(fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values, data)).errno;
  };
  const off = () =>
    program.err(fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, { flags: NONE | TRIGGER, index: MSI, start: 0, count: 0 });
  const info = async () => (await program.ok(fd, vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.IrqInfo, { index: MSI })).count;
  const send = (vector: number): void => {
    fn.sendMessage(vector);
    machine.settle();
  };
  const control = (): number =>
    new DataView((program.pread(fd, config(0x42), 2) as Uint8Array).buffer).getUint16(0, true);
  return { machine, program, fn, fd, setFds, off, info, send, control };
}

describe('MSI', () => {
  it('is there in configuration space, in front of MSI-X, with 64-bit addresses and masks', async () => {
    const { program, fd } = await deviceWith(4);
    expect(program.pread(fd, config(0x34), 1)).toEqual(Uint8Array.of(0x40));
    expect(program.pread(fd, config(0x40), 2)).toEqual(Uint8Array.of(5, 0x80));
    const { program: other, fd: without } = await deviceWith(0);
    expect(other.pread(without, config(0x34), 1)).toEqual(Uint8Array.of(0x80));
  });

  it('has as many interrupts as the function has vectors', async () => {
    expect(await (await deviceWith(8)).info()).toBe(8);
    expect(await (await deviceWith(0)).info()).toBe(0);
  });

  it('sends each vector to its own eventfd', async () => {
    const { program, setFds, send, fn } = await deviceWith(4);
    const [first, third] = [program.eventfd(), program.eventfd()];
    expect(await setFds(MSI, 0, first.fd, -1, third.fd)).toBe('');
    send(0);
    send(2);
    send(2);
    expect([first.eventFd.count, third.eventFd.count]).toEqual([1, 2]);
    // Three vectors are asked for: four are enabled, and a masked one stays pending.
    expect(fn.readConfig(0x42, 2) & 0x71).toBe(0x21);
    send(1);
    expect(fn.readConfig(0x54, 4)).toBe(0b10);
  });

  it('cannot be on together with MSI-X, and leaves nothing when it is off', async () => {
    const { machine, program, setFds, off, fn } = await deviceWith(1);
    const { fd, eventFd } = program.eventfd();
    expect(await setFds(MSI, 0, fd)).toBe('');
    expect(await setFds(MSIX, 0, fd)).toBe('EINVAL');
    expect(await off()).toBe('');
    expect([fn.enabledVectors, eventFd.held]).toEqual([0, 0]);
    expect(await setFds(MSIX, 0, fd)).toBe('');
    program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('refuses a vector beyond those that it was switched on with', async () => {
    const { program, setFds } = await deviceWith(4);
    const { fd } = program.eventfd();
    expect(await setFds(MSI, 0, fd)).toBe('');
    expect(await setFds(MSI, 1, fd)).toBe('EINVAL');
    expect(await setFds(MSI, 4, fd)).toBe('EINVAL');
  });

  it('lets the program pause it and use fewer vectors, but not switch it on', async () => {
    const { program, fd, setFds, control, fn } = await deviceWith(4);
    program.pwrite(fd, config(0x42), Uint8Array.of(0x21, 0));
    expect([control() & 1, fn.enabledVectors]).toEqual([0, 0]);
    const event = program.eventfd();
    expect(await setFds(MSI, 0, event.fd, event.fd, event.fd, event.fd)).toBe('');
    expect(control() & 0x0e).toBe(0x04);
    program.pwrite(fd, config(0x42), Uint8Array.of(0x00, 0));
    expect(fn.enabledVectors).toBe(0);
    program.pwrite(fd, config(0x42), Uint8Array.of(0x71, 0));
    expect([fn.enabledVectors, control() & 0x70]).toEqual([4, 0x20]);
  });

  it('never lets the address and data of the program reach the function', async () => {
    const { program, fd, setFds, send, fn } = await deviceWith(1);
    const { fd: event, eventFd } = program.eventfd();
    expect(await setFds(MSI, 0, event)).toBe('');
    const address = fn.readConfig(0x44, 4);
    program.pwrite(fd, config(0x44), Uint8Array.of(0, 0, 0x55, 0));
    program.pwrite(fd, config(0x4c), Uint8Array.of(7, 0));
    expect(program.pread(fd, config(0x44), 4)).toEqual(Uint8Array.of(0, 0, 0x55, 0));
    expect(fn.readConfig(0x44, 4)).toBe(address);
    send(0);
    expect(eventFd.count).toBe(1);
  });
});
