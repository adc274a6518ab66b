/** The commands of a VFIO device that are not about iommufd, as vfio_main.c and vfio_pci_core.c of Linux 7.1 take them. */
import assert from 'node:assert/strict';
import { DeviceInfo } from '../../../src/abi/vfio.ts';
import type { VfioDevice } from '../../../src/client/index.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf } from '../suite.ts';
import { SMMU } from '../vfio.ts';

const [REGIONS, IRQS] = [9, 5];

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
