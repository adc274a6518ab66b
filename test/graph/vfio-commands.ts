/** VFIO devices of a machine with SMMUs: open, bind, attach, detach; close is everybody's. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { attached, attaching } from './attach-rules.ts';
import type { Command } from './command.ts';
import { tableOf } from './mock-commands.ts';
import type { Device } from './model.ts';

const COMMAND_OFFSET = (7n << 40n) + 4n;
/** Memory decode and bus mastering. */
const ENABLED = Uint8Array.of(6, 0);
const SOFTWARE_MSI = { start: 0x800_0000n, last: 0x80f_ffffn };

export const vfioOpen: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || world.isMock || world.smmus.devices.length === 0) return null;
  if (world.descriptorsOf('vfio').length >= 4) return null;
  const index = pick.below(world.smmus.devices.length);
  let opened: ReturnType<typeof world.open> | null = null;
  return {
    text: `open vfio${index}`,
    expected: '',
    call: () =>
      world.errnoOf(() => {
        opened = world.open(process, `/dev/vfio/devices/vfio${index}`);
      }),
    apply: () => world.opened(process, opened!.fd, { kind: 'vfio', index, bound: null }),
  };
};

export const vfioBind: Command = (world, pick) => {
  const files = world.descriptorsOf('vfio');
  const isBound = (index: number): boolean => files.some(({ what }) => what.index === index && what.bound);
  const file = pick.of(pick.oneIn(6) ? files : files.filter(({ what }) => !isBound(what.index)));
  // Each process knows its own descriptors.
  const iommufd = file && pick.of(world.descriptorsOf('iommufd').filter(({ process }) => process === file.process));
  if (!iommufd) return null;
  const { process } = file;
  const { context } = iommufd.what;
  const { index } = file.what;
  const bound = isBound(index);
  const wrong = pick.oneIn(12);
  let expected: ErrnoName | '' = bound ? 'EINVAL' : wrong ? 'EBADF' : '';
  // A closed descriptor is noticed before a device that another file has bound.
  if (wrong && !file.what.bound) expected = 'EBADF';
  const id = context.freeId();
  let answer = 0;
  return {
    text: `BIND_IOMMUFD of vfio${index}`,
    expected,
    undone: true,
    call: async () => {
      const { VFIO_DEVICE_BIND_IOMMUFD: number, DeviceBindIommufd: layout } = vfio;
      const values = { argsz: 16, iommufd: wrong ? 77 : iommufd.fd };
      const { errno, s } = await world.ioctl(process, file.file, number, layout, values);
      answer = s.outDevid;
      return errno;
    },
    apply: () => {
      if (answer !== id) throw new Error(`device ${answer}, not ${id}`);
      const iommu = world.iommuOf(index);
      const rights = { tracksDirty: false, reserves: [SOFTWARE_MSI] };
      const device: Device = {
        kind: 'device',
        id,
        context,
        iommu,
        attached: new Map(),
        virtual: null,
        ...rights,
        index,
      };
      file.what.bound = context.add(device);
      process.memory.write(process.scratch, ENABLED);
      file.file.write(process, BigInt(process.scratch), ENABLED.length, COMMAND_OFFSET);
    },
  };
};

export const vfioAttach: Command = (world, pick) => {
  const files = world.descriptorsOf('vfio');
  const file = pick.of(pick.oneIn(8) ? files : files.filter(({ what }) => what.bound));
  if (!file) return null;
  const device = file.what.bound;
  const pt = device && tableOf({ context: device.context, process: file.process }, pick);
  if (device && !pt) return null;
  const result = device && attaching(world, device, pt!.thing, 0, device.attached.has(0));
  const ptId = pt?.id ?? 1;
  let answer = 0;
  return {
    text: `ATTACH_IOMMUFD_PT of vfio${file.what.index} to ${ptId} (${pt?.thing?.kind})`,
    expected: result ? result.expected : 'EINVAL',
    undone: true,
    call: async () => {
      const { VFIO_DEVICE_ATTACH_IOMMUFD_PT: number, DeviceAttachIommufdPt: layout } = vfio;
      const { errno, s } = await world.ioctl(file.process, file.file, number, layout, { argsz: 12, ptId });
      answer = s.ptId;
      return errno;
    },
    apply: () => {
      const hwpt = attached(world, device!, pt!.thing!, 0, result!);
      if (answer !== hwpt.id) throw new Error(`HWPT ${answer}, not ${hwpt.id}`);
    },
  };
};

export const vfioDetach: Command = (world, pick) => {
  const file = pick.of(world.descriptorsOf('vfio'));
  if (!file) return null;
  const { bound, index } = file.what;
  return {
    text: `DETACH_IOMMUFD_PT of vfio${index}`,
    expected: bound ? '' : 'EINVAL',
    undone: true,
    call: async () => {
      const { VFIO_DEVICE_DETACH_IOMMUFD_PT: number, DeviceDetachIommufdPt: layout } = vfio;
      return (await world.ioctl(file.process, file.file, number, layout, { argsz: 8 })).errno;
    },
    apply: () => world.detach(bound!, 0),
  };
};
