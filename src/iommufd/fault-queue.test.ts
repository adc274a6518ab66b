import { describe, expect, it } from 'vitest';
import {
  Destroy,
  FaultAlloc,
  HwptAlloc,
  HwptPageResponse,
  HwptPgfault,
  IOMMU_DESTROY,
  IOMMU_FAULT_QUEUE_ALLOC,
  IOMMU_HWPT_ALLOC,
} from '../abi/iommufd.ts';
import { MOCK_FLAGS_DEVICE_PASID } from '../abi/iommufd-test.ts';
import type { PageRequest } from '../drivers/iommu-driver.ts';
import { IommufdDevice } from './device.ts';
import { MOST_GROUPS } from './fault-queue.ts';
import { POLLIN, POLLOUT } from './file.ts';
import { MOST_PARTIAL, type PageRequests } from './page-requests.ts';
import { MockProgram } from './test-command/testing.ts';

const FAULT_ID_VALID = 4;
const ALLOC_PASID = 8;
const LAST = 2;
const PASID_VALID = 1;

async function setup(hwptFlags = 0) {
  const program = new MockProgram();
  const { outFaultId: faultId, outFaultFd: fd } = await program.okAsync(IOMMU_FAULT_QUEUE_ALLOC, FaultAlloc, {});
  const ioasId = program.ioas();
  const maker = program.device(ioasId);
  const flags = FAULT_ID_VALID | hwptFlags;
  const alloc = { flags, devId: maker.idevId, ptId: ioasId, faultId };
  const { outHwptId: hwptId } = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, alloc);
  const { idevId, stdevId } = program.device(hwptId, MOCK_FLAGS_DEVICE_PASID);
  const device = program.context.objects.get(idevId, IommufdDevice, 'id');
  const requests = device.physical.pageRequests as PageRequests;
  const answers: [number, number][] = [];
  const request = (group: number, more: Partial<PageRequest> = {}) =>
    requests.report({ flags: LAST, pasid: 0, group, permissions: 3, address: 0x1234000n, ...more }, (code) =>
      answers.push([group, code]),
    );
  const file = program.process.fileOf(fd)!;
  /** [group, cookie] of each record that is read. */
  const read = (count = 400) => {
    const bytes = program.read(fd, count);
    if (typeof bytes === 'string') return bytes;
    const records = Array.from({ length: bytes.length / 40 }, (_, i) => new HwptPgfault(bytes.subarray(i * 40)));
    return records.map(({ grpid, cookie }) => [grpid, cookie]);
  };
  const answer = (...all: [number, number][]) => {
    const bytes = all.map(([cookie, code]) => Object.assign(new HwptPageResponse(), { cookie, code }).bytes);
    return program.write(fd, Uint8Array.from(bytes.flatMap((each) => [...each])));
  };
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, faultId, fd, file, hwptId, device, stdevId, requests, request, answers, read, answer, destroy };
}

describe('FAULT_QUEUE_ALLOC', () => {
  it('takes no flags, and gives a queue that is in use while its descriptor is open', async () => {
    const { program, faultId, fd, hwptId, stdevId, destroy } = await setup();
    expect(program.err(IOMMU_FAULT_QUEUE_ALLOC, FaultAlloc, { flags: 1 })).toBe('EOPNOTSUPP');
    for (const id of [stdevId, hwptId]) expect(destroy(id)).toBe('');
    expect(destroy(faultId)).toBe('EBUSY');
    program.process.closeFd(fd);
    expect(destroy(faultId)).toBe('');
  });

  it('is used by the HWPTs that name it, which must be there', async () => {
    const { program, faultId, fd, hwptId, destroy, device } = await setup();
    const bad = { flags: FAULT_ID_VALID, devId: device.id, ptId: 2, faultId: hwptId };
    expect(program.err(IOMMU_HWPT_ALLOC, HwptAlloc, bad)).toBe('ENOENT');
    expect(program.err(IOMMU_HWPT_ALLOC, HwptAlloc, { ...bad, flags: FAULT_ID_VALID | 1, faultId })).toBe('EOPNOTSUPP');
    program.process.closeFd(fd);
    expect(destroy(faultId)).toBe('EBUSY');
  });
});

describe('a page request', () => {
  it('is read with its cookie and answered by it', async () => {
    const { program, fd, device, request, answers, answer, read } = await setup();
    request(7, { permissions: 2 });
    const bytes = program.read(fd, 40) as Uint8Array;
    const record = new HwptPgfault(bytes);
    const { flags, devId, pasid, grpid, perm, addr, length, cookie } = record;
    expect([flags, devId, pasid, grpid, perm, addr, length, cookie]).toEqual([2, device.id, 0, 7, 2, 0x1234000n, 0, 1]);
    expect([read(), answers]).toEqual([[], []]);
    expect(answer([1, 0])).toBe(8);
    expect(answers).toEqual([[7, 0]]);
    expect(answer([1, 0])).toBe('EINVAL');
  });

  it('waits for the last one of its group, and groups are read whole', async () => {
    const { request, read } = await setup();
    request(1, { flags: 0 });
    request(2);
    request(1, { flags: 0 });
    expect(read()).toEqual([[2, 1]]);
    request(1);
    expect(read(80)).toEqual([]);
    expect(read(120)).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
  });

  it('stays, with its whole group, when not all of it can be written to the reader', async () => {
    const { program, file, request, read } = await setup();
    request(1);
    request(2, { flags: 0 });
    request(2, { flags: 0 });
    request(2);
    const end = BigInt(program.scratch + 4096);
    const readAt = (room: bigint) => file.read(program.process, end - room, 160, null);
    expect(readAt(120n)).toBe(40);
    expect(() => readAt(80n)).toThrow('EFAULT');
    expect(read()).toEqual([
      [2, 2],
      [2, 2],
      [2, 2],
    ]);
  });

  it('has the lowest cookie that nobody answers to', async () => {
    const { request, read, answer } = await setup();
    for (const group of [1, 2, 3]) request(group);
    read();
    answer([2, 0]);
    answer([1, 0]);
    for (const group of [4, 5, 6]) request(group);
    expect(read()).toEqual([
      [4, 1],
      [5, 2],
      [6, 4],
    ]);
  });

  it('is answered INVALID when too many groups wait already', async () => {
    const { request, answers, read } = await setup();
    for (let i = 0; i < MOST_GROUPS; i++) request(1);
    expect(answers).toEqual([]);
    request(2);
    expect(answers).toEqual([[2, 1]]);
    read(40);
    request(3);
    expect(answers.length).toBe(1);
  });

  it('is lost when too many wait for the last one of their group', async () => {
    const { requests, request } = await setup();
    for (let i = 0; i < MOST_PARTIAL + 3; i++) request(7, { flags: 0 });
    expect(requests.waiting).toBe(MOST_PARTIAL);
  });

  it('reads and writes whole records only: ESPIPE', async () => {
    const { program, fd, read } = await setup();
    expect(read(39)).toBe('ESPIPE');
    expect(program.write(fd, new Uint8Array(7))).toBe('ESPIPE');
  });

  it('makes the descriptor readable while it waits; it is always writable', async () => {
    const { file, request, read } = await setup();
    let changes = 0;
    file.onPollChange = () => changes++;
    expect(file.pollMask).toBe(POLLOUT);
    request(1);
    request(2);
    expect([file.pollMask, changes]).toEqual([POLLIN | POLLOUT, 1]);
    read();
    expect([file.pollMask, changes]).toEqual([POLLOUT, 2]);
  });

  it('is refused with an unknown code; what was answered before it counts', async () => {
    const { request, read, answer, answers } = await setup();
    request(1);
    request(2);
    read();
    expect(answer([2, 2])).toBe('EINVAL');
    expect(answer([2, 1], [1, 9])).toBe(8);
    expect(answers).toEqual([[2, 1]]);
    expect(answer([1, 0])).toBe(8);
  });

  it('has INVALID as its answer when nobody handles it', async () => {
    const { program, request, answers, stdevId } = await setup();
    request(1, { flags: LAST | PASID_VALID, pasid: 5 });
    expect(answers).toEqual([[1, 1]]);
    program.ok(IOMMU_DESTROY, Destroy, { id: stdevId });
  });

  it('of a PASID goes to what the PASID is attached to', async () => {
    const { device, hwptId, request, read } = await setup(ALLOC_PASID);
    device.attach(hwptId, 5);
    request(1, { flags: LAST | PASID_VALID, pasid: 5 });
    expect(read()).toEqual([[1, 1]]);
    device.detach(5);
  });

  it('has INVALID as its answer when the attachment ends, read or not', async () => {
    const { request, read, answers, destroy, stdevId, answer, file } = await setup();
    request(1);
    read();
    request(2);
    expect(destroy(stdevId)).toBe('');
    expect([...answers].sort()).toEqual([
      [1, 1],
      [2, 1],
    ]);
    expect([read(), file.pollMask, answer([1, 0])]).toEqual([[], POLLOUT, 'EINVAL']);
  });

  it('that waits for the last one of its group is forgotten when the attachment ends', async () => {
    const { device, hwptId, request, read } = await setup();
    request(1, { flags: 0 });
    device.detach();
    device.attach(hwptId);
    request(1);
    expect(read(80)).toEqual([[1, 1]]);
  });

  it('has INVALID as its answer when the device is attached to something else', async () => {
    const { program, request, answers, device } = await setup();
    request(1);
    device.replace(program.ioas());
    expect(answers).toEqual([[1, 1]]);
  });
});
