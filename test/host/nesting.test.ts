/** A VM whose guest owns stage 1: what DMA sees, what each invalidation reaches. */
import { describe, expect, it } from 'vitest';
import { ContextTable, commands, Stage1 } from './guest.ts';
import { MIB, testMachine } from './program.ts';
import { bringUp, GUEST_BASE, type Guest, Probe, V2, Vm } from './vm.ts';

const IOVA = 0x10_0000n;
const TARGET = 0x20_0000n;

/** Two guest pages with different contents; IOVA leads to the first, TARGET to a page that the device writes to. */
function twoPages({ vm, stage1 }: Guest) {
  const [first, second, target] = [vm.ram.allocate(), vm.ram.allocate(), vm.ram.allocate()];
  vm.ram.text(first, 'first page');
  vm.ram.text(second, 'second page');
  stage1.map(IOVA, first);
  stage1.map(TARGET, target);
  return { first, second, target };
}

/** What the device reads at IOVA, by way of a copy to TARGET. */
function deviceReads({ engine, vm }: Guest, target: bigint): string {
  vm.ram.text(target, '');
  return engine.copy(IOVA, TARGET) === 'done' ? vm.ram.text(target) : 'refused';
}

describe.each(['linux-7.1', V2])('a guest stage 1, %s', (abi) => {
  const start = async (ats = false) => {
    const { machine } = testMachine({ abi });
    const guest = await bringUp(await Vm.start(machine), { ats });
    return { guest, ...twoPages(guest) };
  };

  it('takes DMA by IOVA to the right bytes, read and write, across pages', async () => {
    const { guest, first, target } = await start();
    const { vm, engine, stage1 } = guest;
    const elsewhere = vm.ram.allocate(2) + 0x1000n;
    stage1.map(IOVA + 0x1000n, elsewhere);
    vm.ram.at(first, 4096).fill(0xa1);
    vm.ram.at(elsewhere, 4096).fill(0xb2);
    expect(engine.copy(IOVA + 0xff0n, TARGET, 0x20)).toBe('done');
    expect([...vm.ram.at(target, 0x20)]).toEqual([...Array(16).fill(0xa1), ...Array(16).fill(0xb2)]);
  });

  it('changes nothing for the device before the TLBI, and everything after it', async () => {
    const { guest, second, target } = await start();
    expect(deviceReads(guest, target)).toBe('first page');
    guest.stage1.map(IOVA, second);
    expect(deviceReads(guest, target)).toBe('first page');
    expect(await guest.slice.invalidate(commands.nhVa(guest.stage1.asid, IOVA))).toEqual({ errno: '', done: 1 });
    expect(deviceReads(guest, target)).toBe('second page');
  });

  it.each([
    ['TLBI_NH_ALL', () => commands.nhAll()],
    ['TLBI_NH_ASID', (guest: Guest) => commands.nhAsid(guest.stage1.asid)],
    ['TLBI_NH_VAA', () => commands.nhVaa(IOVA)],
    ['TLBI_NSNH_ALL', () => commands.nsnhAll()],
    ["TLBI_NH_VA with a VMID of the guest's invention", (guest: Guest) => commands.nhVa(guest.stage1.asid, IOVA, 99)],
  ])('is seen anew after %s', async (_name, command) => {
    const { guest, second, target } = await start();
    deviceReads(guest, target);
    guest.stage1.map(IOVA, second);
    await guest.slice.invalidate(command(guest));
    expect(deviceReads(guest, target)).toBe('second page');
  });

  it.each([
    ['another ASID', (guest: Guest) => commands.nhVa(guest.stage1.asid + 1, IOVA)],
    ['another ASID as a whole', (guest: Guest) => commands.nhAsid(guest.stage1.asid + 1)],
    ['another VA', (guest: Guest) => commands.nhVa(guest.stage1.asid, IOVA + 0x1000n)],
  ])('stays as it was after a TLBI for %s', async (_name, command) => {
    const { guest, second, target } = await start();
    deviceReads(guest, target);
    guest.stage1.map(IOVA, second);
    expect((await guest.slice.invalidate(command(guest))).errno).toBe('');
    expect(deviceReads(guest, target)).toBe('first page');
  });

  it('needs an ATC_INV, too, once the device has an ATC', async () => {
    const { guest, second, target } = await start(true);
    expect(deviceReads(guest, target)).toBe('first page');
    guest.stage1.map(IOVA, second);
    await guest.slice.invalidate(commands.nhVa(guest.stage1.asid, IOVA));
    expect(deviceReads(guest, target)).toBe('first page');
    await guest.slice.invalidate(commands.atcInv(guest.sid, IOVA + 0x1000n));
    expect(deviceReads(guest, target)).toBe('first page');
    await guest.slice.invalidate(commands.atcInv(guest.sid, IOVA));
    expect(deviceReads(guest, target)).toBe('second page');
  });

  it('is read again after CFGI_CD only, when the context descriptor changes', async () => {
    const { guest, second, target } = await start();
    const other = new Stage1(guest.vm.ram, guest.stage1.asid + 1);
    other.map(IOVA, second);
    other.map(TARGET, target);
    guest.engine.mapDescriptor(other);
    expect(deviceReads(guest, target)).toBe('first page');
    guest.contexts.set(0, other);
    expect(deviceReads(guest, target)).toBe('first page');
    await guest.slice.invalidate(commands.nhAll());
    expect(deviceReads(guest, target)).toBe('first page');
    expect(await guest.slice.invalidate(commands.cfgiCd(guest.sid))).toEqual({ errno: '', done: 1 });
    expect(deviceReads(guest, target)).toBe('second page');
  });

  it('is read again after CFGI_CD_ALL, too', async () => {
    const { guest, target } = await start();
    expect(deviceReads(guest, target)).toBe('first page');
    guest.contexts.clear(0);
    await guest.slice.invalidate(commands.nhAll());
    expect(deviceReads(guest, target)).toBe('first page');
    await guest.slice.invalidate(commands.cfgiCdAll(guest.sid));
    expect(deviceReads(guest, target)).toBe('refused');
  });

  it.each([
    ['an unknown virtual StreamID in CFGI_CD', () => commands.cfgiCd(0x99)],
    ['an unknown virtual StreamID in ATC_INV', () => commands.atcInv(0x99, 0n)],
    ['CFGI_STE', (guest: Guest) => commands.cfgiSte(guest.sid)],
    ['SYNC', () => commands.sync()],
    ['an opcode that does not exist', (): [bigint, bigint] => [0xffn, 0n]],
  ])('a batch stops with EIO at %s, and tells how many were done', async (_name, bad) => {
    const { guest, second, target } = await start();
    deviceReads(guest, target);
    guest.stage1.map(IOVA, second);
    const good = commands.nhVa(guest.stage1.asid, IOVA);
    const other = commands.nhVa(guest.stage1.asid, TARGET);
    expect(await guest.slice.invalidate(good, other, bad(guest), other)).toEqual({ errno: 'EIO', done: 2 });
    expect(deviceReads(guest, target)).toBe('second page');
  });
});

describe('two devices of one VM on one SMMU', () => {
  it('share what is cached when their contexts carry the same ASID', async () => {
    const { machine } = testMachine({ preset: 'one-smmu', change: (m) => (m.functions[0]!.ats = false) });
    const vm = await Vm.start(machine);
    const first = await bringUp(vm, { vfio: 0, sid: 1 });
    const second = await bringUp(vm, { vfio: 1, sid: 2, slice: first.slice, stage1: first.stage1 });
    const pages = twoPages(first);
    expect(deviceReads(first, pages.target)).toBe('first page');
    first.stage1.map(IOVA, pages.second);
    expect(deviceReads(second, pages.target)).toBe('first page');
    await first.slice.invalidate(commands.nhVa(first.stage1.asid, IOVA));
    expect(deviceReads(second, pages.target)).toBe('second page');
  });

  it('do not share under different ASIDs', async () => {
    const { machine } = testMachine({ preset: 'one-smmu', change: (m) => (m.functions[0]!.ats = false) });
    const vm = await Vm.start(machine);
    const first = await bringUp(vm, { vfio: 0, sid: 1, asid: 1 });
    const second = await bringUp(vm, { vfio: 1, sid: 2, asid: 2, slice: first.slice });
    const pages = twoPages(first);
    second.stage1.map(IOVA, pages.second);
    second.stage1.map(TARGET, pages.target);
    expect(deviceReads(first, pages.target)).toBe('first page');
    expect(deviceReads(second, pages.target)).toBe('second page');
  });

  it('each keep an ATC, and an ATC_INV for the one leaves the other as it was', async () => {
    const { machine } = testMachine({ preset: 'one-smmu', change: (m) => (m.functions[1]!.ats = true) });
    const vm = await Vm.start(machine);
    const first = await bringUp(vm, { vfio: 0, sid: 1, ats: true });
    const second = await bringUp(vm, { vfio: 1, sid: 2, ats: true, slice: first.slice, stage1: first.stage1 });
    const pages = twoPages(first);
    for (const guest of [first, second]) expect(deviceReads(guest, pages.target)).toBe('first page');
    first.stage1.map(IOVA, pages.second);
    await first.slice.invalidate(commands.nhVa(first.stage1.asid, IOVA), commands.atcInv(1, IOVA));
    expect(deviceReads(first, pages.target)).toBe('second page');
    expect(deviceReads(second, pages.target)).toBe('first page');
    await first.slice.invalidate(commands.atcInv(2, IOVA));
    expect(deviceReads(second, pages.target)).toBe('second page');
  });
});

describe('two SSIDs of one device', () => {
  it('share what is cached when their contexts carry the same ASID, and not otherwise', async () => {
    const { machine } = testMachine({ preset: 'one-smmu' });
    const vm = await Vm.start(machine);
    const device = await vm.device(2);
    const slice = await vm.slice(device);
    await slice.setVirtualId(device, 3);
    const stage1 = new Stage1(vm.ram, 5);
    const apart = new Stage1(vm.ram, 6);
    const contexts = new ContextTable(vm.ram, 2);
    contexts.set(1, stage1);
    contexts.set(2, stage1);
    contexts.set(3, apart);
    const [first, second] = [vm.ram.allocate(), vm.ram.allocate()];
    vm.ram.text(first, 'first page');
    vm.ram.text(second, 'second page');
    stage1.map(IOVA, first);
    apart.map(IOVA, first);
    await device.attach(await slice.nested(device, contexts.ste()));
    const probe = new Probe(device);
    expect(probe.read(IOVA, 1)).toBe('first page');
    stage1.map(IOVA, second);
    apart.map(IOVA, second);
    expect(probe.read(IOVA, 2)).toBe('first page');
    expect(probe.read(IOVA, 3)).toBe('second page');
    await slice.invalidate(commands.nhAsid(5));
    expect(probe.read(IOVA, 1)).toBe('second page');
    expect(probe.read(IOVA, 2)).toBe('second page');
  });
});

describe.each(['linux-7.1', V2])('what an ATC holds under a PASID, %s', (abi) => {
  const EXTRA = GUEST_BASE + 64n * BigInt(MIB);
  const EXTRA_OFFSET = 4n * BigInt(MIB);

  /** The probe's PASID 1 has used IOVA, which leads to memory that is mapped apart from the guest's other memory. */
  const start = async () => {
    const { machine } = testMachine({ preset: 'one-smmu', abi });
    const vm = await Vm.start(machine);
    const device = await vm.device(2);
    const slice = await vm.slice(device);
    await slice.setVirtualId(device, 3);
    const stage1 = new Stage1(vm.ram, 5);
    const contexts = new ContextTable(vm.ram, 2);
    contexts.set(1, stage1);
    await vm.map(EXTRA, EXTRA_OFFSET, 2 * MIB);
    vm.ram.text(GUEST_BASE + EXTRA_OFFSET, 'of the host');
    stage1.map(IOVA, EXTRA);
    await device.attach(await slice.nested(device, contexts.ste(true)));
    const probe = new Probe(device);
    expect(probe.read(IOVA, 1)).toBe('of the host');
    return { vm, device, slice, stage1, probe };
  };

  it('goes when its stage 2 mapping goes', async () => {
    const { vm, probe } = await start();
    expect(await vm.unmap(EXTRA, 2 * MIB)).toBe('');
    expect(probe.read(IOVA, 1)).toBeNull();
  });

  it('goes with an ATC_INV without SSID, and stays through a TLBI', async () => {
    const { vm, slice, stage1, probe } = await start();
    const other = vm.ram.allocate();
    vm.ram.text(other, 'of the guest');
    stage1.map(IOVA, other);
    await slice.invalidate(commands.nhAll());
    expect(probe.read(IOVA, 1)).toBe('of the host');
    await slice.invalidate(commands.atcInv(3, IOVA));
    expect(probe.read(IOVA, 1)).toBe('of the guest');
  });

  it('is not asked for beyond the width of the capability: such an access is refused', async () => {
    const { probe } = await start();
    expect(probe.read(IOVA, 0x101)).toBeNull();
    expect(probe.read(IOVA, 1)).toBe('of the host');
  });
});
