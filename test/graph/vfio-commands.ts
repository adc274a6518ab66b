/** VFIO devices by their own nodes: open, bind, attach, detach; close is everybody's. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { attached, attaching } from './attach-rules.ts';
import type { Command } from './command.ts';
import { tableOf } from './mock-commands.ts';
import { attachedOf, awake, type Context, type Descriptor, type Device, type Thing } from './model.ts';
import type { Picker } from './picker.ts';
import type { World } from './world.ts';

const COMMAND_OFFSET = (7n << 40n) + 4n;
/** Memory decode and bus mastering. */
const ENABLED = Uint8Array.of(6, 0);
export const SOFTWARE_MSI = { start: 0x800_0000n, last: 0x80f_ffffn };
/** One of each width, and one that is too large. */
const PASIDS = [1, 2, 1, 2, 255, 1, 2, 256];

/** vfioN in an iommufd. */
export const deviceOf = (world: World, context: Context, index: number, byGroup: boolean): Device => ({
  kind: 'device',
  id: context.freeId(),
  context,
  iommu: world.iommuOf(index),
  group: world.groupOf(index),
  virtual: null,
  reserves: [SOFTWARE_MSI],
  index,
  byGroup,
  state: awake(),
  ...world.traitsOf(index),
});

/** Lets a device that was bound just now make DMA. */
export function enable({ process, file }: Pick<Descriptor, 'process' | 'file'>): void {
  process.memory.write(process.scratch, ENABLED);
  file.write(process, BigInt(process.scratch), ENABLED.length, COMMAND_OFFSET);
}

export const vfioOpen: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || world.isMock || world.descriptorsOf('vfio').length >= 4) return null;
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
  const { index, bound } = file.what;
  const group = world.groupOf(index);
  const wrong = pick.oneIn(12);
  let expected: ErrnoName | '' = '';
  if (bound?.byGroup) expected = 'EINVAL';
  else if (world.descriptorsOf('group').some(({ what }) => what.group === group)) expected = 'EBUSY';
  else if (bound) expected = 'EINVAL';
  else if (wrong) expected = 'EBADF';
  else if (isBound(index)) expected = 'EINVAL';
  else if ((world.ownerOf(group) ?? context) !== context) expected = 'EPERM';
  const device = deviceOf(world, context, index, false);
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
      if (answer !== device.id) throw new Error(`device ${answer}, not ${device.id}`);
      file.what.bound = context.add(device);
      enable(file);
    },
  };
};

/** A device file; of one that its group has opened ATTACH and DETACH are no commands. */
function refusedBy(device: Device | null): ErrnoName | '' {
  if (!device) return 'EINVAL';
  return device.byGroup ? 'ENOTTY' : '';
}

/** What PASIDs are attached to: mostly HWPTs that were made for that. */
function pasidTable(context: Context, pick: Picker): Thing | undefined {
  const hwpts = context.all('hwpt-paging').filter(({ pasid }) => pasid);
  return pick.oneIn(6) ? pick.of<Thing>(context.all('hwpt-paging', 'hwpt-nested', 'ioas')) : pick.of<Thing>(hwpts);
}

function attach(name: string, choose: (world: World, pick: Picker) => number | null): Command {
  return (world, pick) => {
    const files = world.descriptorsOf('vfio');
    const file = pick.of(pick.oneIn(8) ? files : files.filter(({ what }) => what.bound && !what.bound.byGroup));
    const pasid = choose(world, pick);
    if (!file || pasid === null) return null;
    const device = file.what.bound;
    const thing = device && pasid ? pasidTable(device.context, pick) : null;
    const by = device && { context: device.context, process: file.process };
    const pt = thing ? { id: thing.id, thing } : by && !pasid ? tableOf(by, pick) : null;
    if (device && !pt) return null;
    const result = device && attaching(world, device, pt!.thing, pasid, attachedOf(device, pasid) !== null);
    const ptId = pt?.id ?? 1;
    let answer = 0;
    return {
      text: `${name}${pasid ? ` of PASID ${pasid}` : ''} of vfio${file.what.index} to ${ptId} (${pt?.thing?.kind})`,
      expected: refusedBy(device) || result!.expected,
      undone: true,
      call: async () => {
        const { VFIO_DEVICE_ATTACH_IOMMUFD_PT: number, DeviceAttachIommufdPt: layout } = vfio;
        const values = pasid ? { argsz: 16, flags: vfio.VFIO_DEVICE_ATTACH_PASID, pasid, ptId } : { argsz: 12, ptId };
        const { errno, s } = await world.ioctl(file.process, file.file, number, layout, values);
        answer = s.ptId;
        return errno;
      },
      apply: () => {
        const hwpt = attached(world, device!, pt!.thing!, pasid, result!);
        if (answer !== hwpt.id) throw new Error(`HWPT ${answer}, not ${hwpt.id}`);
      },
    };
  };
}

function detach(name: string, choose: (world: World, pick: Picker) => number | null): Command {
  return (world, pick) => {
    const file = pick.of(world.descriptorsOf('vfio'));
    const pasid = choose(world, pick);
    if (!file || pasid === null) return null;
    const { bound, index } = file.what;
    return {
      text: `${name}${pasid ? ` of PASID ${pasid}` : ''} of vfio${index}`,
      expected: refusedBy(bound),
      undone: true,
      call: async () => {
        const { VFIO_DEVICE_DETACH_IOMMUFD_PT: number, DeviceDetachIommufdPt: layout } = vfio;
        const values = pasid ? { argsz: 12, flags: vfio.VFIO_DEVICE_DETACH_PASID, pasid } : { argsz: 8 };
        return (await world.ioctl(file.process, file.file, number, layout, values)).errno;
      },
      apply: () => world.detach(bound!, pasid),
    };
  };
}

const alone = (): number => 0;

/** Null in releases before PASIDs, and where no device has any. */
const somePasid = (world: World, pick: Picker): number | null =>
  world.hasPasids && world.machine.dialect.accepted.vfioAttachFlags ? pick.from(PASIDS) : null;

export const vfioAttach: Command = attach('ATTACH_IOMMUFD_PT', alone);
export const vfioDetach: Command = detach('DETACH_IOMMUFD_PT', alone);
export const vfioPasidAttach: Command = attach('ATTACH_IOMMUFD_PT', somePasid);
export const vfioPasidDetach: Command = detach('DETACH_IOMMUFD_PT', somePasid);
