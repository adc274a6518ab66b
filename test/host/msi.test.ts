/** Messages (MSI-X) of functions as on an Arm host: DMA writes to the software MSI window, translated like any other. */
import { describe, expect, it } from 'vitest';
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio.ts';
import type { TraceEvent } from '../../src/trace/events.ts';
import { STE_ABORT, STE_BYPASS } from './guest.ts';
import { leftovers, type MachineChoice, MIB, Program, testMachine } from './program.ts';
import { bringUp, type Device, Engine, V2, Vm } from './vm.ts';

const [NONE_TRIGGER, EVENTFD_TRIGGER, MSIX] = [33, 36, 2];
const MASTER_AND_MEMORY = 0x6;
const WINDOW = 0x800_0000n;
/** Of the doorbell's register in its page, and its page in physical memory. */
const TRANSLATER = 0x40;
const DOORBELL_FRAME = 0x8090;
const SID = 0x10;

/** An eventfd on vector 0 of a device, after SET_IRQS. */
async function arm(device: Device) {
  const { program } = device.vm;
  const { fd, eventFd } = program.eventfd();
  const values = { flags: EVENTFD_TRIGGER, index: MSIX, start: 0, count: 1 };
  const tail = new Uint8Array(Int32Array.of(fd).buffer);
  const { errno } = await program.call(device.fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, values, tail);
  return { errno, eventFd };
}

async function start(choice: MachineChoice = {}) {
  const { machine, events } = testMachine(choice);
  const vm = await Vm.start(machine);
  const device = await vm.device(0);
  device.setCommand(MASTER_AND_MEMORY);
  /** Has the function behind vfioN send its first message. */
  const send = (index = 0) => {
    machine.devices[index]!.fn.sendMessage(0);
    machine.settle();
  };
  const end = () => {
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  };
  return { machine, events, vm, device, send, end };
}

/** An engine in an IOAS that has guest RAM at its guest-physical addresses. */
function untranslatedEngine(device: Device): Engine {
  const descriptor = device.vm.ram.allocate() + 0x1000n;
  return new Engine(device, descriptor);
}

const writes = (events: readonly TraceEvent[]) =>
  events.flatMap((event) => (event.type === 'dma' && event.write ? [event] : []));

/** Maps `length` bytes of the program at `iova`. */
function mapErr(vm: Vm, iova: bigint, length = 0x1000n, ioasId = vm.ioasId): Promise<ErrnoName | ''> {
  const values = { flags: 7, ioasId, userVa: vm.program.base, length, iova };
  return vm.program.err(vm.iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
}

const newIoas = async ({ program, iommufd }: Vm): Promise<number> =>
  (await program.ok(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc)).outIoasId;

const newHwpt = async ({ program, iommufd }: Vm, device: Device, ptId: number, flags = 0): Promise<number> => {
  const values = { flags, devId: device.id, ptId };
  return (await program.ok(iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).outHwptId;
};

describe.each(['stage 1', 'stage 2'])('a message through a %s of the host', (stage) => {
  const attached = async () => {
    const made = await start();
    const { vm, device } = made;
    await device.attach(stage === 'stage 1' ? vm.ioasId : await vm.parent(device));
    return { ...made, ...(await arm(device)) };
  };

  it('is a write to the window, past the ATC, that the SMMU takes to the doorbell', async () => {
    const { send, eventFd, events, end } = await attached();
    events.length = 0;
    send();
    expect(eventFd.count).toBe(1);
    const message = { iovaFrame: Number(WINDOW >> 12n), offset: TRANSLATER, length: 4, via: 'iommu', substream: -1 };
    expect(writes(events)).toMatchObject([{ ...message, frame: DOORBELL_FRAME }]);
    end();
  });

  it('is lost while the device is detached, and arrives when it is attached again, to whatever', async () => {
    const { device, send, eventFd, vm, end } = await attached();
    await device.detach();
    send();
    expect(eventFd.count).toBe(0);
    await device.attach(await newIoas(vm));
    send();
    expect(eventFd.count).toBe(1);
    end();
  });

  it('arrives at once after a replacement, by an HWPT of the same IOAS or of another one', async () => {
    const { device, send, eventFd, vm, end } = await attached();
    for (const ioasId of [vm.ioasId, await newIoas(vm)]) {
      await device.attach(await newHwpt(vm, device, ioasId));
      send();
    }
    expect(eventFd.count).toBe(2);
    end();
  });

  it('is not sent by a function that may not send', async () => {
    const { device, send, eventFd, events } = await attached();
    device.setCommand(0x2);
    events.length = 0;
    send();
    expect([eventFd.count, writes(events)]).toEqual([0, []]);
  });
});

describe('the page of the doorbell', () => {
  it('stays in a domain as long as that, so that nothing else can be mapped there (EEXIST)', async () => {
    const { vm, device, end } = await start();
    const hwptId = await newHwpt(vm, device, vm.ioasId);
    await device.attach(hwptId);
    expect(await mapErr(vm, WINDOW)).toBe('EINVAL');
    await arm(device);
    await device.detach();
    expect(await mapErr(vm, WINDOW)).toBe('EEXIST');
    expect(await mapErr(vm, WINDOW - 0x10_0000n, 0x20_0000n)).toBe('EEXIST');
    expect(await mapErr(vm, WINDOW + 0x1000n)).toBe('');
    expect(await vm.destroy(hwptId)).toBe('');
    expect(await mapErr(vm, WINDOW)).toBe('');
    end();
  });

  it('is in no domain before a message is asked for', async () => {
    const { vm, device, machine } = await start();
    const hwptId = await newHwpt(vm, device, vm.ioasId);
    const tables = () => machine.leftovers().tableFrames;
    await device.attach(hwptId);
    const before = tables()!;
    await arm(device);
    expect(tables()).toBeGreaterThan(before);
  });

  it('is the same for all devices, each of which can raise its own interrupts only', async () => {
    const oneSmmu: MachineChoice = { preset: 'one-smmu' };
    const { vm, device, send, end } = await start(oneSmmu);
    const other = await vm.device(1);
    await device.attach(vm.ioasId);
    await other.attach(vm.ioasId);
    const [mine, its] = [await arm(device), await arm(other)];
    const zero = vm.ram.allocate();
    expect(untranslatedEngine(other).copy(zero, WINDOW + BigInt(TRANSLATER), 4)).toBe('done');
    expect([mine.eventFd.count, its.eventFd.count]).toEqual([0, 1]);
    send(0);
    expect([mine.eventFd.count, its.eventFd.count]).toEqual([1, 1]);
    end();
  });

  it('takes no event that the device was not given, and none any more after DATA_NONE', async () => {
    const { vm, device, send, machine } = await start();
    await device.attach(vm.ioasId);
    const { eventFd } = await arm(device);
    const { fn } = machine.devices[0]!;
    fn.msix!.setMessage(0, WINDOW + BigInt(TRANSLATER), 5);
    send();
    fn.msix!.setMessage(0, WINDOW + BigInt(TRANSLATER), 0);
    send();
    expect(eventFd.count).toBe(1);
    await vm.program.ok(device.fd, vfio.VFIO_DEVICE_SET_IRQS, vfio.IrqSet, { flags: NONE_TRIGGER, index: MSIX });
    send();
    expect([eventFd.count, eventFd.held]).toEqual([1, 0]);
  });
});

describe.each(['linux-7.1', V2])('a message of a device behind a vIOMMU, %s', (abi) => {
  const nested = async () => {
    const made = testMachine({ abi });
    const guest = await bringUp(await Vm.start(made.machine), { sid: SID });
    guest.device.setCommand(MASTER_AND_MEMORY);
    const { eventFd } = await arm(guest.device);
    const send = () => {
      made.machine.devices[0]!.fn.sendMessage(0);
      made.machine.settle();
    };
    return { ...made, ...guest, eventFd, send };
  };

  it('faults at a stage 1 that does not map the window: the guest hears of it, and the message is lost', async () => {
    const { vm, slice, send, eventFd } = await nested();
    const queue = await slice.events();
    send();
    expect(eventFd.count).toBe(0);
    const record = vm.program.read(queue.fd, 256).subarray(-32);
    const view = new DataView(record.buffer, record.byteOffset, 32);
    const F_TRANSLATION = 0x10;
    expect([view.getUint8(0), view.getUint32(4, true)]).toEqual([F_TRANSLATION, SID]);
    expect(view.getBigUint64(16, true)).toBe(WINDOW + BigInt(TRANSLATER));
  });

  it('arrives when the guest maps the window one to one, as an RMR in its firmware tells it to', async () => {
    const { vm, stage1, send, eventFd, machine } = await nested();
    stage1.map(WINDOW, WINDOW);
    send();
    expect(eventFd.count).toBe(1);
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('arrives while the guest bypasses its stage 1, and not while it aborts', async () => {
    const { slice, device, send, eventFd } = await nested();
    await device.attach(await slice.nested(device, STE_BYPASS));
    send();
    expect(eventFd.count).toBe(1);
    await device.attach(await slice.nested(device, STE_ABORT));
    send();
    expect(eventFd.count).toBe(1);
  });

  it('arrives behind another nesting parent, too, after a replacement', async () => {
    const { vm, device, send, eventFd } = await nested();
    vm.parentId = 0;
    await device.attach(await vm.parent(device));
    send();
    expect(eventFd.count).toBe(1);
  });
});

describe('the completion of an IOAT engine', () => {
  it('comes by a message that is written after the data', async () => {
    const { vm, device, events } = await start();
    await device.attach(vm.ioasId);
    const { eventFd } = await arm(device);
    const engine = untranslatedEngine(device);
    device.writeBar(0x03, Uint8Array.of(0x1));
    const [from, to] = [vm.ram.allocate(), vm.ram.allocate()];
    vm.ram.text(from, 'before');
    events.length = 0;
    const INTERRUPT_ON_COMPLETION = 1;
    expect(engine.copy(from, to, 16, INTERRUPT_ON_COMPLETION)).toBe('done');
    expect([vm.ram.text(to), eventFd.count]).toEqual(['before', 1]);
    const written = writes(events).map(({ iovaFrame }) => iovaFrame);
    expect(written.indexOf(Number(to >> 12n))).toBeLessThan(written.indexOf(Number(WINDOW >> 12n)));
  });
});

describe('a machine with its window elsewhere', () => {
  it('writes messages there', async () => {
    const change: MachineChoice['change'] = ({ iommus }) => {
      for (const smmu of iommus) smmu.msiWindow = '0xfee00000';
    };
    const { vm, device, events, send, machine } = await start({ change });
    expect(await mapErr(vm, WINDOW)).toBe('');
    await device.attach(vm.ioasId);
    const { eventFd } = await arm(device);
    events.length = 0;
    send();
    expect([eventFd.count, writes(events)[0]!.iovaFrame]).toEqual([1, 0xfee00]);
    const regions = machine.sysfs.find(({ path }) => path === '/sys/kernel/iommu_groups/0/reserved_regions');
    expect(regions).toMatchObject({ content: '0x00000000fee00000 0x00000000feefffff msi\n' });
  });
});

describe('a machine whose messages pass the SMMUs by', () => {
  const bypassed = (): ReturnType<typeof start> => start({ preset: 'two-smmus-nvme-x86' });

  it('lets a program map 512 MiB from 0 on, as an x86 VMM does, and reserves 0xfee00000', async () => {
    const { vm, device, end } = await bypassed();
    const program = new Program(vm.program.machine, 512 * MIB, 43);
    const iommufd = program.open('/dev/iommu');
    const fd = program.open('/dev/vfio/devices/vfio1');
    await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd });
    const { outIoasId: ptId } = await program.ok(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc);
    const all = { flags: 7, ioasId: ptId, userVa: program.base, length: BigInt(512 * MIB), iova: 0n };
    await program.ok(iommufd, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, all);
    await program.ok(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, { argsz: 12, ptId });
    program.die();
    await device.attach(vm.ioasId);
    expect(await mapErr(vm, 0xfeef_f000n)).toBe('EINVAL');
    expect(await mapErr(vm, 0xfef0_0000n)).toBe('');
    end();
  });

  it.each(['blocked', 'attached'])('has messages of a device that is %s arrive, untranslated', async (state) => {
    const { vm, device, send, events, end } = await bypassed();
    if (state === 'attached') await device.attach(vm.ioasId);
    const { errno, eventFd } = await arm(device);
    events.length = 0;
    send();
    expect([errno, eventFd.count]).toEqual(['', 1]);
    expect(writes(events)).toMatchObject([{ iovaFrame: 0xfee00, offset: TRANSLATER, frame: DOORBELL_FRAME }]);
    end();
  });
});
