/** An NVMe function of a machine as a program drives it through VFIO: in an IOAS, and behind a guest's stage 1. */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { blocks, NvmeDriver, type NvmeHost, PAGE } from '../../src/hardware/pci/nvme/testing.ts';
import { commands } from './guest.ts';
import { leftovers, MIB, Program, testMachine } from './program.ts';
import { bringUp, type Guest, Vm } from './vm.ts';

const [WRITE, READ] = [1, 2];
const HERE = 0x20000;
const THERE = 0x30000;
const [EVENTFD_TRIGGER, MSIX, INTX] = [36, 2, 0];
const EVERYTHING = 0x6;

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const text = (words: string): Uint8Array => new TextEncoder().encode(words.padEnd(512));
const config = (offset: number): bigint => (7n << 40n) + BigInt(offset);

/** BAR0 through pread and pwrite; every one of them lets the machine's clock run. */
const registers = (program: Program, fd: number): Pick<NvmeHost, 'read32' | 'write32' | 'settle'> => ({
  read32: (offset) => new DataView((program.pread(fd, BigInt(offset), 4) as Uint8Array).buffer).getUint32(0, true),
  write32: (offset, value) => program.pwrite(fd, BigInt(offset), u32(value)),
  settle: () => {},
});

/** vfio0 in an IOAS that has the program's first MiB at IOVA 0. */
async function inIoas() {
  const { machine, events } = testMachine({ preset: 'two-smmus-nvme' });
  const program = new Program(machine, 2 * MIB);
  const iommufd = program.open('/dev/iommu');
  const fd = program.open('/dev/vfio/devices/vfio0');
  await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
  const { outIoasId: ioasId } = await program.ok(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc);
  const range = { flags: 7, ioasId, userVa: program.base, length: BigInt(MIB), iova: 0n };
  await program.ok(iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, range);
  await program.ok(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, { argsz: 12, ptId: ioasId });
  program.pwrite(fd, config(4), Uint8Array.of(EVERYTHING, 0));
  const host: NvmeHost = {
    ...registers(program, fd),
    peek: (address, length) => program.memory.bytes.slice(address, address + length),
    poke: (address, bytes) => program.memory.bytes.set(bytes, address),
  };
  const setIrqs = async (index: number, fds: number[]) => {
    const values = { flags: EVENTFD_TRIGGER, index, start: 0, count: fds.length };
    const tail = new Uint8Array(Int32Array.from(fds).buffer);
    return (await program.call(fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values, tail)).errno;
  };
  return { machine, events, program, iommufd, ioasId, fd, host, driver: new NvmeDriver(host), setIrqs };
}

describe('an NVMe function in an IOAS', () => {
  it('writes and reads blocks by DMA', async () => {
    const { driver, host, program, machine } = await inIoas();
    expect(driver.start()).toBe(1);
    expect(driver.createPair(1)).toEqual([0, 0]);
    expect(driver.identify(0, 1).getBigUint64(0, true)).toBe(BigInt((256 * MIB) / 512));
    host.poke(HERE, text('on the disk'));
    expect(driver.run(1, { opcode: WRITE, nsid: 1, prp1: HERE, dwords: blocks(100, 1) }).status).toBe(0);
    expect(driver.run(1, { opcode: READ, nsid: 1, prp1: THERE, dwords: blocks(100, 1) }).status).toBe(0);
    expect(host.peek(THERE, 512)).toEqual(text('on the disk'));
    program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('says Data Transfer Error for what is not mapped, and goes on when it is', async () => {
    const { driver, program, iommufd, ioasId, events } = await inIoas();
    driver.start();
    driver.createPair(1);
    const read = { opcode: READ, nsid: 1, prp1: MIB, dwords: blocks(0, 8) };
    expect(driver.run(1, read)).toMatchObject({ status: 0x004, doNotRetry: false });
    const refused = events.filter((event) => event.type === 'dma' && event.via === 'refused');
    expect(refused).toMatchObject([{ iovaFrame: MIB / 4096, write: true }]);
    const range = { flags: 7, ioasId, userVa: program.base + BigInt(MIB), length: 4096n, iova: BigInt(MIB) };
    await program.ok(iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, range);
    expect(driver.run(1, read).status).toBe(0);
  });

  it('signals the eventfd of a queue by MSI-X', async () => {
    const { driver, program, setIrqs } = await inIoas();
    const [admin, queue] = [program.eventfd(), program.eventfd()];
    expect(await setIrqs(MSIX, [admin.fd, queue.fd])).toBe('');
    driver.start();
    driver.createPair(1, 16, 1);
    const before = admin.eventFd.count;
    expect(before).toBe(2);
    driver.run(1, { opcode: READ, nsid: 1, prp1: PAGE, dwords: blocks(0, 1) });
    expect([admin.eventFd.count, queue.eventFd.count]).toEqual([before, 1]);
  });

  it('signals the eventfd of INTx, which is masked until the program unmasks it', async () => {
    const { driver, program, fd, setIrqs } = await inIoas();
    const { fd: eventFd, eventFd: pin } = program.eventfd();
    expect(await setIrqs(INTX, [eventFd])).toBe('');
    driver.start();
    driver.queue(0, { opcode: 0x0a, dwords: [7] });
    driver.queue(0, { opcode: 0x0a, dwords: [7] });
    driver.ring(0);
    expect(pin.count).toBe(1);
    driver.take(0);
    const unmask = () => program.ok(fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, { flags: 17, index: INTX, count: 1 });
    await unmask();
    expect(pin.count).toBe(2);
    driver.take(0);
    await unmask();
    expect(pin.count).toBe(2);
  });

  it('comes back from VFIO_DEVICE_RESET disabled, with its blocks', async () => {
    const { driver, host, program, fd } = await inIoas();
    driver.start();
    driver.createPair(1);
    host.poke(HERE, text('kept'));
    driver.run(1, { opcode: WRITE, nsid: 1, prp1: HERE, dwords: blocks(0, 1) });
    expect(await program.bare(fd, vfio.VFIO_DEVICE_RESET)).toBe('');
    expect([host.read32(0x14), host.read32(0x1c)]).toEqual([0, 0]);
    driver.start();
    driver.createPair(1);
    driver.run(1, { opcode: READ, nsid: 1, prp1: THERE, dwords: blocks(0, 1) });
    expect(host.peek(THERE, 512)).toEqual(text('kept'));
  });
});

/** IOVAs 0 .. 0x40000 of the guest's stage 1, each a page of guest RAM of its own. */
function nested(guest: Guest) {
  const { vm, stage1, device } = guest;
  const pages = Array.from({ length: 64 }, () => vm.ram.allocate()).reverse();
  for (const [page, gpa] of pages.entries()) stage1.map(BigInt(page * 4096), gpa);
  device.setCommand(EVERYTHING);
  const at = (address: number, length: number) => vm.ram.at(pages[address >> 12]! + BigInt(address & 0xfff), length);
  const host: NvmeHost = {
    ...registers(vm.program, device.fd),
    peek: (address, length) => at(address, length).slice(),
    poke: (address, bytes) => at(address, bytes.length).set(bytes),
  };
  return { host, driver: new NvmeDriver(host), pages };
}

describe('an NVMe function behind a stage 1 of the guest', () => {
  const start = async () => {
    const { machine, events } = testMachine({ preset: 'two-smmus-nvme' });
    const guest = await bringUp(await Vm.start(machine));
    const { driver, host, pages } = nested(guest);
    expect(driver.start()).toBe(1);
    expect(driver.createPair(1)).toEqual([0, 0]);
    return { machine, events, guest, driver, host, pages };
  };

  it('writes and reads blocks over pages that lie anywhere', async () => {
    const { driver, host } = await start();
    host.poke(HERE + 4096, text('nested'));
    const where = { prp1: HERE, prp2: HERE + 4096, dwords: blocks(0, 9) };
    expect(driver.run(1, { opcode: WRITE, nsid: 1, ...where }).status).toBe(0);
    expect(driver.run(1, { opcode: READ, nsid: 1, prp1: THERE, dwords: blocks(8, 1) }).status).toBe(0);
    expect(host.peek(THERE, 512)).toEqual(text('nested'));
  });

  it('signals the eventfd of MSI-X as long as the guest maps the window of the host', async () => {
    const { driver, guest, machine } = await start();
    const { program } = guest.vm;
    const { fd, eventFd } = program.eventfd();
    const values = { flags: EVENTFD_TRIGGER, index: MSIX, start: 0, count: 1 };
    const tail = new Uint8Array(Int32Array.of(fd).buffer);
    await program.call(guest.device.fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values, tail);
    const getFeature = { opcode: 0x0a, dwords: [7] };
    expect([driver.run(0, getFeature).status, eventFd.count]).toEqual([0, 0]);
    guest.stage1.map(0x800_0000n, 0x800_0000n);
    expect([driver.run(0, getFeature).status, eventFd.count]).toEqual([0, 1]);
    program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('is refused what the guest has unmapped and invalidated, and the guest hears of it', async () => {
    const { driver, guest, events } = await start();
    const read = { opcode: READ, nsid: 1, prp1: HERE, dwords: blocks(0, 1) };
    expect(driver.run(1, read).status).toBe(0);
    const queue = await guest.slice.events();
    guest.stage1.unmap(BigInt(HERE));
    await guest.slice.invalidate(commands.nhVa(guest.stage1.asid, BigInt(HERE)));
    events.length = 0;
    expect(driver.run(1, read).status).toBe(0x004);
    expect(guest.vm.program.read(queue.fd, 256).length).toBeGreaterThan(0);
    expect(events.some((event) => event.type === 'dma' && event.via === 'refused')).toBe(true);
  });
});
