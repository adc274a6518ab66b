/** FAULT_QUEUE_ALLOC, its descriptor, and TRIGGER_IOPF. */
import assert from 'node:assert/strict';
import { FaultAlloc } from '../../../src/abi/iommufd.ts';
import { MOCK_FLAGS_DEVICE_PASID } from '../../../src/abi/iommufd-test.ts';
import type { FaultQueueFile } from '../../../src/client/index.ts';
import { ALLOC_PASID, FAULT_ID_VALID, type Setting } from '../setting.ts';
import { casesOf, errnoOf } from '../suite.ts';

const POLLIN = 1;
const POLLOUT = 4;
const RECORD = 40;
const [SUCCESS, INVALID] = [0, 1];

/** A mock device whose page requests go to a queue. */
async function faulting(
  t: Setting,
): Promise<{ file: FaultQueueFile; idevId: number; stdevId: number; ioasId: number }> {
  const { ioasId, idevId, stdevId } = await t.ioasWithDevice(MOCK_FLAGS_DEVICE_PASID);
  const { id: faultId, file } = await t.faultQueue();
  const flags = FAULT_ID_VALID | ALLOC_PASID;
  const { outHwptId } = await t.iommufd.hwptAlloc({ devId: idevId, ptId: ioasId, flags, faultId });
  await t.iommufd.test.mockDomainReplace(stdevId, { ptId: outHwptId });
  return { file, idevId, stdevId, ioasId };
}

const request = (t: Setting, devId: number, grpid = 1) =>
  t.iommufd.test.triggerIopf(0, { devId, pasid: 0, grpid, perm: 1, addr: 0x1234_5000n });

casesOf('IOMMU_FAULT_QUEUE_ALLOC', [], ({ refuses, does }) => {
  refuses('EOPNOTSUPP', 'flags', (t) => () => t.iommufd.faultQueueAlloc({ flags: 1 }));
  refuses('EFAULT', 'memory where it cannot write the descriptor, and opens none', async (t) => {
    await t.ioas();
    return async () => {
      const bad = t.unanswerable(FaultAlloc, {});
      assert.equal(await errnoOf(() => t.iommufd.faultQueueAlloc({}, bad)), 'EFAULT');
      assert.equal(await t.ioas(), 2);
      await t.iommufd.faultQueueAlloc({}, bad);
    };
  });
  refuses('EMFILE', 'a program without a descriptor left', (t) => () => {
    const { iommufd } = t;
    return t.program.withoutDescriptors(() => iommufd.faultQueueAlloc());
  });
  does('opens a descriptor that can be written, and has nothing to read', async (t) => {
    const { file } = await t.faultQueue();
    assert.equal(t.program.poll(file.fd), POLLOUT);
    assert.equal((await file.read(RECORD)).length, 0);
  });
  does('gives a descriptor that keeps the iommufd when that is closed', async (t) => {
    const { file } = await t.faultQueue();
    t.end(t.iommufd);
    assert.equal((await file.read(RECORD)).length, 0);
  });
});

casesOf('fault queue', [], ({ refuses }) => {
  refuses('ESPIPE', 'to be read in parts of a record', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.read(RECORD + 1);
  });
  refuses('ESPIPE', 'to be written in parts of a record', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.write(new Uint8Array(4));
  });
  refuses('ESPIPE', 'to be read at an offset', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.read(RECORD, 0n);
  });
  refuses('ESPIPE', 'to be written at an offset', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.write(new Uint8Array(8), 0n);
  });
  refuses('EINVAL', 'an answer that nobody waits for', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.respond(1, SUCCESS);
  });
  refuses('EINVAL', 'a code that is not known', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.respond(1, 2);
  });
  refuses('ENOTTY', 'ioctls', async (t) => {
    const { file } = await t.faultQueue();
    return () => file.callNumber(0x3b80);
  });
});

casesOf('fault queue', ['mock'], ({ does }) => {
  does('gives a request to whoever reads, with a cookie to answer it', async (t) => {
    const { file, idevId } = await faulting(t);
    await request(t, idevId, 5);
    assert.equal(t.program.poll(file.fd), POLLIN | POLLOUT);
    const [first, ...more] = await file.requests();
    assert.equal(more.length, 0);
    const { devId, grpid, perm, addr, cookie } = first!;
    assert.deepEqual([devId, grpid, perm, addr, cookie], [idevId, 5, 1, 0x1234_5000n, 1]);
    await file.respond(cookie, SUCCESS);
    assert.equal(await errnoOf(() => file.respond(cookie, SUCCESS)), 'EINVAL');
  });
  does('gives as many requests as there is room for, in order', async (t) => {
    const { file, idevId } = await faulting(t);
    for (const group of [1, 2, 3]) await request(t, idevId, group);
    assert.equal((await file.read(2 * RECORD)).length, 2 * RECORD);
    const [third] = await file.requests();
    assert.deepEqual([third!.grpid, third!.cookie], [3, 3]);
    for (const cookie of [1, 2, 3]) await file.respond(cookie, INVALID);
  });
  does('keeps a request when it cannot be written to memory', async (t) => {
    const { file, idevId } = await faulting(t);
    await request(t, idevId);
    assert.equal(t.program.read(file.fd, t.nowhere, RECORD), -14);
    const [kept] = await file.requests();
    await file.respond(kept!.cookie, SUCCESS);
  });
  does('says EFAULT when an answer is where there is no memory', async (t) => {
    const { file } = await faulting(t);
    assert.equal(t.program.write(file.fd, t.nowhere, 8), -14);
  });
  does('answers requests itself when the device is attached to something else', async (t) => {
    const { file, idevId, stdevId, ioasId } = await faulting(t);
    for (const group of [1, 2]) await request(t, idevId, group);
    assert.equal((await file.read(RECORD)).length, RECORD);
    await t.iommufd.test.mockDomainReplace(stdevId, { ptId: ioasId });
    assert.equal(t.program.poll(file.fd), POLLOUT);
    assert.equal((await file.read(RECORD)).length, 0);
    assert.equal(await errnoOf(() => file.respond(1, SUCCESS)), 'EINVAL');
  });
});

casesOf('IOMMU_TEST_OP_TRIGGER_IOPF', ['mock'], ({ refuses, does }) => {
  refuses('ENOENT', 'a device that does not exist', (t) => () => request(t, 7));
  does('succeeds when nobody takes the request', async (t) => {
    const { idevId } = await t.ioasWithDevice();
    await request(t, idevId);
  });
});
