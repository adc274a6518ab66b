import { describe, expect, it } from 'vitest';
import { type MachineChoice, Program, testMachine } from '../../test/host/program.ts';
import * as vfio from '../abi/vfio.ts';
import * as groups from '../abi/vfio-group.ts';

const CONFIG = 7n << 40n;

/** Offset in configuration space and bytes, of what a program may set and the silicon forgets, or does not. */
const SETTINGS: readonly (readonly [at: number, ...bytes: number[]])[] = [
  [0x0c, 0x10], // cache line size
  [0x3c, 0x0b], // interrupt line
  [0x4c, 0x34, 0x12], // MSI data
  [0x50, 0x05], // MSI mask
  [0x98, 0x37, 0x29], // DEVCTL
  [0xb8, 0x16], // DEVCTL2
  [0x108, 0x00, 0x00, 0x10, 0x00], // AER: uncorrectable mask, severity, correctable mask
  [0x10c, 0x00, 0x00, 0x10, 0x00],
  [0x114, 0x01, 0x00],
];

const readAll = (program: Program, fd: number): Uint8Array => program.pread(fd, CONFIG, 4096) as Uint8Array;

const OWN_BUSES: MachineChoice = {};
const ONE_BUS: MachineChoice = { change: (machine) => (machine.functions[1]!.bdf = '0000:01:00.1') };

async function machineWith(choice: MachineChoice, ...bound: number[]) {
  const { machine } = testMachine(choice);
  const program = new Program(machine);
  const fds = await bind(program, ...bound);
  return { machine, program, fds, fd: fds[0]! };
}

/** Opens devices and binds them to an iommufd. */
async function bind(program: Program, ...indexes: number[]): Promise<number[]> {
  const iommufd = program.open('/dev/iommu');
  const fds: number[] = [];
  for (const index of indexes) {
    const fd = program.open(`/dev/vfio/devices/vfio${index}`);
    await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
    fds.push(fd);
  }
  return fds;
}

/** Device ID and address (segment, bus, devfn) of each entry. */
async function hotResetInfo(program: Program, fd: number, room: number) {
  const tail = new Uint8Array(8 * room);
  const layout = vfio.PciHotResetInfo;
  const { errno, s } = await program.call(fd, vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, layout, {}, tail);
  const view = new DataView(tail.buffer);
  const devices = Array.from({ length: room }, (_, i) => [
    view.getInt32(8 * i, true),
    view.getUint16(8 * i + 4, true),
    view.getUint8(8 * i + 6),
    view.getUint8(8 * i + 7),
  ]);
  return { errno, count: s.count, flags: s.flags, devices };
}

const hotReset = (program: Program, fd: number, values = {}) =>
  program.err(fd, vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.PciHotReset, values);

describe('RESET', () => {
  it('forgets what stands in BAR0 and keeps the configuration', async () => {
    const { program, fd } = await machineWith(OWN_BUSES, 0);
    program.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    program.pwrite(fd, 0x90n, Uint8Array.of(1, 2, 3, 4));
    expect(await program.bare(fd, vfio.VFIO_DEVICE_RESET)).toBe('');
    expect(program.pread(fd, 0x90n, 4)).toEqual(new Uint8Array(4));
    expect(program.pread(fd, (7n << 40n) + 4n, 2)).toEqual(Uint8Array.of(6, 0));
  });

  it('keeps what the program, or setpci, has set: interrupt line, link, timeouts, messages, error masks; the end does not', async () => {
    const { program, fd, machine } = await machineWith({ change: (text) => (text.functions[0]!.msi = 4) }, 0);
    const before = readAll(program, fd);
    for (const [at, ...bytes] of SETTINGS) program.pwrite(fd, CONFIG + BigInt(at), Uint8Array.from(bytes));
    const { fn } = machine.devices[0]!;
    // Not through vfio: LNKCTL, LNKCTL2, and the interrupt line, of which the program has a copy.
    const hidden = (): number[] => [0xa0, 0xc0, 0x3c].map((at) => fn.readConfig(at, 2));
    const [, , pin] = hidden();
    for (const [at, value] of [
      [0xa0, 0x43],
      [0xc0, 0x02],
      [0x3c, 0x0b],
    ] as const)
      fn.writeConfig(at, 2, value);
    const after = readAll(program, fd);
    expect(SETTINGS.filter(([at, ...bytes]) => bytes.some((byte, i) => after[at + i] !== byte))).toEqual([]);
    expect(await program.bare(fd, vfio.VFIO_DEVICE_RESET)).toBe('');
    expect(readAll(program, fd)).toEqual(after);
    expect(hidden()).toEqual([0x43, 2, pin! | 0x0b]);
    program.close(fd);
    expect(hidden()).toEqual([0, 3, pin]);
    const [again] = await bind(program, 0);
    expect(readAll(program, again!)).toEqual(before);
  });

  it('brings a device back from D3hot', async () => {
    const { program, fd } = await machineWith(OWN_BUSES, 0);
    program.pwrite(fd, (7n << 40n) + 0xe4n, Uint8Array.of(3, 0));
    expect(program.pread(fd, 8n, 1)).toBe('EIO');
    await program.bare(fd, vfio.VFIO_DEVICE_RESET);
    expect(program.pread(fd, 8n, 1)).toEqual(Uint8Array.of(0x32));
  });
});

describe('a hot reset', () => {
  it('says with ENOSPC how much room its list needs, and then which device is affected', async () => {
    const { program, fd } = await machineWith(OWN_BUSES, 0);
    expect(await hotResetInfo(program, fd, 0)).toMatchObject({ errno: 'ENOSPC', count: 1 });
    expect(await hotResetInfo(program, fd, 1)).toEqual({ errno: '', count: 1, flags: 3, devices: [[1, 0, 1, 0]] });
    expect(await hotReset(program, fd)).toBe('');
  });

  it('affects every device of the bus, and needs all of them in one iommufd', async () => {
    const { program, fd } = await machineWith(ONE_BUS, 0);
    const info = await hotResetInfo(program, fd, 2);
    expect(info).toMatchObject({ count: 2, flags: 1 });
    expect(info.devices).toEqual([
      [1, 0, 1, 0],
      [-1, 0, 1, 1],
    ]);
    expect(await hotReset(program, fd)).toBe('EINVAL');
  });

  it('resets all of them when they are', async () => {
    const { program, fds } = await machineWith(ONE_BUS, 0, 1);
    for (const fd of fds) program.pwrite(fd, 0x90n, Uint8Array.of(1, 2, 3, 4));
    expect(await hotReset(program, fds[0]!)).toBe('');
    for (const fd of fds) expect(program.pread(fd, 0x90n, 4)).toEqual(new Uint8Array(4));
  });

  it('takes neither flags nor, by the own node of a device, groups', async () => {
    const { program, fd } = await machineWith(OWN_BUSES, 0);
    expect(await hotReset(program, fd, { flags: 1 })).toBe('EINVAL');
    expect(await hotReset(program, fd, { count: 1 })).toBe('EINVAL');
    expect(await hotReset(program, fd, { argsz: 11 })).toBe('EINVAL');
  });
});

describe('a hot reset of a device that its group has opened', () => {
  async function openedByGroups(choice: MachineChoice, ...opened: number[]) {
    const { machine } = testMachine(choice);
    const program = new Program(machine);
    const container = program.open('/dev/vfio/vfio');
    const groupFds: number[] = [];
    const fds: number[] = [];
    for (const index of opened) {
      const group = program.open(`/dev/vfio/${index}`);
      const fd = program.put(new Uint8Array(Int32Array.of(container).buffer));
      await program.bare(group, groups.VFIO_GROUP_SET_CONTAINER, fd);
      const name = program.put(new TextEncoder().encode(`${machine.devices[index]!.fn.name}\0`));
      fds.push((await program.result(group, groups.VFIO_GROUP_GET_DEVICE_FD, name)) as number);
      groupFds.push(group);
    }
    const resetBy = async (...fdsOfGroups: number[]) => {
      const tail = new Uint8Array(Int32Array.from(fdsOfGroups).buffer);
      const values = { count: fdsOfGroups.length };
      return (await program.call(fds[0]!, vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.PciHotReset, values, tail)).errno;
    };
    return { program, container, groupFds, fds, fd: fds[0]!, resetBy };
  }

  it('lists the groups of the affected devices', async () => {
    const { program, fd } = await openedByGroups(ONE_BUS, 0);
    expect(await hotResetInfo(program, fd, 2)).toMatchObject({
      flags: 0,
      devices: [
        [0, 0, 1, 0],
        [1, 0, 1, 1],
      ],
    });
  });

  it('needs the groups of all of them', async () => {
    const { program, fd, groupFds, resetBy } = await openedByGroups(ONE_BUS, 0, 1);
    program.pwrite(fd, 0x90n, Uint8Array.of(1, 2, 3, 4));
    expect(await resetBy(groupFds[0]!)).toBe('EINVAL');
    expect(program.pread(fd, 0x90n, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(await resetBy(...groupFds)).toBe('');
    expect(program.pread(fd, 0x90n, 4)).toEqual(new Uint8Array(4));
  });

  it('refuses no groups, more than devices, closed descriptors, and what is no group', async () => {
    const { fd, groupFds, resetBy } = await openedByGroups(OWN_BUSES, 0);
    expect(await resetBy()).toBe('EINVAL');
    expect(await resetBy(groupFds[0]!, groupFds[0]!)).toBe('EINVAL');
    expect(await resetBy(99)).toBe('EBADF');
    expect(await resetBy(fd)).toBe('EINVAL');
    expect(await resetBy(groupFds[0]!)).toBe('');
  });
});
