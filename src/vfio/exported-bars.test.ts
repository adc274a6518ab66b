import { describe, expect, it } from 'vitest';
import { leftovers, type MutableMachine, testMachine } from '../../test/host/program.ts';
import { type Device, Probe, Vm } from '../../test/host/vm.ts';
import type { ErrnoName } from '../abi/errno.ts';
import * as uapi from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';

const SMMU = 'smmu3.0x000000002b400000';
const OTHER_SMMU = 'smmu3.0x000000002b500000';
const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18];
const DMA_BUF = 11;
/** Where the BAR of the copy engine is for other devices: behind what of it begins at CHAINADDR is data to them. */
const IOVA = 0x9000_0000n;
const BAR_BYTES = 0x4000n;
const CHAINADDR = 0x90;
const CONFIG = 7n << 40n;
const CLOEXEC = 0o2000000;

interface Asked {
  readonly region?: number;
  readonly openFlags?: number;
  readonly flags?: number;
  /** nr_ranges, where it is not the number of ranges. */
  readonly count?: number;
  readonly argsz?: number;
  readonly feature?: number;
  readonly ranges?: readonly (readonly [offset: bigint, length: bigint])[];
}

/** A copy engine whose BAR is exported, and two probes on other SMMU or the same one that read it. */
const functions = (machine: MutableMachine): void => {
  machine.functions = [
    { bdf: '0000:01:00.0', iommu: SMMU, model: 'ioat' },
    { bdf: '0000:02:00.0', iommu: SMMU, model: 'dma-probe' },
    { bdf: '0000:03:00.0', iommu: OTHER_SMMU, model: 'dma-probe' },
  ];
};

async function setup(abi = 'linux-7.1') {
  const { machine } = testMachine({ abi, change: functions });
  const vm = await Vm.start(machine);
  const owner = await vm.device(0);
  const peers = [await vm.device(1), await vm.device(2)];
  const [probe, far] = peers.map((device) => new Probe(device));
  for (const peer of peers) await peer.attach(vm.ioasId);
  const { program } = vm;

  const get = (asked: Asked = {}): Promise<number | ErrnoName> => {
    const { region = 0, openFlags = CLOEXEC, flags = 0, ranges = [[0n, BAR_BYTES]] } = asked;
    const { count = ranges.length, argsz = 24 + 16 * ranges.length, feature = DMA_BUF | GET } = asked;
    const words = Uint32Array.of(argsz, feature, region, openFlags, flags, count);
    const bytes = new Uint8Array(24 + 16 * ranges.length);
    bytes.set(new Uint8Array(words.buffer));
    bytes.set(new Uint8Array(BigUint64Array.from(ranges.flat()).buffer), 24);
    return program.result(owner.fd, vfio.VFIO_DEVICE_FEATURE, program.put(bytes));
  };
  const map = (fd: number | ErrnoName, values: object = {}) =>
    program.err(vm.iommufd, uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, {
      ...{ flags: 7, ioasId: vm.ioasId, fd: fd as number, start: 0n, length: BAR_BYTES, iova: IOVA },
      ...values,
    });
  const unmap = () => vm.unmap(IOVA, Number(BAR_BYTES));
  /** Makes CHAINADDR of the engine hold text. */
  const write = (text: string) => owner.writeBar(CHAINADDR, new TextEncoder().encode(text.padEnd(8)));
  const read = (of = probe!): string | null =>
    of
      .read(IOVA + BigInt(CHAINADDR))
      ?.slice(0, 8)
      .trimEnd() ?? null;
  const feature = (number: number, ...data: number[]) => {
    const words = Uint32Array.of(8 + 4 * data.length, number | SET, ...data);
    return program.result(owner.fd, vfio.VFIO_DEVICE_FEATURE, program.put(new Uint8Array(words.buffer)));
  };
  return { machine, vm, program, owner, probe: probe!, far: far!, get, map, unmap, write, read, feature };
}

const hotReset = ({ vm, fd }: Device) =>
  vm.program.err(fd, vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.PciHotReset, { argsz: 12 });

describe('a BAR as a dma-buf', () => {
  it('is reached by DMA of devices behind any IOMMU, at the IOVA where IOAS_MAP_FILE puts it', async () => {
    const { get, map, write, read, probe, far } = await setup();
    expect(await map(await get())).toBe('');
    write('register');
    expect([read(probe), read(far)]).toEqual(['register', 'register']);
  });

  it('is written by DMA: the engine behind it takes the new register', async () => {
    const { vm, get, map, owner, probe } = await setup();
    await map(await get());
    const { device } = probe;
    device.writeBar(0x100, new TextEncoder().encode('to peer'.padEnd(16)));
    device.writeBar(0x08, new Uint8Array(BigUint64Array.of(IOVA + BigInt(CHAINADDR)).buffer));
    device.writeBar(0x14, Uint8Array.of(8, 0, 0, 0));
    device.writeBar(0x18, Uint8Array.of(2, 0, 0, 0));
    expect(device.readBar(0x1c, 1)[0]).toBe(1);
    vm.program.machine.settle();
    expect(new TextDecoder().decode(owner.readBar(CHAINADDR, 8))).toBe('to peer ');
  });

  it('is the physical BAR, with nothing pinned, and leaves no trace when it is unmapped', async () => {
    const { machine, vm, get, map, unmap, program } = await setup();
    const before = machine.leftovers().pinnedFrames;
    const fd = (await get({ ranges: [[0x1000n, 0x2000n]] })) as number;
    expect(await map(fd, { length: 0x2000n })).toBe('');
    const { domain } = machine.devices[1]!.binding!.device.attached()!.paging;
    expect(domain.physical(IOVA)).toBe(machine.devices[0]!.barAddress + 0x1000);
    expect(machine.leftovers().pinnedFrames).toBe(before);
    expect(await vm.unmap(IOVA, 0x2000)).toBe('');
    expect(await unmap()).toBe('ENOENT');
    program.close(fd);
    program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('is mapped in parts, and not beyond its end', async () => {
    const { get, map, read, write } = await setup();
    const fd = await get();
    expect(await map(fd, { start: 0x3000n, length: 0x1000n, iova: IOVA + 0x3000n })).toBe('');
    expect(await map(fd, { length: 0x1000n })).toBe('');
    expect(await map(fd, { start: 0x1000n, iova: IOVA + 0x10000n })).toBe('EINVAL');
    expect(await map(fd, { start: 0x10n, length: 0x1000n, iova: IOVA + 0x10000n })).toBe('EINVAL');
    write('part');
    expect(read()).toBe('part');
  });

  it('stays mapped when the descriptor is closed, and in copies', async () => {
    const { vm, program, get, map, read, write, unmap } = await setup();
    const fd = (await get()) as number;
    await map(fd);
    program.close(fd);
    const copy = { flags: 7, srcIoasId: vm.ioasId, dstIoasId: vm.ioasId, length: BAR_BYTES, srcIova: IOVA };
    const dstIova = IOVA + 0x10000n;
    expect(await program.err(vm.iommufd, uapi.IOMMU_IOAS_COPY, uapi.IoasCopy, { ...copy, dstIova })).toBe('');
    await unmap();
    await program.ok(vm.iommufd, uapi.IOMMU_IOAS_COPY, uapi.IoasCopy, { ...copy, srcIova: dstIova, dstIova: IOVA });
    write('copied');
    expect(read()).toBe('copied');
  });

  it('has a descriptor that programs can only pass on', async () => {
    const { program, get } = await setup();
    const file = program.file((await get()) as number);
    expect([file.kind, file.device]).toEqual(['dma-buf', null]);
    expect(() => file.mmap(program.process, 4096n, 3, 1, 0n)).toThrow('EINVAL');
  });
});

describe('DEVICE_FEATURE_DMA_BUF', () => {
  it.each<[string, Asked, ErrnoName]>([
    ['SET, which it does not have', { feature: DMA_BUF | SET }, 'EINVAL'],
    ['neither GET nor PROBE', { feature: DMA_BUF }, 'EINVAL'],
    ['no room for its struct', { argsz: 23 }, 'EINVAL'],
    ['no ranges', { ranges: [] }, 'EINVAL'],
    ['flags', { flags: 1 }, 'EINVAL'],
    ['the ROM', { region: 6 }, 'ENODEV'],
    ['configuration space', { region: 7 }, 'ENODEV'],
    ['a region far away, before the ranges are looked at', { region: 99, ranges: [[1n, 0n]] }, 'ENODEV'],
    ['a BAR that is not there', { region: 1 }, 'EINVAL'],
    ['a range of nothing', { ranges: [[0n, 0n]] }, 'EINVAL'],
    ['an offset within a page', { ranges: [[0x800n, 0x1000n]] }, 'EINVAL'],
    ['a length that is no multiple of a page', { ranges: [[0n, 0x1001n]] }, 'EINVAL'],
    ['a range that leaves the BAR', { ranges: [[0x1000n, BAR_BYTES]] }, 'EINVAL'],
    ['a range that leaves the address space', { ranges: [[2n ** 64n - 0x1000n, 0x1000n]] }, 'EOVERFLOW'],
    ['lengths that overflow together', { ranges: Array(2).fill([0n, 2n ** 64n - 0x1000n]) }, 'EINVAL'],
    ['half of the address space', { ranges: [[0n, 2n ** 63n]] }, 'EINVAL'],
    ['more ranges than a kernel copies', { count: 2 ** 18 + 1 }, 'ENOMEM'],
    ['ranges that are not there', { count: 2 ** 18 }, 'EFAULT'],
  ])('refuses %s', async (_what, asked, errno) => {
    const { get } = await setup();
    expect(await get(asked)).toBe(errno);
  });

  it('can be probed for GET, whatever the size', async () => {
    const { get } = await setup();
    expect(await get({ feature: DMA_BUF | PROBE, argsz: 8 })).toBe(0);
    expect(await get({ feature: DMA_BUF | PROBE | GET, argsz: 8 })).toBe(0);
    expect(await get({ feature: DMA_BUF | PROBE | SET, argsz: 8 })).toBe('EINVAL');
  });

  it('needs no argsz that covers the ranges', async () => {
    const { get, map } = await setup();
    expect(await map(await get({ argsz: 24 }))).toBe('');
  });

  it('begins with linux-6.19: before, it is ENOTTY, probed or not', async () => {
    for (const feature of [DMA_BUF | GET, DMA_BUF | PROBE | GET]) {
      expect(await (await setup('linux-6.18')).get({ feature })).toBe('ENOTTY');
    }
    expect(await (await setup('linux-6.19')).get()).toBeTypeOf('number');
  });

  it('takes several ranges, in any order and twice, which an iommufd does not map', async () => {
    const { owner, get, map } = await setup();
    const fd = await get({
      ranges: [
        [0x1000n, 0x1000n],
        [0n, 0x1000n],
        [0n, 0x1000n],
      ],
    });
    expect(fd).toBeTypeOf('number');
    expect(await map(fd, { length: 0x3000n })).toBe('EOPNOTSUPP');
    expect(await map(fd, { length: 0x4000n })).toBe('EINVAL');
    owner.setCommand(0);
    expect(await map(fd, { length: 0x3000n })).toBe('ENODEV');
  });
});

describe('a dma-buf of a BAR is taken back', () => {
  type Setup = Awaited<ReturnType<typeof setup>>;
  const powerState = ({ program, owner }: Setup, state: number): void => {
    const at = owner.vm.program.machine.devices[0]!.fn.config.offsetOf('PMCSR');
    program.pwrite(owner.fd, CONFIG + BigInt(at), Uint8Array.of(state, 0));
  };

  it.each<[string, (s: Setup) => unknown, (s: Setup) => unknown]>([
    ['memory decode goes off', ({ owner }) => owner.setCommand(0), ({ owner }) => owner.setCommand(2)],
    ['the device goes to D3hot', (s) => powerState(s, 3), (s) => powerState(s, 0)],
    ['it enters low power', ({ feature }) => feature(3), ({ feature }) => feature(5)],
    [
      'it enters low power with wakeup',
      ({ feature, program }) => feature(4, program.eventfd().fd, 0),
      ({ feature }) => feature(5),
    ],
  ])('while %s', async (_what, away, back) => {
    const s = await setup();
    const fd = await s.get();
    await s.map(fd);
    await away(s);
    expect([s.read(), s.read(s.far), await s.map(fd, { iova: 0n })]).toEqual([null, null, 'ENODEV']);
    await back(s);
    s.write('again');
    expect(s.read()).toBe(null);
    expect([await s.unmap(), await s.map(fd), s.read(), s.read(s.far)]).toEqual(['', '', 'again', 'again']);
  });

  it.each<[string, (s: Setup) => unknown]>([
    ['VFIO_DEVICE_RESET', ({ program, owner }) => program.bare(owner.fd, vfio.VFIO_DEVICE_RESET)],
    [
      'a function level reset',
      ({ program, owner, machine }) => {
        const at = machine.devices[0]!.fn.config.offsetOf('DEVCTL');
        program.pwrite(owner.fd, CONFIG + BigInt(at), Uint8Array.of(0, 0x80));
      },
    ],
    ['a hot reset', ({ owner }) => hotReset(owner)],
  ])('by %s, and can be mapped again at once', async (_what, reset) => {
    const s = await setup();
    const fd = await s.get();
    await s.map(fd);
    await reset(s);
    expect(s.read()).toBe(null);
    expect([await s.unmap(), await s.map(fd)]).toEqual(['', '']);
    s.write('again');
    expect(s.read()).toBe('again');
  });

  it('not by a write of COMMAND that leaves memory decode on', async () => {
    const s = await setup();
    await s.map(await s.get());
    s.write('kept');
    s.owner.setCommand(6);
    expect(s.read()).toBe('kept');
  });

  it('for good when the device is closed', async () => {
    const s = await setup();
    const fd = await s.get();
    await s.map(fd);
    s.program.close(s.owner.fd);
    expect([s.read(), await s.map(fd, { iova: 0n })]).toEqual([null, 'ENODEV']);
    await s.vm.device(0);
    expect([s.read(), await s.map(fd, { iova: 0n })]).toEqual([null, 'ENODEV']);
    s.program.die();
    expect(leftovers(s.machine)).toEqual({});
  });

  it('also of those who ask for it only then', async () => {
    const s = await setup();
    s.owner.setCommand(0);
    const fd = await s.get();
    expect(await s.map(fd)).toBe('ENODEV');
    s.owner.setCommand(2);
    expect(await s.map(fd)).toBe('');
  });

  it('an access that wakes the device with an eventfd does not bring it back; LOW_POWER_EXIT does', async () => {
    const s = await setup();
    const fd = await s.get();
    await s.feature(4, s.program.eventfd().fd, 0);
    s.program.pread(s.owner.fd, CONFIG, 4);
    expect(await s.map(fd)).toBe('ENODEV');
    await s.feature(5);
    expect(await s.map(fd)).toBe('');
  });

  it('by a hot reset that fails at another device of the bus, which comes after', async () => {
    const sameBus = (machine: MutableMachine): void => {
      functions(machine);
      machine.functions[1]!.bdf = '0000:01:01.0';
    };
    const { machine } = testMachine({ change: sameBus });
    const vm = await Vm.start(machine);
    const owner = await vm.device(0);
    const peer = await vm.device(2);
    await peer.attach(vm.ioasId);
    const probe = new Probe(peer);
    const words = Uint32Array.of(40, DMA_BUF | GET, 0, CLOEXEC, 0, 1, 0, 0, Number(BAR_BYTES), 0);
    const { program } = vm;
    const fd = await program.result(owner.fd, vfio.VFIO_DEVICE_FEATURE, program.put(new Uint8Array(words.buffer)));
    const values = { flags: 7, ioasId: vm.ioasId, fd: fd as number, length: BAR_BYTES, iova: IOVA };
    const map = () => program.err(vm.iommufd, uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, values);
    expect([await map(), probe.read(IOVA)?.length]).toEqual(['', 16]);
    expect(await hotReset(owner)).toBe('EINVAL');
    expect(probe.read(IOVA)).toBe(null);
    expect([await vm.unmap(IOVA, Number(BAR_BYTES)), await map(), probe.read(IOVA)?.length]).toEqual(['', '', 16]);
  });
});
