/** BARs as dma-bufs for DMA of other devices, and what takes them back: everything that stops or resets their device. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as vfio from '../../src/abi/vfio.ts';
import type { DmaBufFile } from '../../src/iommufd/dma-buf.ts';
import type { Command } from './command.ts';
import type { Bar, Descriptor, Device } from './model.ts';
import type { Picker } from './picker.ts';
import type { World } from './world.ts';

const PAGE = 4096;
const CONFIG = 7n << 40n;
const COMMAND = 4;
/** Memory decode, bus mastering. */
const [DECODES, MASTER] = [2, 4];
const D3HOT = 3;
const DEVCTL_FLR = 0x8000;
const [GET, SET] = [1 << 16, 1 << 17];
const [LOW_POWER_ENTRY, LOW_POWER_EXIT, DMA_BUF] = [3, 5, 11];
const CLOEXEC = 0o2000000;
const MOST_BUFFERS = 6;

type VfioDescriptor = Descriptor & { what: { kind: 'vfio'; index: number; bound: Device | null } };

/** Mostly one of which others have something. */
function someDevice(world: World, pick: Picker): VfioDescriptor | undefined {
  const files = world.descriptorsOf('vfio');
  const bound = files.filter(({ what }) => what.bound);
  const mapped = new Set(world.all('ioas').flatMap(({ areas }) => areas.map(({ memory }) => memory)));
  const had = [...mapped].filter(({ bar, revoked }) => bar && !revoked).map(({ object }) => object);
  const owners = world.exports.filter(({ object }) => had.includes(object)).map(({ owner }) => owner);
  const giving = bound.filter(({ what }) => owners.includes(what.bound!));
  return pick.of(pick.from([giving, giving, bound, pick.oneIn(3) ? files : bound])) ?? pick.of(bound);
}

/** One that is to be switched: mostly one that makes no DMA, so that there are few of them. */
function someSleeper(world: World, pick: Picker): VfioDescriptor | undefined {
  const files = world.descriptorsOf('vfio').filter(({ what }) => what.bound && !sends(what.bound));
  return (pick.oneIn(4) ? undefined : pick.of(files)) ?? someDevice(world, pick);
}

const sends = ({ state }: Device): boolean => state.masters && state.powered;

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

/** What `device` has exported is there for others, or is not: who has it then loses it, as also when it comes back. */
function setAvailable(world: World, device: Device, available: boolean): void {
  for (const { owner, object } of world.exports) {
    if (owner !== device || world.revoked.has(object) !== available) continue;
    world.takeBack(object);
    if (available) world.revoked.delete(object);
    else world.revoked.add(object);
  }
}

/** As its program sees it. */
const memoryEnabled = ({ state }: Device): boolean => state.decodes && state.powered;

/** DEVICE_FEATURE_DMA_BUF: pages of BAR0, seldom in two ranges, or more of them than there are. */
export const exportBar: Command = (world, pick) => {
  if (world.isMock || world.descriptorsOf('dma-buf').length >= MOST_BUFFERS) return null;
  const hidden = world.descriptorsOf('vfio').filter(({ what }) => what.bound && !memoryEnabled(what.bound));
  const file = (pick.oneIn(3) ? pick.of(hidden) : undefined) ?? someDevice(world, pick);
  if (!file) return null;
  const { process, what } = file;
  const { fn, barAddress } = world.smmus.devices[what.index]!;
  const size = fn.kind.identity.bar0Bytes / PAGE;
  const first = pick.below(size);
  const pages = 1 + pick.below(pick.oneIn(8) ? size : size - first);
  const ranges = pick.oneIn(8) ? 2 : 1;
  let expected: ErrnoName | '' = '';
  if (!what.bound) expected = 'EINVAL';
  else if (!world.machine.dialect.accepted.vfioFeatures.includes(DMA_BUF)) expected = 'ENOTTY';
  else if (first + pages > size) expected = 'EINVAL';
  let fd = 0;
  return {
    text: `DEVICE_FEATURE_DMA_BUF of vfio${what.index}, ${ranges} x ${pages} pages from ${first}`,
    expected,
    undone: true,
    call: () => {
      const range = BigUint64Array.of(BigInt(first * PAGE), BigInt(pages * PAGE));
      const head = words(24 + 16 * ranges, DMA_BUF | GET, 0, CLOEXEC, 0, ranges);
      const both = Array.from({ length: ranges }, () => [...new Uint8Array(range.buffer)]).flat();
      const arg = process.put(Uint8Array.of(...head, ...both));
      return world.errnoOf(async () => {
        fd = await file.file.ioctl(process, vfio.VFIO_DEVICE_FEATURE, arg);
      });
    },
    apply: () => {
      const { buffer } = process.fileOf(fd) as DmaBufFile;
      const name = `ranges of BAR0 of ${fn.name}`;
      // Several ranges are memory that nobody can map.
      const object = buffer.memory ?? { name, read: () => false, write: () => false };
      const bar: Bar = { fn, start: first * PAGE, address: barAddress + first * PAGE };
      world.opened(process, fd, { kind: 'dma-buf', object, pages: pages * ranges, bar, inPieces: ranges > 1 });
      world.exports.push({ owner: what.bound!, object });
      if (!memoryEnabled(what.bound!)) world.revoked.add(object);
    },
  };
};

/** A device that is not bound has no configuration space for programs. */
const refusedBy = (device: Device | null): ErrnoName | '' => (device ? '' : 'EINVAL');

function configWrite(world: World, { process, file }: VfioDescriptor, at: number, value: number) {
  const bytes = Uint8Array.of(value & 0xff, value >> 8);
  process.memory.write(process.scratch, bytes);
  return world.errnoOf(() => file.write(process, BigInt(process.scratch), bytes.length, CONFIG + BigInt(at)));
}

/** Memory decode and bus mastering, on or off: without mastering DMA that waits is refused. */
export const setCommand: Command = (world, pick) => {
  const file = someSleeper(world, pick);
  if (!file) return null;
  const { bound, index } = file.what;
  const all = DECODES | MASTER;
  const value = pick.from(bound?.state.masters ? [all, MASTER, all, MASTER, DECODES] : [all, all, all, MASTER]);
  return {
    text: `write of COMMAND ${value} of vfio${index}`,
    expected: refusedBy(bound),
    call: () => configWrite(world, file, COMMAND, value),
    apply: () => {
      const { state } = bound!;
      [state.decodes, state.masters] = [(value & DECODES) !== 0, (value & MASTER) !== 0];
      afterChange(world, bound!);
    },
  };
};

/** D3hot and back. */
export const setPower: Command = (world, pick) => {
  const file = someSleeper(world, pick);
  if (!file) return null;
  const { bound, index } = file.what;
  const value = bound?.state.powered && pick.oneIn(2) ? D3HOT : 0;
  return {
    text: `write of PMCSR ${value} of vfio${index}`,
    expected: refusedBy(bound),
    call: () => configWrite(world, file, world.smmus.devices[index]!.fn.config.offsetOf('PMCSR'), value),
    apply: () => {
      bound!.state.powered = value === 0;
      afterChange(world, bound!);
    },
  };
};

function afterChange(world: World, device: Device): void {
  const waiting = world.transfers.filter((transfer) => transfer.device === device);
  if (!sends(device)) for (const transfer of waiting) world.over(transfer, 'refused');
  setAvailable(world, device, memoryEnabled(device));
}

/** The low power state that programs ask for. Resets of the device do not end it. */
export const lowPower: Command = (world, pick) => {
  const file = someDevice(world, pick);
  if (!file) return null;
  const { process, what } = file;
  const { bound, index } = what;
  const enters = pick.oneIn(2);
  return {
    text: `DEVICE_FEATURE_LOW_POWER_${enters ? 'ENTRY' : 'EXIT'} of vfio${index}`,
    expected: refusedBy(bound) || (enters && bound!.state.asleep ? 'EINVAL' : ''),
    call: () => {
      const arg = process.put(words(8, (enters ? LOW_POWER_ENTRY : LOW_POWER_EXIT) | SET));
      return world.errnoOf(() => file.file.ioctl(process, vfio.VFIO_DEVICE_FEATURE, arg));
    },
    apply: () => {
      bound!.state.asleep = enters;
      if (enters) setAvailable(world, bound!, false);
      else if (memoryEnabled(bound!)) setAvailable(world, bound!, true);
    },
    refused: () => {
      if (bound) setAvailable(world, bound, false);
    },
  };
};

/** Nobody hears of DMA that waits, and what others have of its BAR they lose. It can be mapped again at once. */
function wasReset(world: World, device: Device): void {
  world.transfers = world.transfers.filter((transfer) => transfer.device !== device);
  blink(world, device);
}

function blink(world: World, device: Device): void {
  setAvailable(world, device, false);
  setAvailable(world, device, memoryEnabled(device));
}

/** VFIO_DEVICE_RESET, which wakes the device, or a function level reset by its own register, which does not. */
export const deviceReset: Command = (world, pick) => {
  const file = someDevice(world, pick);
  if (!file) return null;
  const { process, what } = file;
  const { bound, index } = what;
  const byRegister = pick.oneIn(3);
  return {
    text: `${byRegister ? 'function level reset' : 'VFIO_DEVICE_RESET'} of vfio${index}`,
    expected: refusedBy(bound),
    call: () => {
      const control = world.smmus.devices[index]!.fn.config.offsetOf('DEVCTL');
      if (byRegister) return configWrite(world, file, control, DEVCTL_FLR);
      return world.errnoOf(() => file.file.ioctl(process, vfio.VFIO_DEVICE_RESET, 0n));
    },
    apply: () => {
      if (!byRegister) bound!.state.powered = true;
      wasReset(world, bound!);
    },
  };
};

/** Of the whole bus, which has to belong to the caller: devices before the first that does not lose what is exported. */
export const hotReset: Command = (world, pick) => {
  const file = someDevice(world, pick);
  if (!file) return null;
  const { process, what } = file;
  const { bound, index } = what;
  const bus = bound?.byGroup === false ? world.busOf(index) : [];
  const foreign = bus.findIndex((other) => world.ownerOf(world.groupOf(other)) !== bound!.context);
  const boundAmong = (indexes: readonly number[]): Device[] => indexes.flatMap((other) => world.boundAs(other) ?? []);
  return {
    text: `VFIO_DEVICE_PCI_HOT_RESET of vfio${index}`,
    expected: refusedBy(bound) || (bound!.byGroup || foreign >= 0 ? 'EINVAL' : ''),
    call: async () => {
      const { VFIO_DEVICE_PCI_HOT_RESET: number, PciHotReset: layout } = vfio;
      return (await world.ioctl(process, file.file, number, layout, { argsz: 12 })).errno;
    },
    apply: () => {
      for (const device of boundAmong(bus)) {
        device.state.powered = true;
        wasReset(world, device);
      }
    },
    refused: () => {
      for (const device of boundAmong(bus.slice(0, Math.max(foreign, 0)))) blink(world, device);
    },
  };
};
