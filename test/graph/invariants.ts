/** What must hold after every step: the engine's graph, pins, accounts and translations are those of the model. */
import type { IommufdDevice } from '../../src/iommufd/device.ts';
import type { HwptPaging } from '../../src/iommufd/hwpt-paging.ts';
import type { Ioas as EngineIoas } from '../../src/iommufd/ioas.ts';
import { hex } from './command.ts';
import { checkReported, isWhole } from './dirty-commands.ts';
import { GUEST_IOVA, GUEST_LEAVES } from './guest-image.ts';
import { IOVAS } from './ioas-commands.ts';
import { alignmentOf, lengthOf, type Pins, pagesIn, pagesOf, usable } from './mapping-rules.ts';
import {
  type Area,
  type Context,
  type Device,
  type Group,
  type Hwpt,
  holders,
  type Ioas,
  PAGE,
  type Paging,
  pagingOf,
} from './model.ts';
import { attachedTo, bytesAt, placeOf, type Reach, reach, wrote } from './reach.ts';
import type { World } from './world.ts';

/** Where areas of a huge page are looked at; of smaller ones every page is. */
const FEW_PAGES = 16n;
/** Looked at when they are not attached; the first never is. */
const NOBODYS_PASIDS = [0, 1, 2, 5, 255];
/** What guests map, and one page behind it. */
const GUEST_IOVAS = Array.from({ length: GUEST_LEAVES + 1 }, (_, n) => GUEST_IOVA + BigInt(n) * PAGE);

export function checkWorld(world: World): void {
  const pins = world.pins();
  for (const context of world.contexts) {
    checkObjects(world, context);
    for (const ioas of context.all('ioas')) checkIoas(context, ioas, pins);
    for (const hwpt of context.all('hwpt-paging')) checkDomain(world, hwpt);
  }
  checkPins(world, pins);
  checkDrivers(world);
  for (const group of world.groups) checkGroup(world, group);
  checkTransfers(world);
  for (const device of world.all('device')) if (device.index >= 0) checkDma(world, device);
}

/** @param what as a function where there is much to compare, and seldom anything to say */
function same(what: string | (() => string), found: unknown, wanted: unknown): void {
  if (found === wanted) return;
  const [a, b] = [text(found), text(wanted)];
  if (a !== b) throw new Error(`${typeof what === 'string' ? what : what()}: ${a}, not ${b}`);
}

const text = (value: unknown): string =>
  JSON.stringify(value, (_key, each) => (typeof each === 'bigint' ? `0x${each.toString(16)}` : each));

/** IDs, kinds, and who uses whom. */
function checkObjects(world: World, context: Context): void {
  const { objects } = context.engine;
  const held = holders(context, world.descriptors);
  const wanted = [...context.things.values()].sort((a, b) => a.id - b.id);
  same(
    'objects and their users',
    objects.all().map(({ id, kind, users }) => [id, kind, users]),
    wanted.map((thing) => [thing.id, thing.kind, held.get(thing)!.length]),
  );
  same('RLIMIT_MODE', context.engine.rlimitMode, context.rlimitMode);
  same('IDs taken', objects.size, context.things.size + context.tombs.size);
}

function checkIoas(context: Context, ioas: Ioas, pins: Pins): void {
  const { table } = context.engine.objects.find(ioas.id) as EngineIoas;
  const name = `IOAS ${ioas.id}`;
  same(
    `areas of ${name}`,
    Array.from(table.areas, (area) => [area.start, area.last, area.prot, area.startByte(area.start)]),
    ioas.areas.map(({ start, last, prot, startByte }) => [start, last, prot, startByte]),
  );
  same(`IOVA alignment of ${name}`, table.alignment, alignmentOf(context, ioas));
  same(`usable ranges of ${name}`, table.usableRanges(), usable(ioas));
  same(`huge pages of ${name}`, table.hugePages, ioas.huge);
  for (const area of ioas.areas) {
    const { pages } = table.areas.at(area.start)!;
    const { memory } = area;
    for (const page of somePages(area)) {
      const found = pages.isPinned(memory.object, memory.base / 4096 + page);
      same(() => `page ${page} at ${hex(area.start)} of ${name} is pinned`, found, pins.has(memory, page));
    }
  }
}

function somePages(area: Area): number[] {
  const { first, last } = pagesOf(area);
  const all = Array.from({ length: Math.min(last - first + 1, Number(FEW_PAGES)) }, (_, n) => first + n);
  return last - first < Number(FEW_PAGES) ? all : [first, first + 1, first + 300, last];
}

/** The domain translates what is mapped, page by page, and nothing beside it. */
function checkDomain(world: World, hwpt: Paging): void {
  const { domain } = hwpt.context.engine.objects.find(hwpt.id) as HwptPaging;
  for (const iova of placesOf(hwpt.ioas)) {
    const there = placeOf(hwpt, iova);
    const physical = there && frameOf(world, there) + Number(there.byte % PAGE);
    same(() => `HWPT ${hwpt.id} at ${hex(iova)}`, domain.physical(iova), physical);
  }
  if (hwpt.dirty) checkDirty(world, hwpt);
}

/** What the domain has recorded is what was written; looking at it changes nothing. */
function checkDirty(world: World, hwpt: Paging): void {
  const { domain } = hwpt.context.engine.objects.find(hwpt.id) as HwptPaging;
  for (const area of hwpt.ioas.areas.filter((each) => isWhole(each) && !each.memory.revoked)) {
    const reported = new Set<bigint>();
    const collect = (start: bigint, length: bigint): void => {
      for (const page of pagesIn({ start, last: start + length - 1n })) reported.add(page);
    };
    domain.readDirty!(area.start, lengthOf(area), false, collect);
    checkReported(world, hwpt, area, reported, area);
  }
}

function frameOf(world: World, { memory, byte }: { memory: Area['memory']; byte: bigint }): number {
  if (memory.bar) return memory.bar.address + Number(byte - (byte % PAGE));
  return world.machine.pinned.frameOf(memory.object, memory.base / 4096 + Number(byte / PAGE)) * 4096;
}

const known = new WeakMap<readonly Area[], ReadonlySet<bigint>>();

/** Every place of the test, the start of every page of every area, and the bytes around it. */
function placesOf({ areas }: Ioas): ReadonlySet<bigint> {
  let found = known.get(areas);
  if (!found) known.set(areas, (found = placesAround(areas)));
  return found;
}

function placesAround(areas: readonly Area[]): ReadonlySet<bigint> {
  const found = new Set(IOVAS);
  for (const { start, last } of areas) {
    for (const at of [start - 1n, last, last + 1n]) if (at >= 0n) found.add(at);
    const step = last - start >= FEW_PAGES * PAGE ? 100n * PAGE : PAGE;
    for (let at = start; at <= last; at += step) found.add(at);
  }
  return found;
}

/** Frames, what holds files, and who is charged. */
function checkPins(world: World, pins: Pins): void {
  same('pinned frames', world.machine.pinned.pinnedFrames, pins.frames);
  const objects = new Set(pins.memories.map(({ object }) => object));
  same('windows of pinned memory', world.machine.pinned.windowsInUse, objects.size);
  const files = new Set(world.all('ioas').flatMap(({ areas }) => areas.map(({ memory }) => memory)));
  const mapping = [...files].filter(({ object }) => object === world.memfd).length;
  same('holders of the memfd', world.memfd.holders, mapping + (objects.has(world.memfd) ? 1 : 0));
  same('pages locked by the user', world.user.lockedPages, pins.paidBy(null, 'user'));
  for (const process of world.processes) {
    const { pinnedPages, lockedPages } = process.account;
    same(`pages pinned by ${process.pid}`, pinnedPages, pins.paidBy(process));
    same(`pages locked by ${process.pid}`, lockedPages, pins.paidBy(process, 'process'));
  }
}

/** The drivers have what objects need, and no more. */
function checkDrivers(world: World): void {
  const left = world.machine.leftovers();
  const [paging, nested] = [world.all('hwpt-paging').length, world.all('hwpt-nested').length];
  const viommus = world.all('viommu');
  if (world.isMock) {
    same('mock devices', left.devices, world.all('mock-device').length);
    same('mock domains', left.domains, paging + nested);
    same('mock vIOMMUs', left.viommus, viommus.length);
    return;
  }
  const sum = (name: string): number =>
    Object.entries(left).reduce((all, [key, count]) => (key.endsWith(` ${name}`) ? all + count : all), 0);
  // The driver does not hear of PASIDs of a device that sends none.
  const heard = world.groups
    .flatMap(({ members, attachments }) => members.map((index) => [world.traitsOf(index), attachments] as const))
    .map(([{ pasidBits }, attachments]) => (pasidBits ? attachments.size : attachments.has(0) ? 1 : 0));
  const attachments = heard.reduce<number>((all, count) => all + count, 0);
  same('domains', [sum('domains'), sum('nestedDomains'), sum('viommus')], [paging, nested, viommus.length]);
  same('attachments', sum('attachments'), attachments);
  const bound = new Set(world.descriptorsOf('vfio').flatMap(({ what }) => what.bound ?? []));
  same('bindings', left.bindings, bound.size);
}

/** What the devices of a group are attached to, in whose name they ask for pages, and whether they may use ATS and PRI. */
function checkGroup(world: World, { members, attachments }: Group): void {
  const bound = members.flatMap((index) => world.boundAs(index) ?? [])[0];
  if (bound) {
    const { group } = bound.context.engine.objects.find(bound.id) as IommufdDevice;
    const told = [...group.attachments].map(([pasid, { hwpt, spokesman }]) => [pasid, hwpt.id, spokesman.id]);
    const wanted = [...attachments].map(([pasid, { hwpt, spokesman }]) => [pasid, hwpt.id, spokesman.id]);
    same(`attachments of the group of vfio${bound.index}`, told, wanted);
  }
  for (const index of members) {
    const { config } = world.smmus.devices[index]!.fn;
    const { asksBy, hasAts, pasidBits } = world.traitsOf(index);
    const heard = [...attachments].filter(([pasid]) => pasid === 0 || pasidBits);
    const tables = heard.map(([, { hwpt }]) => hwpt);
    const ats = hasAts && tables.some(letsCache);
    if (hasAts) same(`ATS of vfio${index}`, config.get('ATS_CONTROL') >> 15, ats ? 1 : 0);
    const pri = ats && tables.some(({ fault }) => fault);
    if (asksBy === 'requests') same(`PRI of vfio${index}`, config.get('PRI_CONTROL') & 1, pri ? 1 : 0);
  }
}

/** May devices have an ATC there? Not in a guest that keeps ATS off, nor where nothing is reached. */
const letsCache = (hwpt: Hwpt): boolean =>
  hwpt.kind === 'hwpt-paging' || hwpt.config === 'bypass' || (hwpt.config === 'stage1' && hwpt.ats);

/** DMA of the device reaches what it is attached to and nothing else, whatever its caches and the SMMU's hold. */
function checkDma(world: World, device: Device): void {
  const pasids = [...device.group.attachments.keys()].filter((pasid) => pasid > 0);
  checkSubstream(world, device, null);
  for (const pasid of pasids) checkSubstream(world, device, pasid);
  for (const pasid of device.pasidBits ? NOBODYS_PASIDS : []) {
    if (!pasids.includes(pasid)) checkSubstream(world, device, pasid);
  }
}

function checkSubstream(world: World, device: Device, substream: number | null): void {
  for (const iova of probesOf(device, attachedTo(device, substream))) {
    if (iova % PAGE === 0n) checkAccess(world, device, substream, iova);
  }
}

/** Where a device that is attached to `hwpt` is looked at. */
function probesOf({ context }: Device, hwpt: Hwpt | null): Iterable<bigint> {
  // What it may have been attached to before.
  if (!hwpt) return context.all('ioas').flatMap(({ areas }) => areas.slice(0, 2).map(({ start }) => start));
  const isThroughGuest = hwpt.kind === 'hwpt-nested' && hwpt.config === 'stage1';
  return isThroughGuest ? GUEST_IOVAS : placesOf(pagingOf(hwpt).ioas);
}

/** A read, and a write of what is there. Accesses that would wait are left to commands. */
function checkAccess(world: World, device: Device, substream: number | null, iova: bigint): void {
  const channel = world.channel(device.index, 0);
  const where = (what: string) => (): string => `${what} of vfio${device.index}, PASID ${substream}, at ${hex(iova)}`;
  const bytes = new Uint8Array(8);
  const read = reach(device, substream, iova, 'read');
  const there = read.place && bytesAt(read.place);
  if (isOver(read)) {
    same(where('a read'), channel.start(false, iova, bytes, substream), read.outcome);
    if (there) same(where('what a read gives'), String(bytes), String(there));
  }
  const write = reach(device, substream, iova, 'write');
  if (!isOver(write)) return;
  if (write.outcome === 'done' && wouldDirty(device, substream, iova)) {
    if ((iova / PAGE + BigInt(world.log.length)) % 4n !== 0n) return;
    wrote(device, substream, iova);
  }
  const kept = (write.place && bytesAt(write.place)) ?? bytes;
  same(where('a write'), channel.start(true, iova, kept, substream), write.outcome);
}

const isOver = ({ outcome }: Reach): boolean => outcome === 'done' || outcome === 'refused';

/** A write would change what GET_DIRTY_BITMAP has to say. A quarter of such writes are made, at each step others. */
function wouldDirty(device: Device, substream: number | null, iova: bigint): boolean {
  const hwpt = attachedTo(device, substream);
  return hwpt?.kind === 'hwpt-paging' && hwpt.dirty && !hwpt.dirtied.has(iova);
}

/** Whoever waits in the model waits at the device, for as long. */
function checkTransfers(world: World): void {
  for (const { channel, iova } of world.transfers) same(`DMA at ${hex(iova)} waits`, channel.waiting, true);
}
