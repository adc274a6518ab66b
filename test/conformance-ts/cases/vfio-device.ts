/** The commands of a VFIO device that are not about iommufd, as vfio_main.c and vfio_pci_core.c of Linux 7.1 take them. */
import assert from 'node:assert/strict';
import { type DeviceFeature, DeviceInfo, IrqInfo, type IrqSet, RegionInfo } from '../../../src/abi/vfio.ts';
import type { Values, VfioDevice } from '../../../src/client/index.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf } from '../suite.ts';

const SMMU: ['smmuv3'] = ['smmuv3'];
const [BAR0, CONFIG, VGA, REGIONS] = [0, 7, 8, 9];
const [INTX, MSIX, ERR, IRQS] = [0, 2, 3, 5];

const device = async (t: Setting): Promise<VfioDevice> => (await bound(t)).vfio;

for (const [name, call, oldest] of [
  [
    'VFIO_DEVICE_GET_INFO',
    (vfio: VfioDevice, values: { argsz: number }, raw?: object) => vfio.getInfo(values, raw),
    16,
  ],
  ['VFIO_DEVICE_GET_REGION_INFO', (vfio: VfioDevice, values, raw) => vfio.getRegionInfo(values, raw), 32],
  ['VFIO_DEVICE_GET_IRQ_INFO', (vfio: VfioDevice, values, raw) => vfio.getIrqInfo(values, raw), 16],
  ['VFIO_DEVICE_SET_IRQS', (vfio: VfioDevice, values, raw) => vfio.setIrqs(values, raw), 20],
  ['VFIO_DEVICE_FEATURE', (vfio: VfioDevice, values, raw) => vfio.feature(values, raw), 8],
] as readonly [string, (vfio: VfioDevice, values: { argsz: number }, raw?: object) => Promise<unknown>, number][]) {
  casesOf(name, SMMU, ({ refuses }) => {
    refuses('EINVAL', 'a device that is not bound', (t) => () => call(t.vfio(), { argsz: oldest }));
    refuses('EINVAL', 'an argsz below that of its first release', async (t) => {
      const vfio = await device(t);
      return () => call(vfio, { argsz: oldest - 1 });
    });
    refuses('EFAULT', 'a null pointer', async (t) => {
      const vfio = await device(t);
      return () => call(vfio, { argsz: oldest }, { address: 0n });
    });
  });
}

casesOf('VFIO_DEVICE_GET_INFO', SMMU, ({ refuses, does }) => {
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const vfio = await device(t);
    return () => vfio.getInfo({}, t.unanswerable(DeviceInfo, {}));
  });
  does('tells a PCI device that can be reset, with its regions and interrupts', async (t) => {
    const { flags, numRegions, numIrqs } = await (await device(t)).getInfo();
    assert.deepEqual([flags & 3, numRegions, numIrqs], [3, REGIONS, IRQS]);
  });
  does('takes the struct of its first release, and writes no more', async (t) => {
    const tail = new Uint8Array(8).fill(0xaa);
    await (await device(t)).getInfo({ argsz: 16 }, { tail });
    assert.deepEqual(tail, new Uint8Array(8).fill(0xaa));
  });
});

casesOf('VFIO_DEVICE_GET_REGION_INFO', SMMU, ({ refuses, does }) => {
  for (const index of [VGA, REGIONS]) {
    refuses('EINVAL', `region ${index}`, async (t) => {
      const vfio = await device(t);
      return () => vfio.getRegionInfo({ index });
    });
  }
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const vfio = await device(t);
    return () => vfio.getRegionInfo({}, t.unanswerable(RegionInfo, {}));
  });
  does('tells a BAR and the configuration space, each at its own offset', async (t) => {
    const vfio = await device(t);
    const [bar, config] = [await vfio.getRegionInfo({ index: BAR0 }), await vfio.getRegionInfo({ index: CONFIG })];
    assert.ok(bar.size >= 4096n && (config.size === 256n || config.size === 4096n));
    assert.deepEqual([bar.offset, config.offset], [0n, 7n << 40n]);
    assert.deepEqual([bar.flags & 3, config.flags & 3], [3, 3]);
  });
});

casesOf('VFIO_DEVICE_GET_IRQ_INFO', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'an index beyond the last one', async (t) => {
    const vfio = await device(t);
    return () => vfio.getIrqInfo({ index: IRQS });
  });
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const vfio = await device(t);
    return () => vfio.getIrqInfo({}, t.unanswerable(IrqInfo, {}));
  });
  does('tells that all interrupts go to eventfds, and that INTx can be masked', async (t) => {
    const vfio = await device(t);
    assert.equal((await vfio.getIrqInfo({ index: INTX })).flags & 7, 7);
    assert.equal((await vfio.getIrqInfo({ index: MSIX })).flags & 1, 1);
    assert.equal((await vfio.getIrqInfo({ index: ERR })).count, 1);
  });
});

const [NONE, BOOL, EVENTFD, TRIGGER] = [1, 2, 4, 1 << 5];

casesOf('VFIO_DEVICE_SET_IRQS', SMMU, ({ refuses }) => {
  const refused = (what: string, values: Values<typeof IrqSet>) =>
    refuses('EINVAL', what, async (t) => {
      const vfio = await device(t);
      return () => vfio.setIrqs({ index: MSIX, count: 1, flags: EVENTFD | TRIGGER, ...values });
    });
  refused('an index beyond the last one', { index: IRQS });
  refused('a flag that is not known', { flags: EVENTFD | TRIGGER | (1 << 6) });
  refused('a start beyond the last interrupt', { start: 0x1000 });
  refused('more interrupts than there are', { count: 0x1000 });
  refused('a number of interrupts that overflows', { start: 1, count: 0xffff_ffff });
  refused('no type of data', { flags: TRIGGER });
  refused('two types of data', { flags: EVENTFD | BOOL | TRIGGER });
  refused('fewer data than interrupts', {});
  refuses('EFAULT', 'data where there is no memory', async (t) => {
    const vfio = await device(t);
    const { address, bytes } = t.program.edge(20);
    bytes.set(new Uint8Array(Uint32Array.of(24, EVENTFD | TRIGGER, MSIX, 0, 1).buffer));
    return () => vfio.setIrqs({}, { address });
  });
  refuses('ENOSPC', 'MSI-X of a device that is not attached: nothing maps the page of its messages', async (t) => {
    const vfio = await device(t);
    const tail = new Uint8Array(Int32Array.of(-1).buffer);
    return () => vfio.setIrqs({ index: MSIX, count: 1, flags: EVENTFD | TRIGGER }, { tail });
  });
  refuses('EBADF', 'a descriptor that is not open', async (t) => {
    const vfio = await device(t);
    await vfio.attachIommufdPt({ ptId: await t.ioas() });
    const tail = new Uint8Array(Int32Array.of(123_456).buffer);
    return () => vfio.setIrqs({ index: MSIX, count: 1, flags: EVENTFD | TRIGGER }, { tail });
  });
  for (const index of [INTX, MSIX]) {
    refuses('EINVAL', `to switch off interrupts ${index} that are not on`, async (t) => {
      const vfio = await device(t);
      return () => vfio.setIrqs({ index, count: 0, flags: NONE | TRIGGER });
    });
  }
});

const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18].map((flag) => flag >>> 0) as [number, number, number];
const [LOW_POWER_ENTRY, LOW_POWER_EXIT, NO_FEATURE] = [3, 5, 0xffff];

casesOf('VFIO_DEVICE_FEATURE', SMMU, ({ refuses, does }) => {
  const feature = (t: Setting, values: Values<typeof DeviceFeature>) =>
    device(t).then((vfio) => () => vfio.feature(values));
  refuses('EINVAL', 'a flag that is not known', (t) => feature(t, { flags: 2 ** 19 }));
  refuses('EINVAL', 'to get and set at once', (t) => feature(t, { flags: GET + SET + LOW_POWER_ENTRY }));
  refuses('EINVAL', 'to get what can only be set', (t) => feature(t, { flags: GET + LOW_POWER_ENTRY }));
  refuses('ENOTTY', 'a feature that is not known', (t) => feature(t, { flags: PROBE + GET + NO_FEATURE }));
  does('says that low power can be set, and sets it', async (t) => {
    const vfio = await device(t);
    await vfio.feature({ flags: PROBE + SET + LOW_POWER_ENTRY });
    await vfio.feature({ flags: SET + LOW_POWER_ENTRY });
    await vfio.feature({ flags: SET + LOW_POWER_EXIT });
  });
});

casesOf('VFIO_DEVICE_RESET', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a device that is not bound', (t) => () => t.vfio().reset());
  does('leaves the configuration space as it was', async (t) => {
    const vfio = await device(t);
    const command = (7n << 40n) + 4n;
    await vfio.write(Uint8Array.of(0x06, 0x04), command);
    await vfio.reset();
    assert.equal((await vfio.read(2, command))[0]! & 6, 6);
  });
});

casesOf('VFIO device', SMMU, ({ refuses }) => {
  refuses('ENOTTY', 'a command that is not known', async (t) => {
    const vfio = await device(t);
    return () => vfio.callNumber(0x3b64 + 99);
  });
  refuses('EINVAL', 'to be read before it is bound', (t) => () => t.vfio().read(4, 7n << 40n));
  refuses('EINVAL', 'to be read beyond its regions', async (t) => {
    const vfio = await device(t);
    return () => vfio.read(4, 20n << 40n);
  });
});
