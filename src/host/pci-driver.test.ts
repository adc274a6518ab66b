import { describe, expect, it } from 'vitest';
import { Program, testMachine } from '../../test/host/program.ts';
import * as vfio from '../abi/vfio.ts';

const BDF = '0000:01:00.0';
const DRIVER = '/sys/bus/pci/drivers/vfio-pci';
const DEVICE = `/sys/devices/platform/uiommufd.pcie.0/pci0000:00/0000:00:01.0/${BDF}`;

function start() {
  const { machine } = testMachine();
  const program = new Program(machine);
  const visible: string[] = [];
  machine.onVisible = (path, shown) => visible.push(`${shown ? '+' : '-'}${path}`);
  /** '' or why it is refused. */
  const write = (path: string, text: string): string => {
    const fd = program.open(path);
    const bytes = new TextEncoder().encode(text);
    const result = program.write(fd, bytes);
    program.close(fd);
    return result === bytes.length ? '' : String(result);
  };
  const read = (path: string): string => {
    const fd = program.open(path);
    const text = new TextDecoder().decode(program.read(fd, 100));
    expect(program.read(fd, 100)).toHaveLength(0);
    program.close(fd);
    return text;
  };
  return { machine, program, visible, write, read };
}

describe('vfio-pci', () => {
  it('leaves a function and takes it again, and with it go its links and nodes', () => {
    const { write, visible } = start();
    expect(write(`${DRIVER}/unbind`, `${BDF}\n`)).toBe('');
    const paths = [`${DEVICE}/driver`, `${DRIVER}/${BDF}`, `${DEVICE}/vfio-dev`, '/sys/class/vfio-dev/vfio0'];
    const node = ['/sys/dev/char/511:0', '/dev/vfio/devices/vfio0'];
    const group = ['/sys/devices/virtual/vfio/0', '/sys/class/vfio/0', '/sys/dev/char/510:0', '/dev/vfio/0'];
    const all = [...paths, ...node, ...group];
    expect(visible.splice(0)).toEqual(all.map((path) => `-${path}`));
    expect(write(`${DRIVER}/bind`, BDF)).toBe('');
    expect(visible).toEqual(all.map((path) => `+${path}`));
  });

  it('is named in the uevent of a function that it drives', () => {
    const { machine, write } = start();
    const told: string[][] = [];
    machine.onContent = (path, content) => told.push([path, ...content.split('\n')]);
    write(`${DRIVER}/unbind`, BDF);
    write(`${DRIVER}/bind`, BDF);
    const [left, taken] = told;
    expect([left!.slice(0, 2), left!.at(-1)]).toEqual([[`${DEVICE}/uevent`, 'PCI_CLASS=88000'], '']);
    expect(taken).toEqual([left![0], 'DRIVER=vfio-pci', ...left!.slice(1)]);
    const shown = machine.sysfs.find(({ path }) => path === `${DEVICE}/uevent`);
    expect(shown).toMatchObject({ content: taken!.slice(1).join('\n') });
  });

  it('says ENODEV to what it does not drive, or know, and EBUSY to what it drives already', () => {
    const { write } = start();
    expect(write(`${DRIVER}/bind`, BDF)).toBe('EBUSY');
    expect(write(`${DRIVER}/unbind`, BDF)).toBe('');
    expect(write(`${DRIVER}/unbind`, BDF)).toBe('ENODEV');
    expect(write(`${DRIVER}/unbind`, '0000:00:01.0')).toBe('ENODEV');
    expect(write('/sys/bus/pci/drivers_probe', '0000:09:00.0')).toBe('ENODEV');
  });

  it('takes only what driver_override or a new ID gives it', () => {
    const { write, read } = start();
    const drives = (): boolean => write(`${DRIVER}/unbind`, BDF) === '';
    expect(read(`${DEVICE}/driver_override`)).toBe('vfio-pci\n');
    expect(drives()).toBe(true);
    expect(write(`${DEVICE}/driver_override`, '\n')).toBe('');
    expect(read(`${DEVICE}/driver_override`)).toBe('(null)\n');
    expect(write(`${DRIVER}/bind`, BDF)).toBe('ENODEV');
    expect(write('/sys/bus/pci/drivers_probe', BDF)).toBe('');
    expect(drives()).toBe(false);
    expect(write(`${DRIVER}/new_id`, '8086 0d58')).toBe('');
    expect(drives()).toBe(false);
    expect(write(`${DRIVER}/new_id`, '8086 2021\n')).toBe('');
    expect(drives()).toBe(true);
    expect(write(`${DEVICE}/driver_override`, 'nvme')).toBe('');
    expect(write(`${DRIVER}/bind`, BDF)).toBe('ENODEV');
    expect(write(`${DEVICE}/driver_override`, 'vfio-pci')).toBe('');
    expect(write('/sys/bus/pci/drivers_probe', BDF)).toBe('');
    expect(drives()).toBe(true);
  });

  it('refuses IDs that are none, come twice, or were never given', () => {
    const { write } = start();
    expect(write(`${DRIVER}/new_id`, '8086')).toBe('EINVAL');
    expect(write(`${DRIVER}/new_id`, 'eight 2021')).toBe('EINVAL');
    expect(write(`${DRIVER}/new_id`, '144d a808')).toBe('');
    expect(write(`${DRIVER}/new_id`, '144d a808')).toBe('EEXIST');
    expect(write(`${DRIVER}/remove_id`, '144d a808')).toBe('');
    expect(write(`${DRIVER}/remove_id`, '144d a808')).toBe('ENODEV');
  });

  it('does not leave a function that is open, and asks its program to close it', async () => {
    const { program, write } = start();
    const iommufd = program.open('/dev/iommu');
    const fd = program.open('/dev/vfio/devices/vfio0');
    expect(write(`${DRIVER}/unbind`, BDF)).toBe('EBUSY');
    await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
    const event = program.eventfd();
    const data = new Uint8Array(Int32Array.of(event.fd).buffer);
    await program.call(
      fd,
      vfio.VFIO_DEVICE_SET_IRQS,
      vfio.IrqSet,
      { flags: 4 | 32, index: 4, start: 0, count: 1 },
      data,
    );
    expect(write(`${DRIVER}/unbind`, BDF)).toBe('EBUSY');
    expect(event.eventFd.count).toBe(1);
    program.close(fd);
    expect(write(`${DRIVER}/unbind`, BDF)).toBe('');
  });

  it('keeps the node of a group as long as it drives one of its devices', () => {
    const { machine } = testMachine({
      change: ({ functions }) => {
        const both = ['0000:01:00.0', '0000:01:00.1'].map((bdf) => ({ ...functions[0], bdf, acs: false }));
        functions.splice(0, 2, ...both);
      },
    });
    const visible: string[] = [];
    machine.onVisible = (path, shown) => visible.push(`${shown ? '+' : '-'}${path}`);
    const unbind = machine.vfioPci.attributes.find(({ path }) => path.endsWith('/unbind'))!;
    unbind.store!('0000:01:00.0');
    expect(visible).not.toContain('-/dev/vfio/0');
    unbind.store!('0000:01:00.1');
    expect(visible).toContain('-/dev/vfio/0');
  });
});

describe('reset', () => {
  it('takes 1, and then the function has forgotten its registers', () => {
    const { machine, write } = start();
    const { fn } = machine.devices[0]!;
    fn.writeConfig(4, 2, 2);
    fn.writeRegister(0x90, 4, 0x1000);
    expect(write(`${DEVICE}/reset`, '0\n')).toBe('EINVAL');
    expect(write(`${DEVICE}/reset`, 'yes')).toBe('EINVAL');
    expect(fn.readRegister(0x90, 4)).toBe(0x1000);
    expect(write(`${DEVICE}/reset`, '1\n')).toBe('');
    expect([fn.readRegister(0x90, 4), fn.readConfig(4, 2) & 2]).toEqual([0, 2]);
  });

  it('cannot be read', () => {
    const { program } = start();
    const fd = program.open(`${DEVICE}/reset`);
    expect(() => program.read(fd, 10)).toThrow('EIO');
  });
});
