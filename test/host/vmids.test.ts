/** One stage 2 on two SMMUs, VMIDs from each SMMU's own pool, and what happens when two VMs share one. */
import { describe, expect, it } from 'vitest';
import { IOMMU_VIOMMU_ALLOC, ViommuAlloc } from '../../src/abi/iommufd.ts';
import { commands, STE_BYPASS } from './guest.ts';
import { leftovers, testMachine } from './program.ts';
import { readSte } from './stream-table.ts';
import { bringUp, type Guest, type Slice, V2, Vm } from './vm.ts';

const IOVA = 0x10_0000n;
const TARGET = 0x20_0000n;
/** 8-bit VMIDs without 0. */
const POOL = 255;

/** IOVA leads to a page with `text`, TARGET to a page of its own. */
function page({ vm, stage1 }: Guest, text: string): bigint {
  const [source, target] = [vm.ram.allocate(), vm.ram.allocate()];
  vm.ram.text(source, text);
  stage1.map(IOVA, source);
  stage1.map(TARGET, target);
  return target;
}

function deviceReads({ engine, vm }: Guest, target: bigint): string {
  vm.ram.text(target, '');
  return engine.copy(IOVA, TARGET) === 'done' ? vm.ram.text(target) : 'refused';
}

describe.each(['linux-7.1', V2])('two SMMUs and one nesting parent, %s', (abi) => {
  it('use the same stage-2 tables under VMIDs of their own pools', async () => {
    const { machine } = testMachine({ abi });
    const vm = await Vm.start(machine);
    const first = await bringUp(vm, { vfio: 0, sid: 1 });
    const spare = await vm.slice(first.device);
    const before = machine.leftovers().tableFrames;
    await bringUp(vm, { vfio: 1, sid: 2 });
    expect(machine.leftovers().tableFrames).toBe(before);

    const [left, right] = [readSte(machine, 0, 0x100), readSte(machine, 1, 0x200)];
    expect([left.config, right.config]).toEqual([7, 7]);
    expect(left.s2ttb).toBe(right.s2ttb);
    expect(left.s2ttb).not.toBe(0n);
    await first.device.attach(await spare.nested(first.device, STE_BYPASS));
    const other = readSte(machine, 0, 0x100);
    expect(other.s2ttb).toBe(left.s2ttb);
    expect(other.vmid).not.toBe(left.vmid);
  });

  it('both move data for the VM', async () => {
    const { machine } = testMachine({ abi });
    const vm = await Vm.start(machine);
    const first = await bringUp(vm, { vfio: 0, sid: 1 });
    const second = await bringUp(vm, { vfio: 1, sid: 2, asid: 9 });
    const targets = [page(first, 'by the first'), page(second, 'by the second')];
    expect(deviceReads(first, targets[0]!)).toBe('by the first');
    expect(deviceReads(second, targets[1]!)).toBe('by the second');
  });

  it('put the VMID of the vIOMMU into what its guest sends, on its SMMU only', async () => {
    const { machine, events } = testMachine({ abi });
    const vm = await Vm.start(machine);
    const first = await bringUp(vm, { vfio: 0, sid: 1 });
    await bringUp(vm, { vfio: 1, sid: 2 });
    events.length = 0;
    await first.slice.invalidate(commands.nhAll(99));
    const sent = events.filter((event) => event.type === 'command' && (event.words[0]! & 0xff) === 0x10);
    const seen = sent.map((event) => event.type === 'command' && [event.iommu, event.words[1]! & 0xffff]);
    expect(seen).toEqual([[machine.iommus[0]!.name, readSte(machine, 0, 0x100).vmid]]);
  });

  it('fill up one by one: the 256th vIOMMU on the first is ENOSPC, and the second still has all its VMIDs', async () => {
    const { machine } = testMachine({ abi });
    const vm = await Vm.start(machine);
    const [first, second] = [await vm.device(0), await vm.device(1)];
    const slices: Slice[] = [];
    for (let i = 0; i < POOL; i++) slices.push(await vm.slice(first));
    expect(await vm.trySlice(first)).toBe('ENOSPC');
    for (let i = 0; i < POOL; i++) await vm.slice(second);
    expect(await vm.trySlice(second)).toBe('ENOSPC');
    expect(await vm.destroy(slices[3]!.id)).toBe('');
    expect(await vm.trySlice(second)).toBe('ENOSPC');
    expect(typeof (await vm.trySlice(first))).toBe('object');
    vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });
});

describe('a machine with a smaller pool', () => {
  it('gives out as many VMIDs as its bits say', async () => {
    const { machine } = testMachine({ change: (m) => (m.iommus[0]!.vmidBits = 2) });
    const vm = await Vm.start(machine);
    const device = await vm.device(0);
    for (let i = 0; i < 3; i++) await vm.slice(device);
    expect(await vm.trySlice(device)).toBe('ENOSPC');
  });
});

describe('a machine with one VMID per stage 2, as present kernels have it', () => {
  it('lets two vIOMMUs of one VM on one SMMU share a VMID', async () => {
    const { machine } = testMachine({ preset: 'one-smmu', change: (m) => (m.policy = { vmid: 'per-domain' }) });
    const vm = await Vm.start(machine);
    await bringUp(vm, { vfio: 0, sid: 1 });
    await bringUp(vm, { vfio: 1, sid: 1 });
    expect(readSte(machine, 0, 0x100).vmid).toBe(readSte(machine, 0, 0x200).vmid);
  });
});

describe('a machine with one vIOMMU per SMMU and program', () => {
  it('refuses the second on the same SMMU, and allows one on the other', async () => {
    const { machine } = testMachine({ change: (m) => (m.policy = { oneViommuPerPiommu: true }) });
    const vm = await Vm.start(machine);
    const [first, second] = [await vm.device(0), await vm.device(1)];
    await vm.slice(first);
    expect(typeof (await vm.trySlice(first))).toBe('string');
    expect(typeof (await vm.trySlice(second))).toBe('object');
  });
});

describe('two VMs with equal ASIDs and IOVAs on one SMMU', () => {
  const twoVms = async (vmidOverride?: number) => {
    const { machine } = testMachine({
      preset: 'one-smmu',
      change: (m) => {
        m.functions[0]!.ats = false;
        if (vmidOverride) m.policy = { vmidOverride };
      },
    });
    const guests = [
      await bringUp(await Vm.start(machine, 1), { vfio: 0, asid: 7, sid: 5 }),
      await bringUp(await Vm.start(machine, 2), { vfio: 1, asid: 7, sid: 5 }),
    ] as const;
    const targets = [page(guests[0], 'of VM one'), page(guests[1], 'of VM two')] as const;
    return { machine, guests, targets };
  };

  it('do not see each other', async () => {
    const { guests, targets } = await twoVms();
    expect(deviceReads(guests[0], targets[0])).toBe('of VM one');
    expect(deviceReads(guests[1], targets[1])).toBe('of VM two');
    expect(deviceReads(guests[0], targets[0])).toBe('of VM one');
  });

  it('cannot invalidate for each other', async () => {
    const { guests, targets } = await twoVms();
    deviceReads(guests[0], targets[0]);
    const changed = guests[0].vm.ram.allocate();
    guests[0].stage1.map(IOVA, changed);
    await guests[1].slice.invalidate(commands.nhAll(), commands.nsnhAll(), commands.nhVa(7, IOVA));
    expect(deviceReads(guests[0], targets[0])).toBe('of VM one');
  });

  it('alias when they are given one VMID', async () => {
    const { machine, guests, targets } = await twoVms(77);
    expect(readSte(machine, 0, 0x100).vmid).toBe(77);
    expect(readSte(machine, 0, 0x200).vmid).toBe(77);
    expect(deviceReads(guests[0], targets[0])).toBe('of VM one');
    guests[1].vm.ram.text(targets[1], '');
    guests[1].engine.copy(IOVA, TARGET);
    // The second VM's device wrote to the first VM's page, by the first VM's entries.
    expect(guests[1].vm.ram.text(targets[1])).toBe('');
    expect(guests[0].vm.ram.text(targets[0])).toBe('of VM one');
  });

  it('of which one passes its device through without a stage 1 do not see each other either', async () => {
    const { guests, targets } = await twoVms();
    deviceReads(guests[0], targets[0]);
    const [, second] = guests;
    await second.device.attach(await second.slice.nested(second.device, STE_BYPASS));
    expect(second.engine.copy(IOVA, TARGET)).toBe('halted');
    expect(deviceReads(guests[0], targets[0])).toBe('of VM one');
  });
});

describe('a type of vIOMMU that the SMMU does not have', () => {
  it('is refused before the parent is looked at', async () => {
    const { machine } = testMachine();
    const vm = await Vm.start(machine);
    const { id: devId } = await vm.device(0);
    const alloc = (type: number) =>
      vm.program.call(vm.iommufd, IOMMU_VIOMMU_ALLOC, ViommuAlloc, { type, devId, hwptId: 999 });
    expect((await alloc(2)).errno).toBe('EOPNOTSUPP');
    expect((await alloc(1)).errno).toBe('ENOENT');
  });
});
