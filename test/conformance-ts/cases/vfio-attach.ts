/** BIND, ATTACH and DETACH of PASIDs, and of devices that share a group. */
import assert from 'node:assert/strict';
import { DeviceAttachIommufdPt, DeviceBindIommufd } from '../../../src/abi/vfio.ts';
import type { VfioDevice } from '../../../src/client/index.ts';
import { ALLOC_PASID, IOVA, type Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf, errnoOf } from '../suite.ts';
import { GROUPS, MEMORY_BYTES, Probe, pasidHwpt, SMMU, u32s } from '../vfio.ts';

const BY_PASID = 1;
const TOKEN = 1;
const PASID = 3;
/** vfio2 to vfio4 send PASIDs of 4 bits. */
const PASID_LIMIT = 16;

const attach = (vfio: VfioDevice, ptId: number, pasid?: number) =>
  vfio.attachIommufdPt(pasid === undefined ? { ptId } : { ptId, flags: BY_PASID, pasid });
const detach = (vfio: VfioDevice, pasid?: number) =>
  vfio.detachIommufdPt(pasid === undefined ? {} : { flags: BY_PASID, pasid });

/** The two devices of group 2, bound. */
const pair = async (t: Setting): Promise<[Probe, Probe]> => [await Probe.bound(t, 2), await Probe.bound(t, 3)];

/** An IOAS with the setting's memory at IOVA. */
async function filledIoas(t: Setting): Promise<number> {
  const ioasId = await t.ioas();
  await t.map(ioasId, IOVA, MEMORY_BYTES);
  return ioasId;
}

casesOf('VFIO_DEVICE_BIND_IOMMUFD', SMMU, ({ refuses }) => {
  refuses('EINVAL', 'a token, for a device without virtual functions', async (t) => {
    const [vfio, tokenUuidPtr] = [t.vfio(), t.put(new Uint8Array(16))];
    return () => vfio.bindIommufd({ iommufd: t.iommufd.fd, flags: TOKEN, tokenUuidPtr });
  });
  refuses('EFAULT', 'a token where there is no memory', async (t) => {
    const vfio = t.vfio();
    return () => vfio.bindIommufd({ iommufd: t.iommufd.fd, flags: TOKEN, tokenUuidPtr: t.nowhere });
  });
  refuses('E2BIG', 'more than it knows that is not 0', async (t) => {
    const vfio = t.vfio();
    return () => vfio.bindIommufd({ iommufd: t.iommufd.fd }, { tail: Uint8Array.of(1) });
  });
  refuses('EFAULT', 'memory where it cannot write the ID, and binds nothing', async (t) => {
    const vfio = t.vfio();
    const bad = t.unanswerable(DeviceBindIommufd, { iommufd: t.iommufd.fd });
    return async () => {
      assert.equal(await errnoOf(() => vfio.bindIommufd({}, bad)), 'EFAULT');
      const { outDevid } = await vfio.bindIommufd({ iommufd: t.iommufd.fd });
      assert.ok(outDevid > 0);
      await t.vfio(1).bindIommufd({}, bad);
    };
  });
});

casesOf('VFIO_DEVICE_ATTACH_IOMMUFD_PT', SMMU, ({ refuses }) => {
  refuses('EFAULT', 'memory where it cannot write the ID, and attaches nothing', async (t) => {
    const { vfio } = await bound(t);
    const ptId = await t.ioas();
    const bad = t.unanswerable(DeviceAttachIommufdPt, { ptId });
    return async () => {
      assert.equal(await errnoOf(() => vfio.attachIommufdPt({}, bad)), 'EFAULT');
      await t.iommufd.destroy({ id: ptId });
      const other = await t.ioas();
      await vfio.attachIommufdPt({}, t.unanswerable(DeviceAttachIommufdPt, { ptId: other }));
    };
  });
});

casesOf('VFIO_DEVICE_ATTACH_IOMMUFD_PT', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'another IOAS than that of its group', async (t) => {
    const [probe, other] = await pair(t);
    await attach(probe.vfio, await t.ioas());
    const ptId = await t.ioas();
    return () => attach(other.vfio, ptId);
  });
  refuses('EINVAL', 'another HWPT than that of its group', async (t) => {
    const [probe, other] = await pair(t);
    const ioasId = await t.ioas();
    await attach(probe.vfio, ioasId);
    const ptId = await t.hwpt(other.devId, ioasId);
    return () => attach(other.vfio, ptId);
  });
  does('takes the IOAS of its group', async (t) => {
    const [probe, other] = await pair(t);
    const ioasId = await t.ioas();
    assert.equal((await attach(probe.vfio, ioasId)).ptId, (await attach(other.vfio, ioasId)).ptId);
  });
  does('has the whole group translated, and goes on until the last device is detached', async (t) => {
    const [probe, other] = await pair(t);
    const ioasId = await filledIoas(t);
    await attach(probe.vfio, ioasId);
    assert.equal(await other.reaches(IOVA), true);
    await attach(other.vfio, ioasId);
    await detach(probe.vfio);
    assert.deepEqual([await probe.reaches(IOVA), await other.reaches(IOVA)], [true, true]);
    await detach(other.vfio);
    assert.deepEqual([await probe.reaches(IOVA), await other.reaches(IOVA)], [false, false]);
  });
  does('replaces what the whole group is attached to', async (t) => {
    const [probe, other] = await pair(t);
    const empty = await t.ioas();
    for (const { vfio } of [probe, other]) await attach(vfio, empty);
    await attach(probe.vfio, await filledIoas(t));
    assert.deepEqual([await probe.reaches(IOVA), await other.reaches(IOVA)], [true, true]);
    await t.iommufd.destroy({ id: empty });
  });
});

casesOf('VFIO_DEVICE_ATTACH_IOMMUFD_PT of a PASID', GROUPS, ({ refuses, does }) => {
  const refused = (errno: 'EINVAL' | 'ENOENT' | 'ENOSPC', what: string, pasid: number, values: object = {}) =>
    refuses(errno, what, async (t) => {
      const { vfio, devId } = await Probe.bound(t, 2);
      const ptId = await pasidHwpt(t, devId);
      return () => vfio.attachIommufdPt({ flags: BY_PASID, pasid, ptId, ...values });
    });
  refused('EINVAL', 'an argsz without the PASID', PASID, { argsz: 15 });
  refused('EINVAL', 'a PASID that the device cannot send', PASID_LIMIT);
  refused('ENOSPC', 'a PASID of more than 31 bits', 2 ** 31);
  refused('ENOENT', 'a pt_id that does not exist', PASID, { ptId: 99 });
  refuses('EFAULT', 'a PASID where there is no memory', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    const { address, bytes } = t.program.edge(12);
    bytes.set(u32s(16, BY_PASID, 1));
    return () => vfio.attachIommufdPt({}, { address });
  });
  refuses('EINVAL', 'an IOAS, whose own HWPTs do not go with PASIDs', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    const ptId = await t.ioas();
    return () => attach(vfio, ptId, PASID);
  });
  refuses('EINVAL', 'a PASID of a device whose own HWPT does not go with PASIDs', async (t) => {
    const { vfio, devId } = await Probe.bound(t, 2);
    await attach(vfio, await t.ioas());
    const ptId = await pasidHwpt(t, devId);
    return () => attach(vfio, ptId, PASID);
  });
  refuses('EINVAL', 'another HWPT than the group has for the PASID', async (t) => {
    const [probe, other] = await pair(t);
    await attach(probe.vfio, await pasidHwpt(t, probe.devId), PASID);
    const ptId = await pasidHwpt(t, other.devId);
    return () => attach(other.vfio, ptId, PASID);
  });
  refuses('EBUSY', 'PASID 0 of a device that is attached itself', async (t) => {
    const { vfio, devId } = await Probe.bound(t, 2);
    const ptId = await pasidHwpt(t, devId);
    await attach(vfio, ptId);
    return () => attach(vfio, ptId, 0);
  });
  does('has DMA with the PASID translated, of the whole group', async (t) => {
    const [probe, other] = await pair(t);
    await attach(probe.vfio, await pasidHwpt(t, probe.devId), PASID);
    for (const each of [probe, other]) {
      assert.deepEqual([await each.reaches(IOVA, PASID), await each.reaches(IOVA, PASID + 1)], [true, false]);
    }
  });
  does('goes on until the last device of the group has detached the PASID', async (t) => {
    const [probe, other] = await pair(t);
    const ptId = await pasidHwpt(t, probe.devId);
    for (const { vfio } of [probe, other]) await attach(vfio, ptId, PASID);
    await detach(probe.vfio, PASID);
    assert.equal(await probe.reaches(IOVA, PASID), true);
    await detach(other.vfio, PASID);
    assert.equal(await probe.reaches(IOVA, PASID), false);
  });
  does('replaces what the PASID of the whole group is attached to', async (t) => {
    const [probe, other] = await pair(t);
    const empty = await t.hwpt(probe.devId, await t.ioas(), ALLOC_PASID);
    for (const { vfio } of [probe, other]) await attach(vfio, empty, PASID);
    const full = await pasidHwpt(t, probe.devId);
    assert.equal((await attach(probe.vfio, full, PASID)).ptId, full);
    assert.equal(await other.reaches(IOVA, PASID), true);
    await t.iommufd.destroy({ id: empty });
  });
  does('keeps PASIDs and the device itself apart', async (t) => {
    const probe = await Probe.bound(t, 2);
    const empty = await t.hwpt(probe.devId, await t.ioas(), ALLOC_PASID);
    await attach(probe.vfio, empty);
    await attach(probe.vfio, await pasidHwpt(t, probe.devId), PASID);
    assert.deepEqual([await probe.reaches(IOVA), await probe.reaches(IOVA, PASID)], [false, true]);
    await detach(probe.vfio);
    assert.equal(await probe.reaches(IOVA, PASID), true);
  });
  does('leaves the device itself attached when PASID 0 is detached, which is not', async (t) => {
    const probe = await Probe.bound(t, 2);
    await attach(probe.vfio, await filledIoas(t));
    await detach(probe.vfio, 0);
    assert.equal(await probe.reaches(IOVA), true);
  });
  does('knows nothing of PASID 0 when the device itself is detached', async (t) => {
    const probe = await Probe.bound(t, 2);
    await attach(probe.vfio, await pasidHwpt(t, probe.devId), 0);
    await detach(probe.vfio);
    assert.equal(await probe.reaches(IOVA), true);
    await detach(probe.vfio, 0);
    assert.equal(await probe.reaches(IOVA), false);
  });
  does('takes any PASID of a device that sends none', async (t) => {
    const { vfio, devId } = await bound(t);
    assert.ok((await attach(vfio, await pasidHwpt(t, devId), 2 ** 21)).ptId);
    await detach(vfio, 2 ** 21);
  });
  does('ends with the device', async (t) => {
    const probe = await Probe.bound(t, 2);
    const id = await pasidHwpt(t, probe.devId);
    await attach(probe.vfio, id, PASID);
    assert.equal(await errnoOf(() => t.iommufd.destroy({ id })), 'EBUSY');
    t.end(probe.vfio);
    await t.iommufd.destroy({ id });
  });
});

casesOf('VFIO_DEVICE_DETACH_IOMMUFD_PT', GROUPS, ({ refuses, does }) => {
  refuses('EINVAL', 'an argsz without the flags', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    return () => vfio.detachIommufdPt({ argsz: 7 });
  });
  refuses('EINVAL', 'an argsz without the PASID', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    return () => vfio.detachIommufdPt({ argsz: 11, flags: BY_PASID });
  });
  refuses('EFAULT', 'a PASID where there is no memory', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    const { address, bytes } = t.program.edge(8);
    bytes.set(u32s(12, BY_PASID));
    return () => vfio.detachIommufdPt({}, { address });
  });
  does('has nothing to do for a PASID that is not attached, whatever it is', async (t) => {
    const { vfio } = await Probe.bound(t, 2);
    for (const pasid of [0, PASID, PASID_LIMIT, 2 ** 32 - 1]) await detach(vfio, pasid);
  });
});
