import { describe, expect, it } from 'vitest';
import { leftovers, type MachineChoice, Program, testMachine } from '../../test/host/program.ts';
import * as iommufd from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';
import { POLLIN, POLLOUT } from '../iommufd/file.ts';
import { notMemory } from '../memory/process-memory.ts';

const VFIO0 = '/dev/vfio/devices/vfio0';
const EBADFD = 'EBADFD';

/** A program with an iommufd and an open, unbound device. */
function openDevice(choice: MachineChoice = {}) {
  const { machine, events } = testMachine(choice);
  const program = new Program(machine);
  return { machine, events, program, iommu: program.open('/dev/iommu'), device: program.open(VFIO0) };
}

async function boundDevice(choice: MachineChoice = {}) {
  const opened = openDevice(choice);
  const { program, iommu, device } = opened;
  const values = { argsz: 16, iommufd: iommu };
  const { outDevid } = await program.ok(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, values);
  return { ...opened, devId: outDevid };
}

const bind = (program: Program, fd: number, values: Record<string, number | bigint>) =>
  program.err(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, ...values });

describe('a device that is not bound', () => {
  it('refuses every ioctl, known or not, every read, write and mmap with EINVAL', async () => {
    const { program, device } = openDevice();
    expect(await program.err(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo)).toBe('EINVAL');
    expect(await program.bare(device, vfio.VFIO_DEVICE_RESET)).toBe('EINVAL');
    expect(await program.bare(device, 0x1234)).toBe('EINVAL');
    expect(program.pread(device, 7n << 40n, 4)).toBe('EINVAL');
    expect(program.pwrite(device, 7n << 40n, new Uint8Array(4))).toBe('EINVAL');
    expect(() => program.file(device).mmap(program.process, 4096n, 3, 1, 0n)).toThrow('EINVAL');
  });

  it('is readable and writable for poll, as every device without a poll of its own', () => {
    const { program, device } = openDevice();
    expect(program.file(device).pollMask).toBe(POLLIN | POLLOUT);
    expect(program.file(device).device).toEqual({ major: 511, minor: 0 });
  });
});

describe('BIND_IOMMUFD', () => {
  it('gives the device an object ID and nothing but that field changes', async () => {
    const { program, iommu, device } = openDevice();
    const values = { argsz: 24, iommufd: iommu };
    const bound = await program.ok(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, values);
    expect({ ...values, id: bound.outDevid }).toEqual({ argsz: bound.argsz, iommufd: bound.iommufd, id: 1 });
  });

  it.each<[string, Record<string, number>, string]>([
    ['argsz shorter than the first version', { argsz: 15 }, 'EINVAL'],
    ['flags that do not exist', { flags: 2 }, 'EINVAL'],
    ['a negative descriptor', { iommufd: -2 }, 'EINVAL'],
    ['a descriptor that is closed', { iommufd: 77 }, 'EBADF'],
  ])('refuses %s', async (_what, values, errno) => {
    const { program, iommu, device } = openDevice();
    expect(await bind(program, device, { iommufd: iommu, ...values })).toBe(errno);
  });

  it('refuses a file that is no iommufd with EBADFD', async () => {
    const { program, device } = openDevice();
    expect(await bind(program, device, { iommufd: device })).toBe(EBADFD);
    program.process.memoryFiles.set(78, notMemory('/dev/null'));
    expect(await bind(program, device, { iommufd: 78 })).toBe(EBADFD);
  });

  it('refuses a token, as the device has no virtual functions; an unreadable one with EFAULT', async () => {
    const { program, iommu, device } = openDevice();
    const token = { argsz: 24, flags: 1, iommufd: iommu };
    expect(await bind(program, device, { ...token, tokenUuidPtr: program.put(new Uint8Array(16)) })).toBe('EINVAL');
    expect(await bind(program, device, { ...token, tokenUuidPtr: 1n })).toBe('EFAULT');
  });

  it('refuses a tail that is not zero with E2BIG from the release on that knows one, and ignores it before', async () => {
    const tail = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1);
    for (const [abi, errno] of [
      ['linux-7.1', 'E2BIG'],
      ['linux-6.16', ''],
    ] as const) {
      const { program, iommu, device } = openDevice({ abi });
      const call = await program.call(
        device,
        vfio.VFIO_DEVICE_BIND_IOMMUFD,
        vfio.DeviceBindIommufd,
        { argsz: 32, iommufd: iommu },
        tail,
      );
      expect(call.errno, abi).toBe(errno);
    }
  });

  it('is refused a second time, by this file and by another', async () => {
    const { program, iommu, device } = await boundDevice();
    expect(await bind(program, device, { iommufd: iommu })).toBe('EINVAL');
    const again = program.open(VFIO0);
    expect(await bind(program, again, { iommufd: iommu })).toBe('EINVAL');
    program.close(device);
    expect(await bind(program, again, { iommufd: iommu })).toBe('');
  });

  it('keeps the iommufd alive when its descriptor closes', async () => {
    const { program, iommu, device, machine } = await boundDevice();
    program.close(iommu);
    expect(await program.err(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo)).toBe('');
    program.close(device);
    expect(leftovers(machine)).toEqual({});
  });

  it('is undone when the answer cannot be written', async () => {
    const { program, iommu, device, machine } = openDevice();
    const at = Number(program.put(new Uint8Array(16), 0));
    new DataView(program.memory.bytes.buffer).setUint32(at - program.memory.base, 16, true);
    new DataView(program.memory.bytes.buffer).setInt32(at - program.memory.base + 8, iommu, true);
    program.memory.protect(at, 16);
    expect(await program.bare(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, BigInt(at))).toBe('EFAULT');
    expect(leftovers(machine)).toEqual({});
  });

  it('leaves the function decoding memory, without bus mastering', async () => {
    const { program, device } = await boundDevice();
    expect(program.pread(device, (7n << 40n) + 4n, 2)).toEqual(Uint8Array.of(0x02, 0));
  });
});

describe('ATTACH_IOMMUFD_PT', () => {
  const attach = (program: Program, fd: number, values: Record<string, number>) =>
    program.call(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, { argsz: 12, ...values });

  it('to an IOAS answers with the ID of the HWPT made for it', async () => {
    const { program, iommu, device } = await boundDevice();
    const { outIoasId } = await program.ok(iommu, iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc);
    const { errno, s } = await attach(program, device, { ptId: outIoasId });
    expect([errno, s.ptId > outIoasId]).toEqual(['', true]);
  });

  it('replaces what was attached', async () => {
    const { program, iommu, device, machine } = await boundDevice();
    for (let i = 0; i < 2; i++) {
      const { outIoasId } = await program.ok(iommu, iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc);
      expect((await attach(program, device, { ptId: outIoasId })).errno).toBe('');
    }
    expect(machine.leftovers()[`${machine.iommus[0]!.name} domains`]).toBe(1);
  });

  it.each<[string, Record<string, number>, string]>([
    ['an ID that does not exist', { ptId: 0xffff_ffff }, 'ENOENT'],
    ['the device itself', { ptId: 1 }, 'EINVAL'],
    ['flags that do not exist', { flags: 2 }, 'EINVAL'],
    ['a short argsz', { argsz: 11 }, 'EINVAL'],
    ['a PASID without room for it', { flags: 1 }, 'EINVAL'],
  ])('refuses %s', async (_what, values, errno) => {
    const { program, device } = await boundDevice();
    expect((await attach(program, device, values)).errno).toBe(errno);
  });

  it('and DETACH twice: detaching what is not attached does nothing', async () => {
    const { program, iommu, device } = await boundDevice();
    const { outIoasId } = await program.ok(iommu, iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc);
    await attach(program, device, { ptId: outIoasId });
    for (let i = 0; i < 2; i++) {
      const layout = vfio.DeviceDetachIommufdPt;
      expect(await program.err(device, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, layout, { argsz: 8 })).toBe('');
    }
    expect(await program.err(iommu, iommufd.IOMMU_DESTROY, iommufd.Destroy, { id: outIoasId })).toBe('');
  });
});

describe('a bound device', () => {
  it('tells that it is PCI, can be reset, and has 9 regions and 5 interrupt indexes', async () => {
    const { program, device } = await boundDevice();
    const info = await program.ok(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo);
    expect([info.flags, info.numRegions, info.numIrqs, info.capOffset]).toEqual([3, 9, 5, 0]);
  });

  it('writes no more of its answer than argsz has room for', async () => {
    const { program, device } = await boundDevice();
    const { s } = await program.call(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo, { argsz: 16, capOffset: 99 });
    expect([s.numIrqs, s.capOffset]).toEqual([5, 99]);
    expect(await program.err(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo, { argsz: 15 })).toBe('EINVAL');
  });

  it.each([
    [0, 15, 0x4000n],
    [1, 0, 0n],
    [5, 0, 0n],
    [6, 0, 0n],
    [7, 3, 4096n],
  ])('has region %i with flags %i and size %i', async (index, flags, size) => {
    const { program, device } = await boundDevice();
    const info = await program.ok(device, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo, { index });
    expect([info.flags, info.size, info.offset]).toEqual([flags, size, BigInt(index) << 40n]);
  });

  it('tells that its BAR can be mapped with the MSI-X table: a capability, for those with room for it', async () => {
    const { program, device } = await boundDevice();
    const info = (tail: number) =>
      program.call(device, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo, {}, new Uint8Array(tail));
    const { s: short } = await info(7);
    expect([short.argsz, short.flags, short.capOffset]).toEqual([40, 15, 0]);
    const { s, tail } = await info(8);
    expect([s.argsz, s.flags, s.capOffset]).toEqual([40, 15, 32]);
    const capability = new vfio.InfoCapHeader(tail);
    expect([capability.id, capability.version, capability.next]).toEqual([3, 1, 0]);
  });

  it('tells that its BAR cannot be mapped when the machine says so', async () => {
    const { program, device } = await boundDevice({ change: ({ functions }) => (functions[0]!.mmap = false) });
    const info = await program.ok(device, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo);
    expect([info.flags, info.size]).toEqual([3, 0x4000n]);
    expect(() => program.file(device).mmap(program.process, 4096n, 3, 1, 0n)).toThrow('EINVAL');
  });

  it.each([8, 9, 0xffff_ffff])('has no region %i', async (index) => {
    const { program, device } = await boundDevice();
    expect(await program.err(device, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo, { index })).toBe('EINVAL');
  });

  it.each([
    ['INTx', 0, 0x7, 1],
    ['MSI', 1, 0x9, 4],
    ['MSI-X', 2, 0x9, 1],
    ['ERR', 3, 0x9, 1],
    ['REQ', 4, 0x9, 1],
  ])('has interrupts: %s', async (_name, index, flags, count) => {
    const { program, device } = await boundDevice();
    const info = await program.ok(device, vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.IrqInfo, { index });
    expect([info.flags, info.count]).toEqual([flags, count]);
    expect(await program.err(device, vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.IrqInfo, { index: 5 })).toBe('EINVAL');
  });

  it('answers ENOTTY to commands that it does not have, EFAULT to structs that are not there', async () => {
    const { program, device } = await boundDevice();
    expect(await program.bare(device, 0x3b64 + 30)).toBe('ENOTTY');
    expect(await program.bare(device, 0xdead_beef)).toBe('ENOTTY');
    expect(await program.bare(device, vfio.VFIO_DEVICE_GET_INFO, 1n)).toBe('EFAULT');
    expect(await program.bare(device, vfio.VFIO_DEVICE_GET_INFO, 2n ** 64n - 8n)).toBe('EFAULT');
  });

  it('has its call in the trace, with the struct before and after and the reason when refused', async () => {
    const { program, device, events } = await boundDevice();
    events.length = 0;
    await program.err(device, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo, { index: 9 });
    const [event] = events;
    expect(event).toMatchObject({ type: 'ioctl', file: VFIO0, struct: 'vfio_region_info', result: -22 });
    expect(event?.type === 'ioctl' && event.reason).toBe('index 9 names no region of the device');
    expect(event?.type === 'ioctl' && event.before[8]).toBe(9);
  });
});

describe('DEVICE_FEATURE', () => {
  const feature = (program: Program, fd: number, flags: number, argsz = 8) =>
    program.err(fd, vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, { argsz, flags });
  const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18];

  it.each([
    ['migration', 1 | GET],
    ['DMA logging', 6 | PROBE],
    ['a VF token', 0 | SET],
    ['one that does not exist', 0xffff | PROBE],
  ])('has no %s', async (_name, flags) => {
    const { program, device } = await boundDevice();
    expect(await feature(program, device, flags)).toBe('ENOTTY');
  });

  it('checks flags and sizes', async () => {
    const { program, device } = await boundDevice();
    expect(await feature(program, device, 3 | SET, 7)).toBe('EINVAL');
    expect(await feature(program, device, 3 | SET | GET)).toBe('EINVAL');
    expect(await feature(program, device, 3 | GET)).toBe('EINVAL');
    expect(await feature(program, device, 3)).toBe('EINVAL');
    expect(await feature(program, device, 3 | SET | (1 << 19))).toBe('EINVAL');
    expect(await feature(program, device, 4 | SET)).toBe('EINVAL');
    expect(await feature(program, device, 3 | SET | PROBE)).toBe('');
  });

  it('lets the device sleep once, and wakes it by an access, which the eventfd tells', async () => {
    const { program, device } = await boundDevice();
    expect(await feature(program, device, 3 | SET)).toBe('');
    expect(await feature(program, device, 3 | SET)).toBe('EINVAL');
    expect(await feature(program, device, 5 | SET)).toBe('');
    const { fd, eventFd } = program.eventfd();
    const data = new Uint8Array(Int32Array.of(fd, 0).buffer);
    const values = { argsz: 16, flags: 4 | SET };
    const entry = await program.call(device, vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, values, data);
    expect([entry.errno, eventFd.held]).toEqual(['', 1]);
    program.pread(device, 7n << 40n, 4);
    expect([eventFd.count, eventFd.held]).toEqual([1, 0]);
  });
});
