/** IOEVENTFD: writes to a BAR that the signal of an eventfd makes. */
import assert from 'node:assert/strict';
import { DeviceIoeventfd } from '../../../src/abi/vfio.ts';
import type { Values, VfioDevice } from '../../../src/client/index.ts';
import { until } from '../event-fd.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf } from '../suite.ts';
import { CLOSED, regionAt, SMMU, u32At } from '../vfio.ts';

/** CHAINADDR of the copy engine, which holds what is written. */
const REGISTER = 0x90n;
const MSIX_TABLE = 0x2000n;
const BAR_BYTES = 0x4000n;
const MOST = 1000;

const device = async (t: Setting): Promise<VfioDevice> => (await bound(t)).vfio;

const set = (vfio: VfioDevice, values: Values<typeof DeviceIoeventfd>) =>
  vfio.ioeventfd({ flags: 4, offset: REGISTER, data: 0x40n, ...values });

casesOf('VFIO_DEVICE_IOEVENTFD', SMMU, ({ refuses, does }) => {
  const refused = (what: string, values: Values<typeof DeviceIoeventfd>) =>
    refuses('EINVAL', what, async (t) => {
      const [vfio, { fd }] = [await device(t), t.eventfd()];
      return () => set(vfio, { fd, ...values });
    });
  refuses('EINVAL', 'a device that is not bound', (t) => () => set(t.vfio(), { fd: -1 }));
  refuses('EFAULT', 'a null pointer', async (t) => {
    const vfio = await device(t);
    return () => vfio.ioeventfd({}, { address: 0n });
  });
  refused('an argsz that is too small', { argsz: DeviceIoeventfd.end('fd') - 1 });
  refused('a flag that is not known', { flags: 4 | 16 });
  refused('no size', { flags: 0 });
  refused('two sizes', { flags: 2 | 4 });
  refused('8 bytes', { flags: 8 });
  refused('a descriptor below -1', { fd: -2 });
  refused('the configuration space', { offset: regionAt(7) });
  refused('a BAR that is not there', { offset: regionAt(1) });
  refused('an end beyond that of the BAR', { offset: BAR_BYTES - 2n });
  refused('the MSI-X table', { offset: MSIX_TABLE });
  refused('a write that ends in the MSI-X table', { offset: MSIX_TABLE - 2n });
  refuses('EBADF', 'a descriptor that is not open', async (t) => {
    const vfio = await device(t);
    return () => set(vfio, { fd: CLOSED });
  });
  refuses('EINVAL', 'a descriptor that is no eventfd', async (t) => {
    const vfio = await device(t);
    return () => set(vfio, { fd: vfio.fd });
  });
  refuses('EEXIST', 'the same write by another eventfd', async (t) => {
    const vfio = await device(t);
    const [first, second] = [t.eventfd(), t.eventfd()];
    await set(vfio, { fd: first.fd });
    await set(vfio, { fd: second.fd, data: 0x80n });
    return () => set(vfio, { fd: second.fd });
  });
  refuses('ENODEV', 'to take off what is not there', async (t) => {
    const [vfio, { fd }] = [await device(t), t.eventfd()];
    await set(vfio, { fd });
    return () => set(vfio, { fd: -1, data: 0x80n });
  });
  refuses('ENOSPC', `more than ${MOST}`, async (t) => {
    const [vfio, { fd }] = [await device(t), t.eventfd()];
    for (let n = 0; n < MOST; n++) await set(vfio, { fd, data: BigInt(n) });
    return () => set(vfio, { fd, data: BigInt(MOST) });
  });
  for (const [flags, written] of [
    [1, 0x40],
    [2, 0x3340],
    [4, 0x1122_3340],
  ] as const) {
    does(`writes ${flags} bytes when the eventfd is signalled`, async (t) => {
      const [vfio, event] = [await device(t), t.eventfd()];
      await set(vfio, { fd: event.fd, flags, data: 0x1122_3340n });
      await event.signal();
      await until(async () => u32At(await vfio.read(4, REGISTER)) === written);
    });
  }
  does('leaves the eventfd to itself when it is taken off', async (t) => {
    const [vfio, event] = [await device(t), t.eventfd()];
    await set(vfio, { fd: event.fd });
    await set(vfio, { fd: -1 });
    await event.signal();
    await event.expect(1);
    assert.equal(u32At(await vfio.read(4, REGISTER)), 0);
  });
});
