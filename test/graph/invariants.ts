/** What must hold after every step: the engine's graph, pins, accounts and translations are those of the model. */
import { NO_SUBSTREAM } from '../../src/hardware/iommu.ts';
import { DMA_DONE, DMA_REFUSED } from '../../src/hardware/pci/dma-channel.ts';
import type { HwptPaging } from '../../src/iommufd/hwpt-paging.ts';
import type { Ioas as EngineIoas } from '../../src/iommufd/ioas.ts';
import { IOVAS } from './ioas-commands.ts';
import { alignmentOf, type Pins, pagesOf, translated, usable } from './mapping-rules.ts';
import { type Area, type Context, type Device, holders, type Ioas, PAGE, type Paging } from './model.ts';
import type { World } from './world.ts';

/** Where areas of a huge page are looked at; of smaller ones every page is. */
const FEW_PAGES = 16n;

export function checkWorld(world: World): void {
  const pins = world.pins();
  for (const context of world.contexts) {
    checkObjects(world, context);
    for (const ioas of context.all('ioas')) checkIoas(context, ioas, pins);
    for (const hwpt of context.all('hwpt-paging')) checkDomain(world, hwpt);
  }
  checkPins(world, pins);
  checkDrivers(world);
  for (const device of world.all('device')) if (device.index >= 0) checkDma(world, device);
}

function same(what: string, found: unknown, wanted: unknown): void {
  const [a, b] = [text(found), text(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
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
      same(`page ${page} at ${text(area.start)} of ${name} is pinned`, found, pins.has(memory, page));
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
  for (const iova of places(hwpt.ioas)) {
    const there = translated(hwpt, iova);
    const physical = there && frameOf(world, there) + Number(there.byte % PAGE);
    same(`HWPT ${hwpt.id} at ${text(iova)}`, domain.physical(iova), physical);
  }
}

function frameOf(world: World, { memory, byte }: { memory: Area['memory']; byte: bigint }): number {
  return world.machine.pinned.frameOf(memory.object, memory.base / 4096 + Number(byte / PAGE)) * 4096;
}

/** Every place of the test, the start of every page of every area, and the bytes around it. */
function places(ioas: Ioas): Set<bigint> {
  const found = new Set(IOVAS);
  for (const { start, last } of ioas.areas) {
    for (const at of [start - 1n, last, last + 1n]) if (at >= 0n) found.add(at);
    const step = last - start >= FEW_PAGES * PAGE ? 100n * PAGE : PAGE;
    for (let at = start; at <= last; at += step) found.add(at);
  }
  return found;
}

/** Frames, what holds files, and who is charged. */
function checkPins(world: World, pins: Pins): void {
  same('pinned frames', world.machine.pinned.pinnedFrames, pins.frames);
  const objects = new Set(Array.from(pins.memories, ({ object }) => object));
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
  const attached = world.all('device').filter(({ attached: to }) => to.size > 0).length;
  same('domains', [sum('domains'), sum('nestedDomains'), sum('viommus')], [paging, nested, viommus.length]);
  same('attachments', sum('attachments'), attached);
  same('bindings', left.bindings, world.descriptorsOf('vfio').filter(({ what }) => what.bound).length);
}

/** DMA of the device reaches what it is attached to and nothing else, whatever its caches and the SMMU's hold. */
function checkDma(world: World, device: Device): void {
  const { dma } = world.smmus.devices[device.index]!.fn;
  const channel = dma.channel(() => {});
  const hwpt = device.attached.get(0);
  const bytes = new Uint8Array(8);
  const wanted = new Uint8Array(8);
  const probes = hwpt ? places(hwpt.kind === 'hwpt-paging' ? hwpt.ioas : hwpt.parent.ioas) : IOVAS;
  for (const iova of probes) {
    if (iova % PAGE) continue;
    const there = hwpt ? translated(hwpt, iova) : null;
    const [readable, writable] = [Boolean(there && there.prot & 1), Boolean(there && there.prot & 2)];
    // Stage 1 tables have no write-only pages.
    if (!readable && writable) continue;
    const where = `vfio${device.index} at ${text(iova)}`;
    const frame = Number(iova / PAGE);
    const read = channel.read(frame, 0, bytes, NO_SUBSTREAM);
    same(`the outcome of a read of ${where}`, read, readable ? DMA_DONE : DMA_REFUSED);
    if (readable && there!.memory.object.read(there!.memory.base + Number(there!.byte), wanted)) {
      same(`what ${where} reads`, [...bytes], [...wanted]);
    }
    const write = channel.write(frame, 0, bytes, NO_SUBSTREAM);
    same(`the outcome of a write of ${where}`, write, writable ? DMA_DONE : DMA_REFUSED);
  }
  world.machine.settle();
}
