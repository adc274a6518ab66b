/** VMs that invalidate by command queues of their own, through the whole of iommufd, driver and hardware. */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import type { Machine } from '../../src/host/machine.ts';
import { mappedRegisters } from '../../src/iommufd/file.ts';
import { CmdqvSlice, GuestQueue, QUEUE, VINTF_PAGE, withCmdqv } from './cmdqv.ts';
import { commands } from './guest.ts';
import { leftovers, type MutableMachine, testMachine } from './program.ts';
import { bringUp, type Guest, V2, Vm } from './vm.ts';

const IOVA = 0x10_0000n;
const TARGET = 0x20_0000n;
const ABIS = ['linux-7.1', V2];

const machineWith = (abi: string, change: (machine: MutableMachine) => void = () => {}) =>
  testMachine({
    abi,
    change: (machine) => {
      withCmdqv(machine);
      change(machine);
    },
  });

/** A VM with vfio0 in translation, behind a slice with a virtual interface. */
async function cmdqvVm(machine: Machine, pid = 42) {
  const vm = await Vm.start(machine, pid);
  const device = await vm.device(0);
  const slice = await CmdqvSlice.open(vm, device);
  const mapping = slice.map();
  return { vm, device, slice, mapping };
}

/** Maps IOVA to one page and then, without an invalidation, to another. */
function change({ vm, stage1, engine }: Guest) {
  const [before, after, target] = [vm.ram.allocate(), vm.ram.allocate(), vm.ram.allocate()];
  vm.ram.text(before, 'before');
  vm.ram.text(after, 'after');
  stage1.map(IOVA, before);
  stage1.map(TARGET, target);
  const seen = (): string => (engine.copy(IOVA, TARGET) === 'done' ? vm.ram.text(target) : 'nothing');
  expect(seen()).toBe('before');
  stage1.map(IOVA, after);
  expect(seen()).toBe('before');
  return seen;
}

/** bringUp() with a slice of this kind: the device is bound by it. */
async function running(machine: Machine, options: { ats?: boolean; pid?: number } = {}) {
  const { pid = 42, ...rest } = options;
  const vm = await Vm.start(machine, pid);
  const probe = await vm.device(0);
  const slice = await CmdqvSlice.open(vm, probe);
  vm.program.close(probe.fd);
  const guest = await bringUp(vm, { slice, ...rest });
  const mapping = slice.map();
  return { vm, slice, guest, mapping, queue: await slice.queue(mapping) };
}

describe.each(ABIS)("a guest's command in its own queue, %s", (abi) => {
  it('reaches the IOTLB, and no ioctl is made', async () => {
    const { machine, events } = machineWith(abi);
    const { guest, queue } = await running(machine);
    const seen = change(guest);
    const ioctls = events.filter(({ type }) => type === 'ioctl').length;
    expect(queue.submit(commands.nhVa(7, TARGET))).toBe(0);
    expect(seen()).toBe('before');
    expect(queue.submit(commands.nhVa(7, IOVA))).toBe(0);
    expect(seen()).toBe('after');
    expect(events.filter(({ type }) => type === 'ioctl').length).toBe(ioctls);
  });

  it("reaches the device's ATC by its virtual StreamID, and by no other", async () => {
    const { machine } = machineWith(abi);
    const { guest, queue } = await running(machine, { ats: true });
    const seen = change(guest);
    queue.submit(commands.nhAsid(7));
    expect(seen()).toBe('before');
    queue.submit(commands.atcInv(guest.sid, IOVA));
    expect(seen()).toBe('after');
    expect(queue.submit(commands.atcInv(0x100, IOVA))).not.toBe(0);
  });

  it('touches nothing of another SMMU, whose tags may be the same', async () => {
    const { machine } = machineWith(abi);
    const one = await running(machine);
    const other = await bringUp(one.vm, { vfio: 1, sid: 2, asid: 7 });
    const seen = change(other);
    expect(one.queue.submit(commands.nhAsid(7))).toBe(0);
    expect(seen()).toBe('before');
    await other.slice.invalidate(commands.nhAsid(7));
    expect(seen()).toBe('after');
  });

  it('that is not for guests changes nothing and stops the queue', async () => {
    const { machine } = machineWith(abi);
    const { guest, queue } = await running(machine);
    const seen = change(guest);
    expect(queue.submit(commands.nsnhAll())).not.toBe(0);
    expect(seen()).toBe('before');
    expect(queue.submit(commands.nhAsid(7))).not.toBe(0);
    expect(seen()).toBe('before');
  });
});

describe('memory of a queue', () => {
  const fragmented = (machine: MutableMachine) => (machine.memory = { fragmentSeed: 3 });

  it('of more than a page has to be contiguous physically, which fragmented memory is not: EFAULT', async () => {
    const { machine } = machineWith('linux-7.1', fragmented);
    const { vm, slice } = await cmdqvVm(machine);
    expect(await slice.queueAt(0, vm.ram.allocate(2), 2)).toBe('EFAULT');
    expect(await slice.queueAt(0, vm.ram.allocate(1), 1)).toBeGreaterThan(0);
  });

  it('is not looked at in viommu-v2: the hardware goes on in memory that is not the queue', async () => {
    const { machine } = machineWith(V2, fragmented);
    const { vm, slice, mapping } = await cmdqvVm(machine);
    const base = vm.ram.allocate(2);
    const id = (await slice.queueAt(0, base, 2)) as number;
    const queue = new GuestQueue(vm, mappedRegisters(mapping)!, id, 0, base).enable();
    // The guest fills both pages with CMD_SYNC; what lies behind the first one in physical memory is no command at all.
    for (let at = 0n; at < 0x2000n; at += 16n) vm.ram.store(base + at, 0x46n);
    queue.store(QUEUE.PROD, 300);
    expect(queue.load(QUEUE.CONS) & 0xfffff).toBe(256);
    expect(queue.load(QUEUE.CONS) >>> 24).not.toBe(0);
  });

  it('cannot be unmapped while the queue is there, and can afterwards', async () => {
    const { machine } = machineWith('linux-7.1');
    const { vm, slice } = await cmdqvVm(machine);
    const id = (await slice.queueAt(0, vm.ram.allocate())) as number;
    expect(await vm.unmap(vm.ram.base, 8 * 2 ** 20)).toBe('EBUSY');
    expect(await vm.destroy(id)).toBe('');
    expect(await vm.unmap(vm.ram.base, 8 * 2 ** 20)).toBe('');
  });

  it('can be unmapped in viommu-v2, where nothing pins it', async () => {
    const { machine } = machineWith(V2);
    const { vm, slice, mapping } = await cmdqvVm(machine);
    await slice.queueAt(0, vm.ram.allocate());
    expect(await vm.unmap(vm.ram.base, 8 * 2 ** 20)).toBe('');
    mapping.ended();
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });
});

describe('the page of a virtual interface', () => {
  it('keeps its vIOMMU in use while it is mapped', async () => {
    const { machine } = machineWith('linux-7.1');
    const { vm, slice, mapping } = await cmdqvVm(machine);
    expect(await vm.destroy(slice.id)).toBe('EBUSY');
    mapping.ended();
    expect(await vm.destroy(slice.id)).toBe('');
    expect(() => slice.map()).toThrow('ENXIO');
  });

  it('outlives its vIOMMU in viommu-v2, and then reaches whoever gets the interface next', async () => {
    const { machine } = machineWith(V2);
    const first = await cmdqvVm(machine);
    const page = mappedRegisters(first.mapping)!;
    const status = (): number => {
      const bytes = new Uint8Array(4);
      page.load(QUEUE.STATUS, bytes);
      return bytes[0]!;
    };
    expect(await first.vm.destroy(first.slice.id)).toBe('');
    expect(status()).toBe(0);
    first.vm.program.close(first.device.fd);
    const next = await cmdqvVm(machine, 43);
    await next.slice.queue(next.mapping);
    expect(status()).toBe(1);
    expect(() => first.slice.map()).toThrow('ENOENT');
  });

  it('is as long as it is said to be', async () => {
    const { machine } = machineWith('linux-7.1');
    const { vm, slice } = await cmdqvVm(machine);
    const { program, iommufd } = vm;
    const map = (length: bigint) => program.file(iommufd).mmap(program.process, length, 3, 1, slice.offset);
    expect(map(VINTF_PAGE - 5n)).toBe(map(VINTF_PAGE));
    for (const length of [0x1000n, 0xf000n, 0x11000n]) expect(() => map(length)).toThrow('ENXIO');
  });
});

describe('virtual interfaces', () => {
  it('are as many as the CMDQV has, less that of the host: then ENOSPC', async () => {
    const few = ({ iommus }: MutableMachine) => Object.assign(iommus[0]!.cmdqv as object, { log2Vintfs: 2 });
    const { machine } = machineWith('linux-7.1', few);
    const { vm, device, slice, mapping } = await cmdqvVm(machine);
    for (let n = 1; n < 3; n++) expect(await CmdqvSlice.tryOpen(vm, device)).toBeInstanceOf(CmdqvSlice);
    expect(await CmdqvSlice.tryOpen(vm, device)).toBe('ENOSPC');
    mapping.ended();
    expect(await vm.destroy(slice.id)).toBe('');
    expect(await CmdqvSlice.tryOpen(vm, device)).toBeInstanceOf(CmdqvSlice);
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('are nothing that an SMMU without a CMDQV has', async () => {
    const { machine } = testMachine();
    const vm = await Vm.start(machine);
    expect(await CmdqvSlice.tryOpen(vm, await vm.device(0))).toBe('EOPNOTSUPP');
  });
});

describe('GET_HW_INFO', () => {
  it.each([
    ['linux-7.1', 3, [3, 8, 1, 1, 4]],
    ['linux-7.1', 0, [2, 40]],
    ['linux-7.1', 2, [2, 40]],
    ['linux-7.1', 1, 'EOPNOTSUPP'],
    ['linux-6.16', 3, 'EOPNOTSUPP'],
  ])('%s: type %d answers %j', async (abi, inDataType, answer) => {
    const { machine } = machineWith(abi);
    const vm = await Vm.start(machine);
    const device = await vm.device(0);
    const dataUptr = vm.program.put(new Uint8Array(40));
    const values = { devId: device.id, flags: inDataType ? 1 : 0, inDataType, dataLen: 40, dataUptr };
    const { errno, s } = await vm.program.call(vm.iommufd, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, values);
    const { version, log2vcmdqs, log2vsids } = new uapi.HwInfoTegra241Cmdqv(vm.program.get(0x1000, 8));
    const shown = s.outDataType === 3 ? [version, log2vcmdqs, log2vsids] : [];
    expect(errno || [s.outDataType, s.dataLen, ...shown]).toEqual(answer);
  });
});

describe.each(ABIS)('a program that ends with queues, %s', (abi) => {
  it.each([
    ['first to last', (fds: number[]) => fds],
    ['last to first', (fds: number[]) => fds.toReversed()],
  ])('leaves nothing, its descriptors closed from %s', async (_, order) => {
    const { machine } = machineWith(abi);
    const { vm, slice, mapping, queue } = await running(machine);
    await slice.queue(mapping, 1);
    queue.submit(commands.nhAll());
    vm.program.die(order);
    mapping.ended();
    expect(leftovers(machine)).toEqual({});
    const again = await running(machine, { pid: 43 });
    expect(again.queue.submit(commands.nhAsid(7))).toBe(0);
  });
});
