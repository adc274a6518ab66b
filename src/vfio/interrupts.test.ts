import { describe, expect, it } from 'vitest';
import { leftovers, Program, testMachine } from '../../test/host/program.ts';
import { IOMMU_IOAS_ALLOC, IoasAlloc } from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';

const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];
const [NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER] = [1, 2, 4, 8, 16, 32];
const fdData = (...fds: number[]) => new Uint8Array(Int32Array.from(fds).buffer);
const config = (offset: number): bigint => (7n << 40n) + BigInt(offset);

/** vfio0, attached to an empty IOAS unless a test wants it blocked. */
async function boundDevice({ attached = true } = {}) {
  const { machine, events } = testMachine();
  const program = new Program(machine);
  const iommufd = program.open('/dev/iommu');
  const fd = program.open('/dev/vfio/devices/vfio0');
  await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
  const { outIoasId: ptId } = await program.ok(iommufd, IOMMU_IOAS_ALLOC, IoasAlloc);
  const attach = { argsz: 12, ptId };
  if (attached) await program.ok(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, attach);
  const { fn } = machine.devices[0]!;
  const set = async (flags: number, index: number, start: number, count: number, tail = new Uint8Array()) => {
    const values = { flags, index, start, count };
    return (await program.call(fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values, tail)).errno;
  };
  const setFds = (index: number, start: number, ...fds: number[]) =>
    set(EVENTFD | TRIGGER, index, start, fds.length, fdData(...fds));
  const settle = () => machine.settle();
  return { machine, events, program, fd, fn, set, setFds, settle };
}

describe('SET_IRQS', () => {
  it.each<[string, number, number, number, number]>([
    ['an index that does not exist', NONE | TRIGGER, 5, 0, 1],
    ['flags that do not exist', NONE | TRIGGER | 64, MSIX, 0, 1],
    ['two types of data', NONE | BOOL | TRIGGER, MSIX, 0, 1],
    ['no type of data', TRIGGER, MSIX, 0, 1],
    ['a vector beyond the last', NONE | TRIGGER, MSIX, 0, 2],
    ['a start beyond the last', NONE | TRIGGER, MSIX, 1, 0],
    ['a count that wraps', NONE | TRIGGER, MSIX, 0, 0xffff_ffff],
    ['data that does not fit argsz', BOOL | TRIGGER, MSIX, 0, 1],
    ['MSI, which the device has not', NONE | TRIGGER, MSI, 0, 0],
    ['triggering what is not enabled', NONE | TRIGGER, MSIX, 0, 1],
    ['masking INTx when it is not enabled', NONE | MASK, INTX, 0, 1],
    ['firing ERR without an eventfd', NONE | TRIGGER, ERR, 0, 1],
  ])('refuses %s with EINVAL', async (_what, flags, index, start, count) => {
    const { set } = await boundDevice();
    expect(await set(flags, index, start, count)).toBe('EINVAL');
  });

  it.each([
    ['MASK of MSI-X', NONE | MASK, MSIX],
    ['UNMASK of ERR', NONE | UNMASK, ERR],
    ['no action', NONE, INTX],
    ['two actions', NONE | MASK | TRIGGER, INTX],
  ])('answers %s with ENOTTY', async (_what, flags, index) => {
    const { set } = await boundDevice();
    expect(await set(flags, index, 0, 1)).toBe('ENOTTY');
  });

  it('refuses what is no eventfd, and then nothing is enabled', async () => {
    const { fd, setFds, fn } = await boundDevice();
    expect(await setFds(MSIX, 0, 88)).toBe('EBADF');
    expect(await setFds(MSIX, 0, fd)).toBe('EINVAL');
    expect(fn.msixEnabled).toBe(false);
  });
});

describe('MSI-X', () => {
  it('cannot be had of a device that is not attached: nothing maps the page of its messages', async () => {
    const { program, setFds, fn } = await boundDevice({ attached: false });
    const { fd, eventFd } = program.eventfd();
    expect(await setFds(MSIX, 0, fd)).toBe('ENOSPC');
    expect([fn.msixEnabled, eventFd.held]).toEqual([false, 0]);
    expect(await setFds(INTX, 0, fd)).toBe('');
  });

  it('writes messages to the software MSI window, whatever a program wrote into the table', async () => {
    const { program, setFds, fn } = await boundDevice();
    for (const [word, value] of [0xdead_0000, 1, 0xbeef].entries()) fn.writeRegister(0x2000 + 4 * word, 4, value);
    await setFds(MSIX, 0, program.eventfd().fd);
    const entry = [0, 4, 8, 12].map((at) => fn.readRegister(0x2000 + at, 4));
    expect(entry).toEqual([0x0800_0040, 0, 0, 0]);
  });

  it('reaches the eventfd, from the device and by hand', async () => {
    const { program, fd: device, set, setFds, fn, settle, events } = await boundDevice();
    const { fd, eventFd } = program.eventfd();
    expect(await setFds(MSIX, 0, fd)).toBe('');
    program.pwrite(device, config(4), Uint8Array.of(6, 0));
    fn.sendMessage(0);
    settle();
    expect(eventFd.count).toBe(1);
    await set(NONE | TRIGGER, MSIX, 0, 1);
    await set(BOOL | TRIGGER, MSIX, 0, 1, Uint8Array.of(0));
    await set(BOOL | TRIGGER, MSIX, 0, 1, Uint8Array.of(1));
    expect(eventFd.count).toBe(3);
    expect(events.filter(({ type }) => type === 'interrupt')).toHaveLength(3);
  });

  it('takes another eventfd, none (-1), and gives back those that it had', async () => {
    const { program, setFds } = await boundDevice();
    const [first, second] = [program.eventfd(), program.eventfd()];
    await setFds(MSIX, 0, first.fd);
    await setFds(MSIX, 0, second.fd);
    expect([first.eventFd.held, second.eventFd.held]).toEqual([0, 1]);
    await setFds(MSIX, 0, -1);
    expect(second.eventFd.held).toBe(0);
  });

  it('is off after DATA_NONE with count 0, and INTx can be used instead', async () => {
    const { program, set, setFds, fn } = await boundDevice();
    const { fd, eventFd } = program.eventfd();
    await setFds(MSIX, 0, fd);
    expect(fn.msixEnabled).toBe(true);
    expect(await setFds(INTX, 0, fd)).toBe('EINVAL');
    expect(await set(NONE | TRIGGER, MSIX, 0, 0)).toBe('');
    expect([fn.msixEnabled, eventFd.held]).toEqual([false, 0]);
    expect(await setFds(INTX, 0, fd)).toBe('');
  });

  it('works again after a reset of the device', async () => {
    const { program, setFds, fd: device, fn, settle } = await boundDevice();
    const { fd, eventFd } = program.eventfd();
    await setFds(MSIX, 0, fd);
    program.pwrite(device, config(4), Uint8Array.of(6, 0));
    expect(await program.bare(device, vfio.VFIO_DEVICE_RESET)).toBe('');
    fn.sendMessage(0);
    settle();
    expect(eventFd.count).toBe(1);
  });
});

describe('INTx', () => {
  const enabled = async () => {
    const made = await boundDevice();
    const { fd, eventFd } = made.program.eventfd();
    expect(await made.setFds(INTX, 0, fd)).toBe('');
    return { ...made, eventFd };
  };

  it('signals once and masks itself until it is unmasked', async () => {
    const { fn, settle, set, eventFd } = await enabled();
    fn.setPin(true);
    settle();
    fn.setPin(true);
    settle();
    expect(eventFd.count).toBe(1);
    fn.setPin(false);
    await set(NONE | UNMASK, INTX, 0, 1);
    expect(eventFd.count).toBe(1);
    fn.setPin(true);
    settle();
    expect(eventFd.count).toBe(2);
  });

  it('signals again when it is unmasked while the pin is still asserted', async () => {
    const { fn, settle, set, eventFd } = await enabled();
    fn.setPin(true);
    settle();
    await set(BOOL | UNMASK, INTX, 0, 1, Uint8Array.of(1));
    expect(eventFd.count).toBe(2);
  });

  it('is quiet while masked by the program, by SET_IRQS or COMMAND', async () => {
    const { fn, settle, set, eventFd, program, fd } = await enabled();
    await set(NONE | MASK, INTX, 0, 1);
    fn.setPin(true);
    settle();
    expect(eventFd.count).toBe(0);
    program.pwrite(fd, config(4), Uint8Array.of(6, 4));
    await set(NONE | UNMASK, INTX, 0, 1);
    expect(eventFd.count).toBe(0);
    program.pwrite(fd, config(4), Uint8Array.of(6, 0));
    expect(eventFd.count).toBe(1);
  });

  it('takes no eventfd that masks: ENOTTY, as in kernels', async () => {
    const { program, set } = await enabled();
    expect(await set(EVENTFD | MASK, INTX, 0, 1, fdData(program.eventfd().fd))).toBe('ENOTTY');
  });

  it('is unmasked by the signal of an eventfd, of which there can be one', async () => {
    const { program, set, fn, settle, eventFd } = await enabled();
    const unmask = program.eventfd();
    expect(await set(EVENTFD | UNMASK, INTX, 0, 1, fdData(unmask.fd))).toBe('');
    fn.setPin(true);
    settle();
    unmask.eventFd.signal();
    expect([eventFd.count, unmask.eventFd.count]).toEqual([2, 0]);
    fn.setPin(false);
    unmask.eventFd.signal();
    expect(eventFd.count).toBe(2);
    const other = program.eventfd();
    expect(await set(EVENTFD | UNMASK, INTX, 0, 1, fdData(other.fd))).toBe('EBUSY');
    expect(await set(EVENTFD | UNMASK, INTX, 0, 1, fdData(-1))).toBe('');
    expect([unmask.eventFd.held, other.eventFd.held]).toEqual([0, 0]);
    expect(await set(EVENTFD | UNMASK, INTX, 0, 1, fdData(other.fd))).toBe('');
  });

  it('gives the eventfd that unmasks back when it is switched off', async () => {
    const { program, set, eventFd } = await enabled();
    const unmask = program.eventfd();
    await set(EVENTFD | UNMASK, INTX, 0, 1, fdData(unmask.fd));
    await set(NONE | TRIGGER, INTX, 0, 0);
    expect([unmask.eventFd.held, eventFd.held]).toEqual([0, 0]);
    expect(await set(EVENTFD | UNMASK, INTX, 0, 1, fdData(unmask.fd))).toBe('EINVAL');
  });

  it('is off after DATA_NONE with count 0', async () => {
    const { set, eventFd, fn, settle } = await enabled();
    expect(await set(NONE | TRIGGER, INTX, 0, 0)).toBe('');
    expect(eventFd.held).toBe(0);
    fn.setPin(true);
    settle();
    expect(eventFd.count).toBe(0);
  });
});

describe.each([
  ['ERR', ERR],
  ['REQ', REQ],
])('%s', (_name, index) => {
  it('is a loop for its one eventfd', async () => {
    const { program, set, setFds } = await boundDevice();
    const { fd, eventFd } = program.eventfd();
    expect(await setFds(index, 0, fd)).toBe('');
    await set(NONE | TRIGGER, index, 0, 1);
    await set(BOOL | TRIGGER, index, 0, 1, Uint8Array.of(1));
    expect(eventFd.count).toBe(2);
    expect(await setFds(index, 0, -2)).toBe('EINVAL');
    expect(await set(NONE | TRIGGER, index, 0, 0)).toBe('');
    expect(eventFd.held).toBe(0);
    expect(await set(NONE | TRIGGER, index, 0, 0)).toBe('EINVAL');
  });
});

describe('closing the device', () => {
  it('gives back every eventfd and leaves nothing', async () => {
    const { program, setFds, machine, fd } = await boundDevice();
    const used = [program.eventfd(), program.eventfd(), program.eventfd()];
    for (const [i, index] of [MSIX, ERR, REQ].entries()) await setFds(index, 0, used[i]!.fd);
    program.close(fd);
    expect(used.map(({ eventFd }) => eventFd.held)).toEqual([0, 0, 0]);
    program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('while an eventfd is on its way gives that back, too', async () => {
    const { program, setFds, fd } = await boundDevice();
    const { fd: event, eventFd } = program.eventfd();
    const pending = setFds(MSIX, 0, event);
    program.close(fd);
    expect(await pending).toBe('ENODEV');
    expect(eventFd.held).toBe(0);
  });
});
