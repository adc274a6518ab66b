/** RESET, and the hot reset of a bus: what it hits, and who may ask for it. */
import assert from 'node:assert/strict';
import { PciHotReset, PciHotResetInfo } from '../../../src/abi/vfio.ts';
import type { Refusal, VfioDevice } from '../../../src/client/index.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';
import {
  attached,
  COMMAND,
  CONFIG,
  contained,
  GROUPS,
  inGroup,
  MEMORY_AND_MASTER,
  Probe,
  SMMU,
  u32At,
} from '../vfio.ts';

const [BY_DEVICE, ALL_OWNED] = [1, 2];
const HEADER = PciHotResetInfo.size;
const [OWNED, NOT_OWNED] = [0, -1];
/** vfio2 to vfio4 are functions 0 to 2 of 0000:03:00. */
const PROBES = [2, 3, 4];
const GROUP_OF = [0, 1, 2, 2, 3];

const device = async (t: Setting): Promise<VfioDevice> => (await bound(t)).vfio;
const fds = (...numbers: number[]): Uint8Array => new Uint8Array(Int32Array.from(numbers).buffer);

/** Opens vfioN of `indexes` through their groups, all in one container. */
async function opened(t: Setting, indexes: readonly number[]) {
  const container = t.container();
  const groups = new Map<number, number>();
  const probes: Probe[] = [];
  for (const index of indexes) {
    const number = GROUP_OF[index]!;
    const group = (await contained(t, number, container)).group;
    groups.set(number, group.fd);
    probes.push(new Probe(await inGroup(t, group, index), 0));
  }
  const [first] = probes as [Probe];
  const reset = (...numbers: number[]) => first.vfio.pciHotReset({ count: numbers.length }, { tail: fds(...numbers) });
  return { first, probes, vfio: first.vfio, groups: [...groups.values()], reset };
}

casesOf('VFIO_DEVICE_RESET', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a device that is not bound', (t) => () => t.vfio().reset());
  does('leaves the configuration space as it was', async (t) => {
    const vfio = await device(t);
    await vfio.write(Uint8Array.of(0x06, 0x04), COMMAND);
    await vfio.reset();
    assert.equal((await vfio.read(2, COMMAND))[0]! & 6, 6);
  });
  does('has the device forget its registers, and keeps what it is attached to', async (t) => {
    const { vfio, engine } = await attached(t);
    await vfio.write(Uint8Array.of(0x40, 1, 2, 3), 0x90n);
    await vfio.reset();
    assert.equal(u32At(await vfio.read(4, 0x90n)), 0);
    assert.equal(await engine.copy(0x100_0000n, 0x100_1000n), true);
  });
});

/** vfio_pci_dependent_device: ID of the group or device, segment, bus, device and function. */
async function hotResetInfo(vfio: VfioDevice, room: number) {
  const tail = new Uint8Array(8 * room);
  const { flags, count } = await vfio.getPciHotResetInfo({}, { tail });
  const view = new DataView(tail.buffer);
  const devices = Array.from({ length: count }, (_, i) => ({
    id: view.getInt32(8 * i, true),
    place: [view.getUint16(8 * i + 4, true), view.getUint8(8 * i + 6), view.getUint8(8 * i + 7)],
  }));
  return { flags, ids: devices.map(({ id }) => id), places: devices.map(({ place }) => place) };
}

casesOf('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a device that is not bound', (t) => () => t.vfio().getPciHotResetInfo());
  refuses('EINVAL', 'an argsz that is too small', async (t) => {
    const vfio = await device(t);
    return () => vfio.getPciHotResetInfo({ argsz: HEADER - 1 });
  });
  refuses('EFAULT', 'a null pointer', async (t) => {
    const vfio = await device(t);
    return () => vfio.getPciHotResetInfo({}, { address: 0n });
  });
  refuses('EFAULT', 'memory where it cannot write how many there are', async (t) => {
    const vfio = await device(t);
    return () => vfio.getPciHotResetInfo({}, t.unanswerable(PciHotResetInfo, {}));
  });
  does('tells a device alone on its bus, by its own ID', async (t) => {
    const { vfio, devId } = await bound(t);
    const { flags, ids } = await hotResetInfo(vfio, 1);
    assert.deepEqual([flags, ids], [BY_DEVICE | ALL_OWNED, [devId]]);
  });
});

casesOf('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', GROUPS, ({ refuses, does }) => {
  refuses('ENOSPC', 'a list that is too short, and tells how many there are', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    const ask = () => vfio.getPciHotResetInfo({ flags: 7, count: 2 }, { tail: new Uint8Array(23) });
    return () =>
      ask().catch((error: Refusal) => {
        const { flags, count } = error.answer as InstanceType<typeof PciHotResetInfo>;
        assert.deepEqual([flags, count], [0, 3]);
        throw error;
      });
  });
  refuses('EFAULT', 'a list where it cannot write', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    const { address, bytes } = t.program.edge(HEADER + 8);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, HEADER + 24, true);
    return () => vfio.getPciHotResetInfo({}, { address });
  });
  does('tells which devices of the bus the iommufd has, and which only by their group', async (t) => {
    const { vfio, devId } = await Probe.bound(t, 2);
    const { flags, ids, places } = await hotResetInfo(vfio, 3);
    assert.deepEqual([flags, ids], [BY_DEVICE, [devId, OWNED, NOT_OWNED]]);
    assert.deepEqual(places, [
      [0, 3, 0],
      [0, 3, 1],
      [0, 3, 2],
    ]);
  });
  does('tells when the iommufd has them all', async (t) => {
    const [probe, other] = [await Probe.bound(t, 2), await Probe.bound(t, 4)];
    const { flags, ids } = await hotResetInfo(probe.vfio, 3);
    assert.deepEqual([flags, ids], [BY_DEVICE | ALL_OWNED, [probe.devId, OWNED, other.devId]]);
  });
  does('tells the groups to a device of a group', async (t) => {
    const { vfio } = await opened(t, [2]);
    const { flags, ids } = await hotResetInfo(vfio, 3);
    assert.deepEqual([flags, ids], [0, [2, 2, 3]]);
  });
});

casesOf('VFIO_DEVICE_PCI_HOT_RESET', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a device that is not bound', (t) => () => t.vfio().pciHotReset());
  refuses('EINVAL', 'an argsz that is too small', async (t) => {
    const vfio = await device(t);
    return () => vfio.pciHotReset({ argsz: PciHotReset.size - 1 });
  });
  refuses('EFAULT', 'a null pointer', async (t) => {
    const vfio = await device(t);
    return () => vfio.pciHotReset({}, { address: 0n });
  });
  refuses('EINVAL', 'flags', async (t) => {
    const vfio = await device(t);
    return () => vfio.pciHotReset({ flags: 1 });
  });
  refuses('EINVAL', 'groups, of a device that is bound by its own node', async (t) => {
    const vfio = await device(t);
    return () => vfio.pciHotReset({ count: 1 }, { tail: fds(vfio.fd) });
  });
  does('has a device forget its registers', async (t) => {
    const vfio = await device(t);
    await vfio.write(Uint8Array.of(0x40, 1, 2, 3), 0x90n);
    await vfio.pciHotReset();
    assert.equal(u32At(await vfio.read(4, 0x90n)), 0);
  });
});

casesOf('VFIO_DEVICE_PCI_HOT_RESET', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'a bus with a device that the iommufd has not, and resets none', async (t) => {
    const probe = await Probe.bound(t, 2);
    await probe.mark();
    return async () => {
      assert.equal(await errnoOf(() => probe.vfio.pciHotReset()), 'EINVAL');
      assert.equal(await probe.isMarked(), true);
      await probe.vfio.pciHotReset();
    };
  });
  refuses('EINVAL', 'no groups, of a device that its group has opened', async (t) => {
    const { reset } = await opened(t, [2]);
    return () => reset();
  });
  refuses('EINVAL', 'more groups than devices', async (t) => {
    const { groups, reset } = await opened(t, [2, 4]);
    return () => reset(...groups, ...groups);
  });
  refuses('EFAULT', 'groups where there is no memory', async (t) => {
    const { vfio } = await opened(t, [2]);
    const { address, bytes } = t.program.edge(PciHotReset.size);
    bytes.set(new Uint8Array(Uint32Array.of(16, 0, 1).buffer));
    return () => vfio.pciHotReset({}, { address });
  });
  refuses('EBADF', 'a descriptor that is not open', async (t) => {
    const { groups, reset } = await opened(t, [2]);
    return () => reset(...groups, -1);
  });
  refuses('EINVAL', 'a descriptor that is a device', async (t) => {
    const { groups, reset, vfio } = await opened(t, [2]);
    return () => reset(...groups, vfio.fd);
  });
  refuses('EINVAL', 'a descriptor that is no file of VFIO', async (t) => {
    const { groups, reset } = await opened(t, [2]);
    const { fd } = t.memfd();
    return () => reset(...groups, fd);
  });
  refuses('EINVAL', 'a bus with a device of another group than those given', async (t) => {
    const { first, groups, reset } = await opened(t, [2]);
    await first.mark();
    return async () => {
      assert.equal(await errnoOf(() => reset(...groups)), 'EINVAL');
      assert.equal(await first.isMarked(), true);
      await reset(...groups);
    };
  });
  does('resets the bus for the iommufd that has a device of each group there', async (t) => {
    const probes = [await Probe.bound(t, 2), await Probe.bound(t, 4)];
    for (const probe of probes) await probe.mark();
    await probes[0]!.vfio.pciHotReset();
    for (const probe of probes) assert.equal(await probe.isMarked(), false);
  });
  does('resets the bus for whoever has all groups there, open devices or not', async (t) => {
    const { probes, groups, reset } = await opened(t, [2, 4]);
    for (const probe of probes) await probe.mark();
    await reset(...groups);
    for (const probe of probes) assert.equal(await probe.isMarked(), false);
  });
  does('leaves the configuration space as it was', async (t) => {
    const probes: Probe[] = [];
    for (const index of PROBES) probes.push(await Probe.bound(t, index));
    for (const { vfio } of probes) await vfio.write(MEMORY_AND_MASTER, COMMAND);
    await probes[0]!.vfio.pciHotReset();
    for (const { vfio } of probes) assert.equal((await vfio.read(2, CONFIG + 4n))[0]! & 6, 6);
  });
});
