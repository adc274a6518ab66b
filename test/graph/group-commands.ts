/** Groups, and iommufds as their containers: who may open what while something else is open, and devices that come bound. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/vfio-group.ts';
import { attached, attaching, geometryOf, reserveFor } from './attach-rules.ts';
import type { Command } from './command.ts';
import { outside, reservable } from './mapping-rules.ts';
import type { Device, Group } from './model.ts';
import { deviceOf, enable, SOFTWARE_MSI } from './vfio-commands.ts';
import type { World } from './world.ts';

const MOST_FILES = 6;

/** Its devices that are bound. */
const boundIn = (world: World, { members }: Group): Device[] => members.flatMap((index) => world.boundAs(index) ?? []);

const isOpen = (world: World, group: Group): boolean =>
  world.descriptorsOf('group').some(({ what }) => what.group === group);

export const groupOpen: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || world.isMock || world.descriptorsOf('group').length >= 3) return null;
  const number = pick.below(world.groups.length);
  const meant = world.groups[number]!;
  const byNode = boundIn(world, meant).some(({ byGroup }) => !byGroup);
  let opened: ReturnType<typeof world.open> | null = null;
  return {
    text: `open /dev/vfio/${number}`,
    expected: isOpen(world, meant) || byNode ? 'EBUSY' : '',
    call: () =>
      world.errnoOf(() => {
        opened = world.open(process, `/dev/vfio/${number}`);
      }),
    apply: () => world.opened(process, opened!.fd, { kind: 'group', number, group: meant, container: null }),
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
  const unusable = [SOFTWARE_MSI, ...outside(geometryOf(world).aperture)];
  let expected: ErrnoName | '' = '';
  if (closed) expected = 'EBADF';
  else if (what.container) expected = 'EINVAL';
  else if (!context) expected = 'EBADFD';
  else if (context.isContainer && context.vfioIoas && reservable(context.vfioIoas, unusable)) expected = 'EINVAL';
  return {
    text: `VFIO_GROUP_SET_CONTAINER of group ${what.number} to a ${closed ? 'closed descriptor' : other.what.kind}`,
    expected,
    undone: true,
    call: () => {
      const fd = process.put(new Uint8Array(Int32Array.of(closed ? 77 : other.fd).buffer));
      return world.errnoOf(() => group.file.ioctl(process, uapi.VFIO_GROUP_SET_CONTAINER, fd));
    },
    apply: () => {
      what.container = context;
      const rest = { areas: [], huge: true, allowed: [], reserved: [] };
      context!.vfioIoas ??= context!.add({ kind: 'ioas', id: context!.freeId(), context: context!, ...rest });
      if (context!.isContainer) reserveFor(context!.vfioIoas, what.group, unusable);
    },
  };
};

export const groupUnsetContainer: Command = (world, pick) => {
  const group = pick.of(world.descriptorsOf('group'));
  if (!group) return null;
  const { process, file, what } = group;
  return {
    text: `VFIO_GROUP_UNSET_CONTAINER of group ${what.number}`,
    expected: what.container ? '' : 'EINVAL',
    call: () => world.errnoOf(() => file.ioctl(process, uapi.VFIO_GROUP_UNSET_CONTAINER, 0n)),
    apply: () => {
      what.container = null;
      world.leaveContainer(what.group);
      world.prune();
    },
  };
};

export const groupStatus: Command = (world, pick) => {
  const group = pick.of(world.descriptorsOf('group'));
  if (!group) return null;
  const { process, file, what } = group;
  // Without a container it is viable only while nobody has its device.
  const wanted = what.container ? 3 : boundIn(world, what.group).length ? 0 : 1;
  let flags = 0;
  return {
    text: `VFIO_GROUP_GET_STATUS of group ${what.number}`,
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
  const { number, group: meant, container } = group.what;
  const unknown = pick.oneIn(16);
  const index = pick.from(meant.members);
  const bound = world.boundAs(index);
  const owner = world.ownerOf(meant);
  const device = bound ?? (container && deviceOf(world, container, index, true));
  const ioas = container?.vfioIoas ?? null;
  const result = device && !bound && ioas ? attaching(world, device, ioas, 0, false) : null;
  let expected: ErrnoName | '' = '';
  if (unknown) expected = 'ENODEV';
  else if (!container) expected = 'EINVAL';
  else if (!bound && owner && owner !== container) expected = 'EPERM';
  else if (!bound) expected = result ? result.expected : 'ENODEV';
  let fd = 0;
  return {
    text: `VFIO_GROUP_GET_DEVICE_FD of vfio${index} of group ${number}${bound ? ', again' : ''}`,
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
