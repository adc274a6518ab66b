/** DEVICE_FEATURE: low power, BARs as dma-bufs, and the features that a device of vfio-pci has not. */
import assert from 'node:assert/strict';
import { type DeviceFeature, FeatureDmaBuf, RegionDmaRange } from '../../../src/abi/vfio.ts';
import type { OpenedFile, Values, VfioDevice } from '../../../src/client/index.ts';
import { ALL, DIRTY_TRACKING, IOVA, PAGE, type Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';
import { type AttachedDevice, attached, CLOSED, COMMAND, GROUPS, SMMU, u32At, u32s } from '../vfio.ts';

const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18];
const [LOW_POWER_ENTRY, WITH_WAKEUP, LOW_POWER_EXIT, DMA_BUF] = [3, 4, 5, 11];
const ABSENT = {
  PCI_VF_TOKEN: 0,
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
  MIG_DATA_SIZE: 9,
  BUS_MASTER: 10,
  MIG_PRECOPY_INFOv2: 12,
  'a feature that is not known': 0xffff,
};

const device = async (t: Setting): Promise<VfioDevice> => (await bound(t)).vfio;

casesOf('VFIO_DEVICE_FEATURE', SMMU, ({ refuses, does }) => {
  const refused = (errno: 'EINVAL' | 'ENOTTY', what: string, values: Values<typeof DeviceFeature>) =>
    refuses(errno, what, async (t) => {
      const vfio = await device(t);
      return () => vfio.feature(values);
    });
  refused('EINVAL', 'a flag that is not known', { flags: 2 ** 19 });
  refused('EINVAL', 'to get and set at once', { flags: GET + SET + LOW_POWER_ENTRY });
  for (const [name, feature] of Object.entries(ABSENT)) {
    refused('ENOTTY', name, { flags: PROBE + feature });
  }
  for (const [name, feature, operation, other] of [
    ['LOW_POWER_ENTRY', LOW_POWER_ENTRY, SET, GET],
    ['LOW_POWER_ENTRY_WITH_WAKEUP', WITH_WAKEUP, SET, GET],
    ['LOW_POWER_EXIT', LOW_POWER_EXIT, SET, GET],
    ['DMA_BUF', DMA_BUF, GET, SET],
  ] as const) {
    const unavailable = other === GET ? 'get' : 'set';
    refused('EINVAL', `to ${unavailable} ${name}`, { flags: other + feature });
    refused('EINVAL', `to probe whether it can ${unavailable} ${name}`, { flags: PROBE + other + feature });
    refused('EINVAL', `neither to get, set nor probe ${name}`, { flags: feature });
    does(`says that there is ${name}`, async (t) => {
      const vfio = await device(t);
      await vfio.feature({ flags: PROBE + operation + feature });
      await vfio.feature({ flags: PROBE + feature });
    });
  }
  refused('EINVAL', 'LOW_POWER_ENTRY_WITH_WAKEUP without its data', { flags: SET + WITH_WAKEUP });
  refused('EINVAL', 'DMA_BUF without its data', { flags: GET + DMA_BUF });
});

casesOf('VFIO_DEVICE_FEATURE LOW_POWER', SMMU, ({ refuses, does }) => {
  const enter = (vfio: VfioDevice) => vfio.feature({ flags: SET + LOW_POWER_ENTRY });
  const enterWithWakeup = (vfio: VfioDevice, fd: number) =>
    vfio.feature({ flags: SET + WITH_WAKEUP }, { tail: u32s(fd, 0) });
  const exit = (vfio: VfioDevice) => vfio.feature({ flags: SET + LOW_POWER_EXIT });

  refuses('EINVAL', 'to enter twice', async (t) => {
    const vfio = await device(t);
    await enter(vfio);
    return () => enter(vfio);
  });
  refuses('EINVAL', 'to enter twice, with an eventfd that wakes', async (t) => {
    const vfio = await device(t);
    const { fd } = t.eventfd();
    await enter(vfio);
    return () => enterWithWakeup(vfio, fd);
  });
  refuses('EINVAL', 'a negative eventfd', async (t) => {
    const vfio = await device(t);
    return () => enterWithWakeup(vfio, -1);
  });
  refuses('EBADF', 'an eventfd that is not open', async (t) => {
    const vfio = await device(t);
    return () => enterWithWakeup(vfio, CLOSED);
  });
  refuses('EINVAL', 'a descriptor that is no eventfd', async (t) => {
    const vfio = await device(t);
    return () => enterWithWakeup(vfio, vfio.fd);
  });
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const vfio = await device(t);
    const { address, bytes } = t.program.edge(8);
    bytes.set(u32s(16, SET + WITH_WAKEUP));
    return () => vfio.feature({}, { address });
  });
  does('is left again, entered or not', async (t) => {
    const vfio = await device(t);
    await exit(vfio);
    await enter(vfio);
    await exit(vfio);
    await enter(vfio);
  });
  does('lets the device be used meanwhile', async (t) => {
    const { vfio, engine } = await attached(t);
    await enter(vfio);
    assert.equal(await engine.copy(IOVA, IOVA + PAGE), true);
    assert.equal(await errnoOf(() => enter(vfio)), 'EINVAL');
  });
  does('signals the eventfd at the first access, which ends it', async (t) => {
    const vfio = await device(t);
    const event = t.eventfd();
    await enterWithWakeup(vfio, event.fd);
    for (let n = 0; n < 2; n++) await vfio.read(4, COMMAND);
    await event.expect(1);
    await enterWithWakeup(vfio, event.fd);
    await vfio.getInfo();
    await event.expect(1);
  });
});

interface Asked extends Values<typeof FeatureDmaBuf> {
  readonly ranges?: readonly (readonly [offset: bigint, length: bigint])[];
}

const BAR_BYTES = 0x4000n;
const CLOEXEC = 0o2000000;
const CHAINADDR = 0x90n;

/** The descriptor, as ioctl gives it. */
async function exported(vfio: VfioDevice, { ranges = [[0n, BAR_BYTES]], ...values }: Asked = {}): Promise<number> {
  const asked = Object.assign(new FeatureDmaBuf(), { nrRanges: ranges.length, openFlags: CLOEXEC }, values);
  const lists = ranges.map(([offset, length]) => Object.assign(new RegionDmaRange(), { offset, length }).bytes);
  const tail = new Uint8Array(Buffer.concat([asked.bytes, ...lists]));
  return (await vfio.feature({ flags: GET + DMA_BUF }, { tail })).result;
}

const dmabufOf = async (t: Setting, vfio: VfioDevice, asked: Asked = {}): Promise<OpenedFile> =>
  t.descriptor(await exported(vfio, asked));

const BUFFER_IOVA = 0x9000_0000n;

const mapBuffer = (t: Setting, ioasId: number, { fd }: OpenedFile, values: object = {}) =>
  t.iommufd.ioasMapFile({ ioasId, fd, flags: ALL, iova: BUFFER_IOVA, length: BAR_BYTES, ...values });

casesOf('VFIO_DEVICE_FEATURE DMA_BUF', SMMU, ({ refuses, does }) => {
  const refused = (errno: 'EINVAL' | 'ENODEV' | 'ENOMEM' | 'EOVERFLOW' | 'EFAULT', what: string, asked: Asked) =>
    refuses(errno, what, async (t) => {
      const vfio = await device(t);
      return () => dmabufOf(t, vfio, asked);
    });
  refused('EINVAL', 'no ranges', { ranges: [] });
  refused('EINVAL', 'flags', { flags: 1 });
  refused('ENODEV', 'the expansion ROM', { regionIndex: 6 });
  refused('ENODEV', 'the configuration space', { regionIndex: 7 });
  refused('EINVAL', 'a BAR that is not there', { regionIndex: 1 });
  refused('EINVAL', 'an empty range', { ranges: [[0n, 0n]] });
  refused('EINVAL', 'an offset that is not of a page', { ranges: [[0x800n, PAGE]] });
  refused('EINVAL', 'a length that is not of pages', { ranges: [[0n, 0x800n]] });
  refused('EINVAL', 'a range that ends beyond the BAR', { ranges: [[PAGE, BAR_BYTES]] });
  refused('EOVERFLOW', 'a range that ends beyond the last address', { ranges: [[-PAGE & (2n ** 64n - 1n), PAGE]] });
  refused('EINVAL', 'a second range that is wrong', {
    ranges: [
      [0n, PAGE],
      [BAR_BYTES, PAGE],
    ],
  });
  refused('EINVAL', 'lengths that are 2^63 together', {
    ranges: [
      [0n, 2n ** 62n],
      [0n, 2n ** 62n],
    ],
  });
  refused('ENOMEM', 'more ranges than there is memory for', { nrRanges: 0xffff_ffff });
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const vfio = await device(t);
    const { address, bytes } = t.program.edge(8);
    bytes.set(u32s(40, GET + DMA_BUF));
    return () => vfio.feature({}, { address });
  });
  refuses('EFAULT', 'ranges where there is no memory', async (t) => {
    const vfio = await device(t);
    const { address, bytes } = t.program.edge(24);
    bytes.set(u32s(24, GET + DMA_BUF, 0, CLOEXEC, 0, 1));
    return () => vfio.feature({}, { address });
  });
  refuses('EMFILE', 'a program without a descriptor left', async (t) => {
    const vfio = await device(t);
    return () => t.program.withoutDescriptors(() => exported(vfio));
  });
  does('gives several ranges, in any order and twice', async (t) => {
    const ranges = [2n, 0n, 0n].map((page) => [page * PAGE, PAGE] as const);
    await dmabufOf(t, await device(t), { ranges });
  });
  does('gives a descriptor with which nothing can be done but pass it on', async (t) => {
    const buffer = await dmabufOf(t, await device(t));
    assert.equal(await errnoOf(() => buffer.callNumber(0x3b81)), 'ENOTTY');
    assert.equal(await errnoOf(() => buffer.read(8)), 'EINVAL');
    assert.equal(await errnoOf(() => buffer.write(new Uint8Array(8))), 'EINVAL');
  });
});

/** The other device reads a register of the first one, whose BAR is mapped for it. */
async function peers(t: Setting): Promise<{ owner: VfioDevice; reader: AttachedDevice; seen: () => Promise<number> }> {
  const owner = await device(t);
  const reader = await attached(t, 1);
  await mapBuffer(t, reader.ioasId, await dmabufOf(t, owner));
  await owner.write(u32s(0x1122_3340), CHAINADDR);
  const into = IOVA + PAGE;
  const seen = async (): Promise<number> => {
    t.memory.bytes.fill(0, 4096, 4100);
    const done = await reader.engine.copy(BUFFER_IOVA + CHAINADDR, into, 4);
    return done ? u32At(t.memory.bytes, 4096) : -1;
  };
  return { owner, reader, seen };
}

casesOf('IOMMU_IOAS_MAP_FILE of a BAR', SMMU, ({ refuses, does }) => {
  const refused = (errno: 'EOPNOTSUPP' | 'EINVAL', what: string, asked: Asked, values: object = {}) =>
    refuses(errno, what, async (t) => {
      const vfio = await device(t);
      const [buffer, ioasId] = [await dmabufOf(t, vfio, asked), await t.ioas()];
      return () => mapBuffer(t, ioasId, buffer, values);
    });
  refused(
    'EOPNOTSUPP',
    'several ranges of it',
    {
      ranges: [
        [0n, PAGE],
        [PAGE, PAGE],
      ],
    },
    { length: PAGE },
  );
  refused('EINVAL', 'more than was exported', { ranges: [[0n, PAGE]] });
  refused('EINVAL', 'what is behind that which was exported', {}, { start: BAR_BYTES, length: PAGE });
  refuses('ENODEV', 'a device that decodes no memory', async (t) => {
    const vfio = await device(t);
    const [buffer, ioasId] = [await dmabufOf(t, vfio), await t.ioas()];
    await vfio.write(Uint8Array.of(0, 0), COMMAND);
    return () => mapBuffer(t, ioasId, buffer);
  });
  refuses('ENODEV', 'a device in low power', async (t) => {
    const vfio = await device(t);
    const [buffer, ioasId] = [await dmabufOf(t, vfio), await t.ioas()];
    await vfio.feature({ flags: SET + LOW_POWER_ENTRY });
    return () => mapBuffer(t, ioasId, buffer);
  });
  refuses('ENODEV', 'a device that is closed', async (t) => {
    const vfio = await device(t);
    const [buffer, ioasId] = [await dmabufOf(t, vfio), await t.ioas()];
    t.end(vfio);
    return () => mapBuffer(t, ioasId, buffer);
  });
  does('has DMA of another device reach the registers', async (t) => {
    const { seen } = await peers(t);
    assert.equal(await seen(), 0x1122_3340);
  });
  for (const [what, takeBack] of [
    ['switches memory decode off', (vfio: VfioDevice) => vfio.write(Uint8Array.of(0, 0), COMMAND)],
    ['is reset', (vfio) => vfio.reset()],
    ['is hot reset', (vfio) => vfio.pciHotReset()],
    ['goes into low power', (vfio) => vfio.feature({ flags: SET + LOW_POWER_ENTRY })],
    ['is put into D3hot', (vfio) => vfio.write(Uint8Array.of(3, 0), (7n << 40n) + 0xe4n)],
  ] as readonly [string, (vfio: VfioDevice) => Promise<unknown>][]) {
    does(`is over for good when the device ${what}`, async (t) => {
      const { owner, seen } = await peers(t);
      await takeBack(owner);
      await owner.write(Uint8Array.of(0, 0), (7n << 40n) + 0xe4n);
      await owner.write(Uint8Array.of(6, 0), COMMAND);
      await owner.feature({ flags: SET + LOW_POWER_EXIT });
      assert.equal(await seen(), -1);
    });
  }
  does('is over when the device is closed', async (t) => {
    const { owner, seen } = await peers(t);
    t.end(owner);
    assert.equal(await seen(), -1);
  });
  does('works again for those who ask when the device is back', async (t) => {
    const { owner, reader } = await peers(t);
    await owner.feature({ flags: SET + LOW_POWER_ENTRY });
    await owner.feature({ flags: SET + LOW_POWER_EXIT });
    await mapBuffer(t, reader.ioasId, await dmabufOf(t, owner), { iova: 2n * BUFFER_IOVA });
    assert.equal(await reader.engine.copy(2n * BUFFER_IOVA + CHAINADDR, IOVA, 4), true);
  });
});

casesOf('IOMMU_HWPT_SET_DIRTY_TRACKING of a BAR', GROUPS, ({ refuses, does }) => {
  const tracking = async (t: Setting) => {
    const owner = await device(t);
    const { devId } = await bound(t, 1);
    const ptId = await t.ioas();
    await mapBuffer(t, ptId, await dmabufOf(t, owner));
    return { owner, hwptId: await t.hwpt(devId, ptId, DIRTY_TRACKING) };
  };
  does('switches on', async (t) => {
    await t.iommufd.hwptSetDirtyTracking({ hwptId: (await tracking(t)).hwptId, flags: 1 });
  });
  refuses('EINVAL', 'to switch on when the device has taken it back, so that it is mapped no more', async (t) => {
    const { owner, hwptId } = await tracking(t);
    await owner.feature({ flags: SET + LOW_POWER_ENTRY });
    return () => t.iommufd.hwptSetDirtyTracking({ hwptId, flags: 1 });
  });
});
