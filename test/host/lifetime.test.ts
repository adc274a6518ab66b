/** What refuses to go while it is used, what goes with its owner, and that nothing stays behind. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commands, STE_ABORT } from './guest.ts';
import { leftovers, MIB, testMachine } from './program.ts';
import { bringUp, GUEST_BASE, V2, Vm } from './vm.ts';

const IOVA = 0x10_0000n;

async function runningVm(abi = 'linux-7.1', ats = true) {
  const { machine, events } = testMachine({ abi });
  const vm = await Vm.start(machine);
  const guest = await bringUp(vm, { vfio: 0, sid: 1, ats });
  const other = await bringUp(vm, { vfio: 1, sid: 2, ats });
  const queue = await guest.slice.events();
  return { machine, events, vm, guest, other, queue };
}

describe('unmapping stage 2 under a running device', () => {
  it.each([false, true])('takes the translation away on every SMMU that shares it, ATS %s', async (ats) => {
    const { vm, guest, other } = await runningVm('linux-7.1', ats);
    const extra = GUEST_BASE + 64n * BigInt(MIB);
    await vm.map(extra, 4n * BigInt(MIB), 2 * MIB);
    for (const one of [guest, other]) {
      one.stage1.map(IOVA, extra);
      expect(one.engine.copy(IOVA, IOVA)).toBe('done');
    }
    expect(await vm.unmap(extra, 2 * MIB)).toBe('');
    for (const one of [guest, other]) expect(one.engine.copy(IOVA, IOVA)).toBe('halted');
  });

  it('leaves what else the guest has as it was', async () => {
    const { vm, guest } = await runningVm();
    const extra = GUEST_BASE + 64n * BigInt(MIB);
    await vm.map(extra, 4n * BigInt(MIB), 2 * MIB);
    guest.stage1.map(IOVA, vm.ram.allocate());
    await vm.unmap(extra, 2 * MIB);
    expect(guest.engine.copy(IOVA, IOVA)).toBe('done');
  });

  it('and mapping other memory there shows the other memory', async () => {
    const { vm, guest } = await runningVm();
    const extra = GUEST_BASE + 64n * BigInt(MIB);
    const target = vm.ram.allocate();
    guest.stage1.map(IOVA, extra);
    guest.stage1.map(IOVA + 0x1000n, target);
    for (const [offset, text] of [
      [4 * MIB, 'memory one'],
      [6 * MIB, 'memory two'],
    ] as const) {
      await vm.map(extra, BigInt(offset), 2 * MIB);
      vm.ram.text(GUEST_BASE + BigInt(offset), text);
      expect(guest.engine.copy(IOVA, IOVA + 0x1000n)).toBe('done');
      expect(vm.ram.text(target)).toBe(text);
      await vm.unmap(extra, 2 * MIB);
    }
  });
});

describe('an object in use', () => {
  it('refuses to be destroyed with EBUSY, whatever uses it', async () => {
    const { vm, guest, queue } = await runningVm();
    const { device, slice, nestedId } = guest;
    const unattached = await slice.nested(device, STE_ABORT);
    for (const id of [vm.ioasId, await vm.parent(device), slice.id, nestedId, queue.id, device.id]) {
      expect(await vm.destroy(id), `object ${id}`).toBe('EBUSY');
    }
    expect(await vm.destroy(unattached)).toBe('');
  });

  it('goes when its users have gone, from the leaves to the root', async () => {
    const { vm, guest, other, queue, machine } = await runningVm();
    vm.program.close(queue.fd);
    for (const { device } of [guest, other]) await device.detach();
    for (const id of [queue.id, guest.nestedId, other.nestedId]) expect(await vm.destroy(id)).toBe('');
    for (const { device } of [guest, other]) vm.program.close(device.fd);
    for (const id of [guest.slice.id, other.slice.id, vm.parentId, vm.ioasId]) {
      expect(await vm.destroy(id), `object ${id}`).toBe('');
    }
    vm.program.close(vm.iommufd);
    expect(leftovers(machine)).toEqual({});
  });

  it('is not there any more after it was destroyed', async () => {
    const { vm, guest } = await runningVm();
    const nested = await guest.slice.nested(guest.device, STE_ABORT);
    await vm.destroy(nested);
    expect(await vm.destroy(nested)).toBe('ENOENT');
    expect(await guest.device.attachErr(nested)).toBe('ENOENT');
  });
});

describe('a program that ends', () => {
  it.each(['linux-7.1', V2])('leaves nothing, in whatever order its descriptors close, %s', async (abi) => {
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), async (order) => {
        const { vm, machine, guest } = await runningVm(abi);
        guest.stage1.map(IOVA, vm.ram.allocate());
        guest.engine.copy(IOVA, IOVA);
        guest.engine.copy(0x7777_0000n, IOVA);
        vm.program.die((fds) => order.map((at) => fds[at]!));
        expect(leftovers(machine)).toEqual({});
      }),
      { numRuns: 24 },
    );
  });

  it('after a refused call leaves nothing either', async () => {
    const { vm, machine, guest, other } = await runningVm();
    await guest.slice.invalidate(commands.cfgiCd(0x99));
    await vm.destroy(vm.ioasId);
    await other.device.attachErr(guest.nestedId);
    await guest.device.attachErr(0xffff);
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('makes room for the next: the same devices, IDs and VMIDs', async () => {
    const { machine } = testMachine();
    const ids = async (): Promise<number[]> => {
      const vm = await Vm.start(machine);
      const { device, slice, nestedId } = await bringUp(vm);
      vm.program.die();
      return [device.id, slice.id, nestedId];
    };
    expect(await ids()).toEqual(await ids());
  });

  it('stops its devices: nothing of the next program is written by what was started before', async () => {
    const { machine } = testMachine();
    const vm = await Vm.start(machine);
    const { device } = await bringUp(vm);
    vm.program.die();
    const [fn] = machine.devices.map(({ fn: one }) => one);
    expect(fn!.readConfig(4, 2) & 4).toBe(0);
    expect(fn!.atc.used).toBe(0);
    expect(device.id).toBeGreaterThan(0);
  });
});
