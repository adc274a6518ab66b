import { describe, expect, it } from 'vitest';
import { leftovers, type MachineChoice, Program, testMachine } from '../../test/host/program.ts';
import { fail } from '../abi/errno.ts';
import * as iommufd from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';
import * as groups from '../abi/vfio-group.ts';
import * as type1 from '../abi/vfio-type1.ts';
import { notMemory } from '../memory/process-memory.ts';

const BDF = '0000:01:00.0';
const NODE = '/dev/vfio/devices/vfio0';
const [VIABLE, CONTAINER_SET] = [1, 2];
const IOVA = 0x4000_0000n;

function start(choice: MachineChoice = {}) {
  const { machine, events } = testMachine(choice);
  const program = new Program(machine);
  const status = async (fd: number) => (await program.ok(fd, groups.VFIO_GROUP_GET_STATUS, groups.GroupStatus)).flags;
  const setContainer = (fd: number, container: number) =>
    program.bare(fd, groups.VFIO_GROUP_SET_CONTAINER, program.put(new Uint8Array(Int32Array.of(container).buffer)));
  const unset = (fd: number) => program.bare(fd, groups.VFIO_GROUP_UNSET_CONTAINER);
  /** The descriptor, or why there is none. */
  const getDevice = (fd: number, name = BDF, address?: bigint) => {
    const at = address ?? program.put(new TextEncoder().encode(`${name}\0`));
    return program.result(fd, groups.VFIO_GROUP_GET_DEVICE_FD, at);
  };
  return { machine, events, program, status, setContainer, unset, getDevice };
}

/** With a group whose container is an iommufd that the program has opened at `path`. */
async function withContainer(path = '/dev/vfio/vfio', choice: MachineChoice = {}) {
  const started = start(choice);
  const { program } = started;
  const [container, group] = [program.open(path), program.open('/dev/vfio/0')];
  expect(await started.setContainer(group, container)).toBe('');
  return { ...started, container, group };
}

const opens = (program: Program, path: string): string => {
  try {
    program.close(program.open(path));
    return '';
  } catch (error) {
    return (error as ReturnType<typeof fail>).code;
  }
};

describe('a group', () => {
  it('is viable without a container, and tells when it has one', async () => {
    const { program, status, setContainer, unset } = start();
    const [container, group] = [program.open('/dev/vfio/vfio'), program.open('/dev/vfio/0')];
    expect(await status(group)).toBe(VIABLE);
    expect(await setContainer(group, container)).toBe('');
    expect(await status(group)).toBe(VIABLE | CONTAINER_SET);
    expect(await unset(group)).toBe('');
    expect(await status(group)).toBe(VIABLE);
    const short = program.err(group, groups.VFIO_GROUP_GET_STATUS, groups.GroupStatus, { argsz: 7 });
    expect(await short).toBe('EINVAL');
    expect(await program.bare(group, groups.VFIO_GROUP_GET_STATUS, 1n)).toBe('EFAULT');
  });

  it('takes an iommufd as its container, opened at either node, once', async () => {
    const { program, setContainer, unset } = start();
    const group = program.open('/dev/vfio/0');
    expect(await unset(group)).toBe('EINVAL');
    expect(await setContainer(group, 77)).toBe('EBADF');
    expect(await setContainer(group, group)).toBe('EBADFD');
    program.process.memoryFiles.set(78, notMemory('/dev/null'));
    expect(await setContainer(group, 78)).toBe('EBADFD');
    expect(await program.bare(group, groups.VFIO_GROUP_SET_CONTAINER, 1n)).toBe('EFAULT');
    expect(await setContainer(group, program.open('/dev/iommu'))).toBe('');
    expect(await setContainer(group, program.open('/dev/vfio/vfio'))).toBe('EINVAL');
  });

  it('makes the IOAS of its container, unless that has one', async () => {
    const { program, container, setContainer } = await withContainer('/dev/iommu');
    const get = () => program.ok(container, iommufd.IOMMU_VFIO_IOAS, iommufd.VfioIoas, { op: 0 });
    const { ioasId } = await get();
    expect(await setContainer(program.open('/dev/vfio/1'), container)).toBe('');
    expect((await get()).ioasId).toBe(ioasId);
    expect(await program.err(container, iommufd.IOMMU_DESTROY, iommufd.Destroy, { id: ioasId + 1 })).toBe('ENOENT');
  });

  it('can be open once, and only while none of its devices is bound by its own node', async () => {
    const { program } = start();
    const [iommu, device] = [program.open('/dev/iommu'), program.open(NODE)];
    const bind = () =>
      program.err(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { argsz: 16, iommufd: iommu });
    const group = program.open('/dev/vfio/0');
    expect(opens(program, '/dev/vfio/0')).toBe('EBUSY');
    expect(await bind()).toBe('EBUSY');
    program.close(group);
    expect(await bind()).toBe('');
    expect([opens(program, '/dev/vfio/0'), opens(program, '/dev/vfio/1')]).toEqual(['EBUSY', '']);
    program.close(device);
    expect(opens(program, '/dev/vfio/0')).toBe('');
  });

  it('has no other commands, and nothing to read, write or map', async () => {
    const { program } = start();
    const group = program.open('/dev/vfio/0');
    expect(await program.bare(group, vfio.VFIO_DEVICE_GET_INFO)).toBe('ENOTTY');
    expect(program.pread(group, 0n, 4)).toBe('EINVAL');
    expect(program.pwrite(group, 0n, new Uint8Array(4))).toBe('EINVAL');
    expect(() => program.file(group).mmap(program.process, 4096n, 3, 1, 0n)).toThrow('ENODEV');
  });
});

describe('GET_DEVICE_FD', () => {
  it('needs a container, and a name that is in the group', async () => {
    const { program, getDevice, setContainer } = start();
    const group = program.open('/dev/vfio/0');
    expect(await getDevice(group)).toBe('EINVAL');
    expect(await getDevice(group, '0000:02:00.0')).toBe('ENODEV');
    await setContainer(group, program.open('/dev/vfio/vfio'));
    expect(await getDevice(group, '0000:01:00.0x')).toBe('ENODEV');
    expect(await getDevice(group, '')).toBe('ENODEV');
    expect(await getDevice(group, 'x'.repeat(4096))).toBe('EINVAL');
    expect(await getDevice(group, '', 1n)).toBe('EFAULT');
    expect(await getDevice(group, `${BDF}  `)).toBeTypeOf('number');
  });

  it.each(['vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3', 'vf_token=1', 'token', ' x'])(
    'refuses the option "%s": the device has no virtual functions',
    async (option) => {
      const { group, getDevice } = await withContainer();
      expect(await getDevice(group, `${BDF} ${option}`)).toBe('EINVAL');
    },
  );

  it('gives an anonymous file of a device that is attached to the IOAS of the container', async () => {
    const { program, container, group, getDevice, machine } = await withContainer();
    const device = (await getDevice(group)) as number;
    expect(program.file(device)).toMatchObject({ kind: 'vfio-device', device: null });
    const info = await program.ok(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo);
    expect([info.flags, info.numRegions, info.numIrqs]).toEqual([3, 9, 5]);
    expect(machine.leftovers()[`${machine.iommus[0]!.name} domains`]).toBe(1);
    const map = { argsz: 32, flags: 3, vaddr: program.base, iova: IOVA, size: 0x1000n };
    expect(await program.err(container, type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap, map)).toBe('');
    expect(machine.pinned.pinnedFrames).toBe(1);
  });

  it('gives the same device as often as it is asked, until the last file of it is closed', async () => {
    const { program, group, getDevice, machine } = await withContainer();
    const [first, second] = [(await getDevice(group)) as number, (await getDevice(group)) as number];
    program.pwrite(first, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    expect(program.pread(second, (7n << 40n) + 4n, 2)).toEqual(Uint8Array.of(6, 0));
    program.close(first);
    expect(program.pread(second, (7n << 40n) + 4n, 2)).toEqual(Uint8Array.of(6, 0));
    expect(machine.leftovers().bindings).toBe(1);
    program.close(second);
    expect(machine.leftovers().bindings).toBe(0);
  });

  it('is refused with ENODEV when the container has lost its IOAS, and leaves nothing', async () => {
    const { program, container, group, getDevice, machine } = await withContainer('/dev/iommu');
    const { ioasId } = await program.ok(container, iommufd.IOMMU_VFIO_IOAS, iommufd.VfioIoas, { op: 0 });
    await program.ok(container, iommufd.IOMMU_DESTROY, iommufd.Destroy, { id: ioasId });
    expect(await getDevice(group)).toBe('ENODEV');
    expect(machine.leftovers().bindings).toBe(0);
  });

  it('of a device that outlived its group only opens it once more; until then the group is not viable', async () => {
    const { program, group, getDevice, setContainer, status } = await withContainer();
    await getDevice(group);
    program.close(group);
    const again = program.open('/dev/vfio/0');
    expect(await status(again)).toBe(0);
    await setContainer(again, program.open('/dev/vfio/vfio'));
    expect(await getDevice(again)).toBeTypeOf('number');
  });

  it('takes the device back when the process has no descriptor left', async () => {
    const { program, group, getDevice, machine } = await withContainer();
    program.process.onOpen = () => {
      throw fail('EMFILE', 'there are no descriptors left');
    };
    expect(await getDevice(group)).toBe('EMFILE');
    expect(machine.leftovers().bindings).toBe(0);
  });
});

describe('a device of a group', () => {
  it('takes neither BIND nor ATTACH nor DETACH', async () => {
    const { program, container, group, getDevice } = await withContainer();
    const device = (await getDevice(group)) as number;
    const bind = { argsz: 16, iommufd: container };
    expect(await program.err(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, bind)).toBe('EINVAL');
    expect(await program.bare(device, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT)).toBe('ENOTTY');
    expect(await program.bare(device, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT)).toBe('ENOTTY');
  });

  it.each([
    ['device, group, container', [2, 1, 0]],
    ['container, group, device', [0, 1, 2]],
    ['group, device, container', [1, 2, 0]],
  ])('leaves nothing behind, closed in the order %s', async (_order, order) => {
    const { program, container, group, getDevice, machine } = await withContainer();
    const device = (await getDevice(group)) as number;
    const map = { argsz: 32, flags: 3, vaddr: program.base, iova: IOVA, size: 0x20_0000n };
    await program.ok(container, type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap, map);
    for (const which of order) program.close([container, group, device][which]!);
    expect(leftovers(machine)).toEqual({});
  });

  it('works in releases that have no device nodes, where BIND is no command', async () => {
    const { program, container, group, getDevice } = await withContainer('/dev/vfio/vfio', { abi: 'linux-6.2' });
    const device = (await getDevice(group)) as number;
    expect(await program.err(device, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo)).toBe('');
    const bind = { argsz: 16, iommufd: container };
    expect(await program.err(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, bind)).toBe('ENOTTY');
  });
});

describe('/dev/vfio/vfio', () => {
  it('is an iommufd that accounts for what it pins as VFIO does: to the process', async () => {
    const { program, machine } = start();
    expect(machine.deviceNodes).toContainEqual({ path: '/dev/vfio/vfio', major: 10, minor: 196, mode: 0o666 });
    const mode = async (path: string) => {
      const option = { optionId: iommufd.IOMMU_OPTION_RLIMIT_MODE, op: 1 };
      return (await program.ok(program.open(path), iommufd.IOMMU_OPTION, iommufd.Option, option)).val64;
    };
    expect([await mode('/dev/iommu'), await mode('/dev/vfio/vfio')]).toEqual([0n, 1n]);
  });

  it('knows its version and its types before a group has joined, and SET_IOMMU only after', async () => {
    const { program, setContainer } = start();
    const container = program.open('/dev/vfio/vfio');
    expect(await program.result(container, type1.VFIO_GET_API_VERSION)).toBe(0);
    expect(await program.result(container, type1.VFIO_CHECK_EXTENSION, 1n)).toBe(1);
    expect(await program.bare(container, type1.VFIO_SET_IOMMU, 1n)).toBe('ENODEV');
    await setContainer(program.open('/dev/vfio/0'), container);
    expect(await program.bare(container, type1.VFIO_SET_IOMMU, 1n)).toBe('');
  });

  it('tells what its groups leave of the IOVAs before a device is open, as iommufd tells it only then', async () => {
    const told = async (path: string) => {
      const { program, container, group, getDevice, unset } = await withContainer(path);
      const info = async () => {
        const address = program.put(new Uint8Array(Uint32Array.of(128).buffer, 0, 4));
        const bytes = new Uint8Array(128);
        expect(await program.bare(container, type1.VFIO_IOMMU_GET_INFO, address)).toBe('');
        program.process.memory.read(Number(address), bytes);
        const view = new DataView(bytes.buffer);
        // The ranges are the second capability, behind 24 bytes of struct and 16 of DMA_AVAIL.
        const bounds = Array.from({ length: 2 * view.getUint32(48, true) }, (_, i) =>
          view.getBigUint64(56 + 8 * i, true),
        );
        return { pageSizes: view.getBigUint64(8, true), bounds };
      };
      const before = await info();
      const device = (await getDevice(group)) as number;
      const open = await info();
      program.close(device);
      await unset(group);
      return { before, open, after: await info() };
    };
    const limits = { pageSizes: 0x4020_1000n, bounds: [0n, 0x7ff_ffffn, 0x810_0000n, 2n ** 48n - 1n] };
    const none = { pageSizes: 2n ** 64n - 0x1000n, bounds: [0n, 2n ** 64n - 1n] };
    expect(await told('/dev/vfio/vfio')).toEqual({ before: limits, open: limits, after: none });
    expect(await told('/dev/iommu')).toEqual({ before: none, open: limits, after: none });
  });

  it('refuses to map what its groups leave out, and a group where that is mapped, before a device is open', async () => {
    const WINDOW = 0x800_0000n;
    const maps = async (path: string) => {
      const { machine, program, container, group, setContainer, getDevice, unset } = await withContainer(path);
      const map = (iova: bigint) => {
        const values = { argsz: 32, flags: 3, vaddr: program.base, iova, size: 0x1000n };
        return program.err(container, type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap, values);
      };
      const told = [await map(WINDOW - 0x1000n), await map(WINDOW), await map(2n ** 48n), await getDevice(group)];
      if (typeof told[3] === 'number') program.close(told[3]);
      await unset(group);
      const after = [await map(WINDOW), await setContainer(group, container), await getDevice(group)];
      program.die();
      expect(leftovers(machine)).toEqual({});
      return [...told.map(String), ...after.map(String)];
    };
    const opened = expect.stringMatching(/^[0-9]+$/);
    expect(await maps('/dev/vfio/vfio')).toEqual(['', 'EINVAL', 'EINVAL', opened, '', 'EINVAL', 'EINVAL']);
    expect(await maps('/dev/iommu')).toEqual(['', '', '', 'EADDRINUSE', 'EEXIST', '', 'EADDRINUSE']);
  });

  it('shows in the trace under its own name, with the structs of type 1', async () => {
    const { program, events, container } = await withContainer();
    events.length = 0;
    const unmap = { argsz: 24, iova: IOVA, size: 0x1000n };
    await program.err(container, type1.VFIO_IOMMU_UNMAP_DMA, type1.Type1DmaUnmap, unmap);
    expect(events).toMatchObject([{ file: '/dev/vfio/vfio', struct: 'vfio_iommu_type1_dma_unmap' }]);
  });
});
