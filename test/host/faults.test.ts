/** Faults of a guest's stage 1 on their way to the VM: vEVENTQ in the newest dialect, VIRQ in the design thread's. */
import { describe, expect, it } from 'vitest';
import { IOMMU_VIOMMU_UNSET_VDEV_ID, ViommuUnsetVdevId } from '../../src/abi/iommufd-viommu-v2.ts';
import { POLLIN } from '../../src/iommufd/file.ts';
import { testMachine } from './program.ts';
import { bringUp, Engine, V2, Vm } from './vm.ts';

const UNMAPPED = 0x6000_0000n;
const F_TRANSLATION = 0x10;
const F_PERMISSION = 0x13;
const LOST_EVENTS = 1;

const HEADER_BYTES = 8;
const RECORD_BYTES = 32;

/** The fields of an event record that a guest looks at first (IHI 0070, 7.3.12). */
function record(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_BYTES);
  return {
    type: view.getUint8(0),
    stream: view.getUint32(4, true),
    read: (view.getUint32(12, true) & (1 << 3)) !== 0,
    stage2: (view.getUint32(12, true) & (1 << 7)) !== 0,
    address: view.getBigUint64(16, true),
  };
}

function header(bytes: Uint8Array) {
  const [flags, sequence] = new Uint32Array(bytes.buffer, bytes.byteOffset, 2);
  return { flags, sequence };
}

/** Queue entries as read: headers, and records behind those without LOST_EVENTS. */
function entries(bytes: Uint8Array) {
  const found: { flags: number; sequence: number; type?: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { flags, sequence } = header(bytes.subarray(at, at + HEADER_BYTES).slice());
    at += HEADER_BYTES;
    if (flags === LOST_EVENTS) found.push({ flags: flags!, sequence: sequence! });
    else {
      found.push({ flags: flags!, sequence: sequence!, type: bytes[at]! });
      at += RECORD_BYTES;
    }
  }
  return found;
}

async function faultingGuest(abi: string, depth = 16) {
  const { machine } = testMachine({ abi });
  const vm = await Vm.start(machine);
  const guest = await bringUp(vm, { sid: 0x5a });
  const queue = await guest.slice.events(depth);
  const fault = (iova = UNMAPPED): void => {
    expect(guest.engine.copy(iova, iova)).toBe('halted');
  };
  return { vm, guest, queue, fault, program: vm.program };
}

describe.each(['linux-7.1', V2])('a fault in stage 1, %s', (abi) => {
  const skip = abi === V2 ? 0 : HEADER_BYTES;

  it('reaches the VM with the virtual StreamID, and makes its descriptor readable', async () => {
    const { program, queue, fault } = await faultingGuest(abi);
    expect(program.file(queue.fd).pollMask).toBe(0);
    fault(UNMAPPED + 0x123n);
    expect(program.file(queue.fd).pollMask).toBe(POLLIN);
    const bytes = program.read(queue.fd, 4096);
    expect(bytes.length).toBe(skip + RECORD_BYTES);
    expect(record(bytes.slice(skip))).toEqual({
      type: F_TRANSLATION,
      stream: 0x5a,
      read: true,
      stage2: false,
      address: UNMAPPED + 0x123n,
    });
    expect(program.file(queue.fd).pollMask).toBe(0);
  });

  it('tells a refused write from a read', async () => {
    const { vm, guest, program, queue } = await faultingGuest(abi);
    const source = vm.ram.allocate();
    guest.stage1.map(0x10_0000n, source, { readOnly: true });
    expect(guest.engine.copy(0x10_0000n, 0x10_0000n)).toBe('halted');
    const { type, read } = record(program.read(queue.fd, 4096).slice(skip));
    expect([type, read]).toEqual([F_PERMISSION, false]);
  });

  it('gives 0 bytes when none waits or none fits, and whole records only', async () => {
    const { program, queue, fault } = await faultingGuest(abi);
    expect(program.read(queue.fd, 4096).length).toBe(0);
    fault();
    fault();
    expect(program.read(queue.fd, skip + RECORD_BYTES - 1).length).toBe(0);
    expect(program.read(queue.fd, 2 * (skip + RECORD_BYTES) - 1).length).toBe(skip + RECORD_BYTES);
    expect(program.read(queue.fd, 4096).length).toBe(skip + RECORD_BYTES);
  });
});

describe('a vEVENTQ', () => {
  it('counts its events from 0 on', async () => {
    const { program, queue, fault } = await faultingGuest('linux-7.1');
    for (let i = 0; i < 3; i++) fault();
    const found = entries(program.read(queue.fd, 4096));
    expect(found.map(({ flags, sequence }) => [flags, sequence])).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
    ]);
  });

  it('that overflows keeps the oldest, then says that events were lost, and goes on counting', async () => {
    const { program, queue, fault } = await faultingGuest('linux-7.1', 2);
    for (let i = 0; i < 5; i++) fault();
    const found = entries(program.read(queue.fd, 4096));
    expect(found.slice(0, 2).map(({ flags, sequence }) => [flags, sequence])).toEqual([
      [0, 0],
      [0, 1],
    ]);
    expect(found).toHaveLength(3);
    expect(found[2]).toEqual({ flags: LOST_EVENTS, sequence: 4 });
    fault();
    expect(entries(program.read(queue.fd, 4096))).toEqual([{ flags: 0, sequence: 5, type: F_TRANSLATION }]);
  });
});

describe('a device without a vDEVICE', () => {
  it('cannot be put behind a stage 1', async () => {
    const { machine } = testMachine();
    const vm = await Vm.start(machine);
    const guest = await bringUp(vm, { vfio: 0 });
    const other = await vm.device(1);
    const slice = await vm.slice(other);
    const nested = await slice.nested(other, guest.contexts.ste());
    expect(await other.attachErr(nested)).toBe('ENOENT');
  });

  it('reports nothing to the VM: a fault of the stage 2 that it is attached to stays with the host', async () => {
    const { machine, events } = testMachine();
    const vm = await Vm.start(machine);
    const guest = await bringUp(vm, { vfio: 0 });
    const queue = await guest.slice.events();
    const other = await vm.device(1);
    const otherSlice = await vm.slice(other);
    const otherQueue = await otherSlice.events();
    await other.attach(await vm.parent(other));
    expect(new Engine(other, UNMAPPED).copy(UNMAPPED, UNMAPPED)).toBe('halted');
    expect(events.some((event) => event.type === 'fault')).toBe(true);
    expect(vm.program.file(queue.fd).pollMask).toBe(0);
    expect(vm.program.file(otherQueue.fd).pollMask).toBe(0);
  });

  it('that loses its virtual StreamID stops reporting', async () => {
    const { machine } = testMachine({ abi: V2 });
    const vm = await Vm.start(machine);
    const guest = await bringUp(vm, { sid: 0x5a });
    const queue = await guest.slice.events();
    await vm.program.ok(vm.iommufd, IOMMU_VIOMMU_UNSET_VDEV_ID, ViommuUnsetVdevId, {
      viommuId: guest.slice.id,
      devId: guest.device.id,
      vdevId: 0x5an,
    });
    guest.engine.copy(UNMAPPED, UNMAPPED);
    expect(vm.program.file(queue.fd).pollMask).toBe(0);
  });
});
