/** Groups, and iommufds as their containers: who may open what while something else is open, and devices that come bound. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/vfio-group.ts';
import { attached, attaching } from './attach-rules.ts';
import type { Command } from './command.ts';
import type { Device } from './model.ts';
import { deviceOf, enable } from './vfio-commands.ts';
import type { World } from './world.ts';

const MOST_FILES = 6;

/** vfioN of an iommufd, if it is bound. */
const boundAt = (world: World, index: number): Device | null =>
  world.descriptorsOf('vfio').find(({ what }) => what.index === index && what.bound)?.what.bound ?? null;

const isOpen = (world: World, index: number): boolean =>
  world.descriptorsOf('group').some(({ what }) => what.index === index);

export const groupOpen: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || world.isMock || world.descriptorsOf('group').length >= 3) return null;
  const index = pick.below(world.smmus.devices.length);
  const bound = boundAt(world, index);
  let opened: ReturnType<typeof world.open> | null = null;
  return {
    text: `open /dev/vfio/${index}`,
    expected: isOpen(world, index) || (bound && !bound.byGroup) ? 'EBUSY' : '',
    call: () =>
      world.errnoOf(() => {
        opened = world.open(process, `/dev/vfio/${index}`);
      }),
    apply: () => world.opened(process, opened!.fd, { kind: 'group', index, container: null }),
  };
};

export const groupSetContainer: Command = (world, pick) => {
  const groups = world.descriptorsOf('group');
  const group = pick.of(pick.oneIn(4) ? groups : groups.filter(({ what }) => !what.container));
  const own = world.descriptors.filter(({ process }) => process === group?.process);
  const iommufds = own.filter(({ what }) => what.kind === 'iommufd');
  const other = pick.oneIn(12) ? pick.of(own) : pick.of(iommufds);
  if (!group || !other) return null;
  const { process, what } = group;
  const closed = pick.oneIn(12);
  const context = other.what.kind === 'iommufd' ? other.what.context : null;
  let expected: ErrnoName | '' = '';
  if (closed) expected = 'EBADF';
  else if (what.container) expected = 'EINVAL';
  else if (!context) expected = 'EBADFD';
  return {
    text: `VFIO_GROUP_SET_CONTAINER of group ${what.index} to a ${closed ? 'closed descriptor' : other.what.kind}`,
    expected,
    undone: true,
    call: () => {
      const fd = process.put(new Uint8Array(Int32Array.of(closed ? 77 : other.fd).buffer));
      return world.errnoOf(() => group.file.ioctl(process, uapi.VFIO_GROUP_SET_CONTAINER, fd));
    },
    apply: () => {
      what.container = context;
      if (context!.vfioIoas) return;
      const rest = { areas: [], huge: true, allowed: [], reserved: [] };
      context!.vfioIoas = context!.add({ kind: 'ioas', id: context!.freeId(), context: context!, ...rest });
    },
  };
};

export const groupUnsetContainer: Command = (world, pick) => {
  const group = pick.of(world.descriptorsOf('group'));
  if (!group) return null;
  const { process, file, what } = group;
  return {
    text: `VFIO_GROUP_UNSET_CONTAINER of group ${what.index}`,
    expected: what.container ? '' : 'EINVAL',
    call: () => world.errnoOf(() => file.ioctl(process, uapi.VFIO_GROUP_UNSET_CONTAINER, 0n)),
    apply: () => {
      what.container = null;
      world.prune();
    },
  };
};

export const groupStatus: Command = (world, pick) => {
  const group = pick.of(world.descriptorsOf('group'));
  if (!group) return null;
  const { process, file, what } = group;
  // Without a container it is viable only while nobody has its device.
  const wanted = what.container ? 3 : boundAt(world, what.index) ? 0 : 1;
  let flags = 0;
  return {
    text: `VFIO_GROUP_GET_STATUS of group ${what.index}`,
    expected: '',
    call: async () => {
      const { errno, s } = await world.ioctl(process, file, uapi.VFIO_GROUP_GET_STATUS, uapi.GroupStatus, {});
      flags = s.flags;
      return errno;
    },
    apply: () => {
      if (flags !== wanted) throw new Error(`flags ${flags}, not ${wanted}`);
    },
  };
};

/** The device comes bound to the container and attached to its IOAS, the first time; then it is only opened once more. */
export const groupGetDevice: Command = (world, pick) => {
  const groups = world.descriptorsOf('group');
  const group = pick.of(pick.oneIn(6) ? groups : groups.filter(({ what }) => what.container));
  if (!group || world.descriptorsOf('vfio').length >= MOST_FILES) return null;
  const { process, file } = group;
  const { index, container } = group.what;
  const unknown = pick.oneIn(16);
  const bound = boundAt(world, index);
  const device = bound ?? (container && deviceOf(world, container, index, true));
  const ioas = container?.vfioIoas ?? null;
  const result = device && !bound && ioas ? attaching(world, device, ioas, 0, false) : null;
  let expected: ErrnoName | '' = '';
  if (unknown) expected = 'ENODEV';
  else if (!container) expected = 'EINVAL';
  else if (!bound) expected = result ? result.expected : 'ENODEV';
  let fd = 0;
  return {
    text: `VFIO_GROUP_GET_DEVICE_FD of group ${index}${bound ? ', again' : ''}`,
    expected,
    undone: true,
    call: () => {
      const name = unknown ? '0000:00:00.0' : world.addressOf(index);
      const text = process.put(new TextEncoder().encode(`${name}\0`));
      return world.errnoOf(async () => {
        fd = await file.ioctl(process, uapi.VFIO_GROUP_GET_DEVICE_FD, text);
      });
    },
    apply: () => {
      world.opened(process, fd, { kind: 'vfio', index, bound: device! });
      if (bound) return;
      container!.add(device!);
      attached(world, device!, ioas!, 0, result!);
      enable({ process, file: process.fileOf(fd)! });
    },
  };
};
